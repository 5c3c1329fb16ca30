package swarm

import (
	"fmt"

	"swarmfs/metainfo"
	"swarmfs/swarm/tracker"
)

// TrackerStatus is how one tracker of a torrent does.
type TrackerStatus = tracker.Status

// show keeps how the trackers do for whoever asks.
func (f *search) show(all []TrackerStatus) { f.asked.Store(&all) }

// shown returns how the trackers do, in the order in which they are tried: none
// before the first is asked. The caller must not change it.
func (f *search) shown() []TrackerStatus {
	if all := f.asked.Load(); all != nil {
		return *all
	}
	return nil
}

// TrackersOf returns how the trackers of a link do that is being resolved.
func (s *Session) TrackersOf(h metainfo.Hash) []TrackerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.links[h]; u != nil {
		return u.search.shown()
	}
	return nil
}

// TrackersText says in a few words why trackers may have led to nobody.
func TrackersText(all []TrackerStatus) string {
	var asking, failing, working, seeders, leechers int
	var first *TrackerStatus // of those that fail
	for i := range all {
		st := &all[i]
		switch st.State {
		case tracker.Works:
			working++
			seeders, leechers = max(seeders, st.Seeders), max(leechers, st.Leechers)
		case tracker.Fails, tracker.Never:
			failing++
			if first == nil {
				first = st
			}
		case tracker.Asking:
			asking++
			if first == nil && st.Failures > 0 {
				first = st
			}
		}
	}
	n := len(all)
	switch {
	case n == 0:
		return "no trackers"
	case working > 0:
		return fmt.Sprintf("%d of %s %s: seeders %d, leechers %d", working, trackersText(n), verb(working, "works", "work"), seeders, leechers)
	case failing == 0 && first == nil:
		return fmt.Sprintf("%s %s not answered yet", trackersText(n), verb(n, "has", "have"))
	}
	failing = n - countState(all, tracker.Reserve)
	text := fmt.Sprintf("%s %s", trackersText(failing), verb(failing, "fails", "fail"))
	if failing < n {
		text = fmt.Sprintf("%d of %s %s", failing, trackersText(n), verb(failing, "fails", "fail"))
	}
	return fmt.Sprintf("%s: %s: %s", text, first.URL, first.Error)
}

func trackersText(n int) string {
	if n == 1 {
		return "1 tracker"
	}
	return fmt.Sprintf("%d trackers", n)
}

func verb(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func countState(all []TrackerStatus, state tracker.State) int {
	n := 0
	for i := range all {
		if all[i].State == state {
			n++
		}
	}
	return n
}
