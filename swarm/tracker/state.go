package tracker

import (
	"errors"
	"time"
)

// State is how a tracker does.
type State uint8

// The states of a tracker.
const (
	Reserve State = iota // not asked yet: one before it works, or its turn has not come
	Asking               // for the first time, or again after failures
	Works                // it answered when last asked
	Fails                // it did not
	Never                // it will not ever accept this torrent (BEP 31)
)

// String returns the state in a word.
func (s State) String() string {
	return [...]string{Reserve: "in reserve", Asking: "asking", Works: "works", Fails: "fails", Never: "refuses"}[s]
}

// Status is how one tracker of a Schedule does.
type Status struct {
	// URL is Redacted.
	URL   string
	Tier  int // from 0
	State State
	// Failures are the last ones in a row, and Error what the last of them said,
	// without secrets; empty after an answer.
	Failures int
	Error    string
	// Seeders and Leechers are as the tracker last said; -1: it never did.
	Seeders, Leechers int
	// Next is when it is announced to again, if nothing happens before; zero: not
	// as long as others work.
	Next time.Time
}

// Status describes the trackers in the order in which they are tried.
func (s *Schedule) Status(now time.Time) []Status {
	var all []Status
	for _, g := range s.groups {
		reached := true // by the walk of the next round
		for _, t := range g.trackers {
			st := t.status()
			if reached {
				st.Next = g.next(t, now)
			}
			reached = reached && st.State != Works
			all = append(all, st)
		}
	}
	return all
}

func (t *tracker) status() Status {
	st := Status{
		URL: Redact(t.url), Tier: t.tier, Failures: t.failures, Error: t.said,
		Seeders: t.seeders, Leechers: t.leechers,
	}
	switch {
	case t.never:
		st.State = Never
	case t.failures > 0 && !t.busy:
		st.State = Fails
	case t.busy && (t.failures > 0 || !t.started):
		st.State = Asking
	case t.started:
		st.State = Works
	}
	return st
}

// next is when t is announced to if the walk of g comes to it; zero: never.
func (g *group) next(t *tracker, now time.Time) time.Time {
	at := now
	for _, no := range [...]time.Time{t.retryAt, t.notUntil} {
		if no.After(at) {
			at = no
		}
	}
	if !g.round && g.due.After(at) {
		at = g.due
	}
	if t.never {
		return time.Time{}
	}
	return at
}

// Scraped notes what a scrape of the tracker at url told.
func (s *Schedule) Scraped(url string, r Scrape) {
	if t := s.byURL[url]; t != nil {
		t.count(r.Seeders, r.Leechers)
	}
}

// count notes how many peers there are; -1 is no news.
func (t *tracker) count(seeders, leechers int) {
	if seeders >= 0 {
		t.seeders = seeders
	}
	if leechers >= 0 {
		t.leechers = leechers
	}
}

// failureText is what people read of a failure: they see the tracker beside it.
func failureText(err error) string {
	if refusal := (*FailureError)(nil); errors.As(err, &refusal) {
		return refusal.Error()
	}
	if ours := (*announceError)(nil); errors.As(err, &ours) {
		return ours.what
	}
	return printable(err.Error())
}
