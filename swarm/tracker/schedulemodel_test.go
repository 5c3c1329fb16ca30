package tracker

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// modelTracker is what an observer knows of one tracker.
type modelTracker struct {
	tier      int
	busyUntil time.Time // zero: no announce is under way
	event     Event
	outcome   Response
	err       error

	started, completed, never bool
	failing                   bool      // the last announce failed
	notBefore                 time.Time // a regular one, by what it said
	failedAt                  time.Time
	refused                   bool
}

// model drives a Schedule with trackers that answer at random, and checks what
// must hold whatever happens.
type model struct {
	*rapid.T
	s         *Schedule
	limits    Limits
	trackers  map[string]*modelTracker
	urls      []string
	now       time.Time
	completed bool
}

func TestWhateverTrackersDoTheScheduleKeepsItsRules(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{T: rt, trackers: map[string]*modelTracker{}, now: start}
		m.limits.All = rapid.Bool().Draw(rt, "all")
		var tiers [][]string
		for i, n := range rapid.SliceOfN(rapid.IntRange(1, 4), 1, 3).Draw(rt, "tiers") {
			tiers = append(tiers, tier(string(rune('a'+i)), n))
			for _, u := range tiers[i] {
				m.trackers[u] = &modelTracker{tier: i}
				m.urls = append(m.urls, u)
			}
		}
		m.s = newSchedule(rapid.Uint64().Draw(rt, "seed"), m.limits, tiers...)
		for range rapid.IntRange(1, 80).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "input") {
			case 0:
				m.s.Completed()
				m.completed = true
			case 1, 2:
				m.s.NeedPeers(m.now)
			}
			wake := m.drain()
			if !m.advance(wake) {
				return
			}
		}
		m.checkStopping()
	})
}

// drain starts all announces that are due and returns when to ask again.
func (m *model) drain() time.Time {
	for range len(m.urls) + 1 {
		u, event, at, ok := m.s.Next(m.now)
		if !ok {
			if !at.IsZero() && !at.After(m.now) {
				m.Fatalf("asks to be woken %v ago", m.now.Sub(at))
			}
			return at
		}
		m.checkAnnounce(u, event)
		m.begin(m.trackers[u], event)
	}
	m.Fatal("more announces than trackers at one time")
	return time.Time{}
}

func (m *model) checkAnnounce(u string, event Event) {
	tr := m.trackers[u]
	what := fmt.Sprintf("%q to %s", event, u)
	if !tr.busyUntil.IsZero() || tr.never {
		m.Fatalf("%s: under way: %v, never: %v", what, tr.busyUntil, tr.never)
	}
	if (event == Started) == tr.started || event == Stopped {
		m.Fatalf("%s: started is %v", what, tr.started)
	}
	if event == Completed && (!m.completed || tr.completed) {
		m.Fatalf("%s: complete: %v, told: %v", what, m.completed, tr.completed)
	}
	if event == None && m.now.Before(tr.notBefore) {
		m.Fatalf("%s: %v too early", what, tr.notBefore.Sub(m.now))
	}
	if tr.failing {
		rest := 12 * time.Second
		if tr.refused {
			rest = time.Minute
		}
		if m.now.Sub(tr.failedAt) < rest {
			m.Fatalf("%s: %v after a failure", what, m.now.Sub(tr.failedAt))
		}
	}
	if m.limits.All || event == Completed {
		return
	}
	for o, other := range m.trackers {
		if other.tier < tr.tier && other.busyUntil.IsZero() && !other.never && !other.failing {
			m.Fatalf("%s: before %s of an earlier tier", what, o)
		}
	}
}

// begin draws how the announce ends, and when.
func (m *model) begin(tr *modelTracker, event Event) {
	minutes := rapid.SampledFrom([]time.Duration{-1, 0, 1, 5, 30, 1 << 20})
	latency := rapid.SampledFrom([]time.Duration{0, 100, 700, 5000, 60000}).Draw(m.T, "latency ms")
	tr.busyUntil, tr.event = m.now.Add(latency*time.Millisecond), event
	tr.outcome, tr.err = Response{}, nil
	switch rapid.IntRange(0, 5).Draw(m.T, "outcome") {
	case 0:
		tr.err = &FailureError{RetryIn: minutes.Draw(m.T, "retry in") * time.Minute, Never: rapid.IntRange(0, 3).Draw(m.T, "never") == 0}
	case 1, 2:
		tr.err = errDown
	default:
		tr.outcome.Interval = minutes.Draw(m.T, "interval") * time.Minute
		tr.outcome.MinInterval = minutes.Draw(m.T, "min interval") * time.Minute
	}
}

// advance goes to the next thing that happens, and reports whether there is one.
func (m *model) advance(wake time.Time) bool {
	next := wake
	for _, u := range m.urls {
		next = earlier(next, m.trackers[u].busyUntil)
	}
	if next.IsZero() {
		for u, tr := range m.trackers {
			if !tr.never {
				m.Fatalf("gives up on %s", u)
			}
		}
		return false
	}
	m.now = next
	for _, u := range m.urls {
		if tr := m.trackers[u]; !tr.busyUntil.IsZero() && !tr.busyUntil.After(m.now) {
			m.end(u, tr)
		}
	}
	return true
}

func (m *model) end(u string, tr *modelTracker) {
	tr.busyUntil = time.Time{}
	m.s.Done(m.now, u, tr.outcome, tr.err)
	if tr.failing = tr.err != nil; tr.failing {
		f, refused := tr.err.(*FailureError)
		tr.failedAt, tr.refused = m.now, refused
		tr.never = refused && f.Never
		return
	}
	switch tr.event {
	case Started:
		tr.started = true
	case Completed:
		tr.completed = true
	}
	tr.notBefore = m.now.Add(min(max(tr.outcome.MinInterval, time.Minute), 24*time.Hour))
}

func (m *model) checkStopping() {
	var want []string
	for u, tr := range m.trackers {
		if tr.started && !tr.never {
			want = append(want, u)
		}
	}
	got := m.s.Stopping()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		m.Fatalf("to be told that we go: got %q, want %q of %q", got, want, slices.Sorted(maps.Keys(m.trackers)))
	}
	if u, _, _, ok := m.s.Next(m.now.Add(1000 * time.Hour)); ok {
		m.Fatalf("announces to %s after the end", u)
	}
}
