package main

import (
	"fmt"
	"time"

	"swarmfs/cmd/swarmfs/internal/api"
	"swarmfs/swarm"
)

// trackersReport describes trackers, and what they have to do with it if there are
// no peers.
func trackersReport(now time.Time, all []swarm.TrackerStatus, peers int) (reports []api.Tracker, noPeers string) {
	if peers == 0 {
		noPeers = swarm.TrackersText(all)
	}
	reports = make([]api.Tracker, 0, len(all))
	for _, s := range all {
		r := api.Tracker{URL: s.URL, Tier: s.Tier, State: s.State.String(), Failures: s.Failures, Error: s.Error}
		if s.Seeders >= 0 {
			r.Seeders = new(s.Seeders)
		}
		if s.Leechers >= 0 {
			r.Leechers = new(s.Leechers)
		}
		if !s.Next.IsZero() {
			r.Next = new(seconds(max(0, s.Next.Sub(now))))
		}
		reports = append(reports, r)
	}
	return reports, noPeers
}

// trackerText is "https://t.example/announce works, seeders 3, leechers 1, next in 12m0s".
func trackerText(t *api.Tracker) string {
	s := printable(t.URL) + " " + t.State
	if t.Error != "" {
		s += fmt.Sprintf(" (%d in a row): %s", t.Failures, printable(t.Error))
	}
	if t.Seeders != nil {
		s += fmt.Sprintf(", seeders %d", *t.Seeders)
	}
	if t.Leechers != nil {
		s += fmt.Sprintf(", leechers %d", *t.Leechers)
	}
	if t.Next != nil && *t.Next > 0 {
		s += ", next in " + secondsText(*t.Next)
	}
	return s
}

// withNoPeers is text that says that there are no peers, and why.
func withNoPeers(text, why string) string {
	if why == "" {
		return text
	}
	return text + ": " + printable(why)
}
