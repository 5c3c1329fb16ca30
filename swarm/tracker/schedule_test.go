package tracker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	errDown = errors.New("connection refused")
	start   = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

func newSchedule(seed uint64, limits Limits, tiers ...[]string) *Schedule {
	return NewSchedule(tiers, rand.New(rand.NewPCG(seed, 0)), limits)
}

// tier makes n tracker URLs of one host's name.
func tier(name string, n int) []string {
	var urls []string
	for i := range n {
		urls = append(urls, fmt.Sprintf("http://%s%d/announce", name, i))
	}
	return urls
}

// wantNext fails unless the next announce is that one, now.
func wantNext(t *testing.T, s *Schedule, now time.Time, url string, event Event) {
	t.Helper()
	u, e, at, ok := s.Next(now)
	if !ok || u != url || e != event {
		t.Fatalf("got %q %q, %v, wake in %v; want %q %q", u, e, ok, at.Sub(now), url, event)
	}
}

// wantWait fails unless there is nothing to do for d; 0 means for ever.
func wantWait(t *testing.T, s *Schedule, now time.Time, d time.Duration) {
	t.Helper()
	u, e, at, ok := s.Next(now)
	switch {
	case ok:
		t.Fatalf("got %q %q, want to wait", u, e)
	case d == 0 && !at.IsZero():
		t.Fatalf("wakes in %v, want never", at.Sub(now))
	case d != 0 && !at.Equal(now.Add(d)):
		t.Fatalf("wakes in %v, want %v", at.Sub(now), d)
	}
}

func TestEventsAreSaidOnceAndInOrder(t *testing.T) {
	const a = "http://a/announce"
	s, now := newSchedule(1, Limits{}, []string{a}), start
	wantNext(t, s, now, a, Started)
	wantWait(t, s, now, 0) // until it answers
	s.Done(now, a, Response{Interval: 10 * time.Minute}, nil)
	wantWait(t, s, now, 10*time.Minute)
	now = now.Add(10 * time.Minute)
	wantNext(t, s, now, a, None)
	s.Completed() // while the announce is under way
	s.Done(now, a, Response{Interval: 10 * time.Minute}, nil)
	wantNext(t, s, now, a, Completed)
	s.Done(now, a, Response{}, errDown)
	_, _, at, ok := s.Next(now)
	if wait := at.Sub(now); ok || wait < 12*time.Second || wait > 18*time.Second {
		t.Fatalf("after a failure: %v, %v", ok, wait)
	}
	now = at
	wantNext(t, s, now, a, Completed)
	s.Done(now, a, Response{Interval: time.Hour}, nil)
	s.Completed()
	now = start.Add(20 * time.Minute)
	wantNext(t, s, now, a, None)
	s.Done(now, a, Response{}, nil)
	if got := s.Stopping(); !slices.Equal(got, []string{a}) {
		t.Errorf("to be told that we go: %q", got)
	}
	wantWait(t, s, now.Add(time.Hour), 0)
}

func TestCompletedIsNotSaidToWhoHeardItFromTheFirstAnnounce(t *testing.T) {
	const a = "http://a/announce"
	s, now := newSchedule(1, Limits{}, []string{a}), start
	wantNext(t, s, now, a, Started)
	s.Done(now, a, Response{}, errDown)
	s.Completed()
	now = now.Add(time.Minute)
	wantNext(t, s, now, a, Started)
	s.Done(now, a, Response{}, nil)
	wantWait(t, s, now, defaultInterval)
}

func TestCompletedIsNotSaidAfterAFirstAnnounceThatMayHaveSaidIt(t *testing.T) {
	const a = "http://a/announce"
	s, now := newSchedule(1, Limits{}, []string{a}), start
	wantNext(t, s, now, a, Started)
	s.Completed()
	s.Done(now, a, Response{}, errDown)
	now = now.Add(time.Minute)
	wantNext(t, s, now, a, Started) // with nothing left
	s.Done(now, a, Response{}, nil)
	wantWait(t, s, now, defaultInterval)
}

func TestADeadTrackerIsNotToldForEverThatWeAreComplete(t *testing.T) {
	const a, b = "http://a/announce", "http://b/announce"
	s, now := newSchedule(1, Limits{}, []string{a}, []string{b}), start
	wantNext(t, s, now, a, Started)
	now = now.Add(500 * time.Millisecond)
	wantNext(t, s, now, b, Started)
	s.Done(now, a, Response{Interval: 24 * time.Hour}, nil)
	s.Done(now, b, Response{}, nil)
	s.Completed()
	wantNext(t, s, now, a, Completed)
	wantNext(t, s, now, b, Completed)
	s.Done(now, a, Response{}, nil)
	for range giveUp - 1 {
		s.Done(now, b, Response{}, errDown)
		_, _, now, _ = s.Next(now)
		wantNext(t, s, now, b, Completed)
	}
	s.Done(now, b, Response{}, errDown)
	wantWait(t, s, now, start.Add(500*time.Millisecond+24*time.Hour).Sub(now))
}

func TestOnlyTrackersThatGotAStartedAreToldThatWeGo(t *testing.T) {
	s := newSchedule(1, Limits{All: true}, tier("a", 3), tier("b", 3))
	for i := range 6 {
		u, _, _, ok := s.Next(start)
		if !ok {
			t.Fatal("no announce")
		}
		switch i % 3 {
		case 0:
			s.Done(start, u, Response{}, nil)
		case 1:
			s.Done(start, u, Response{}, errDown)
		}
	}
	if got := s.Stopping(); len(got) != 2 {
		t.Errorf("to be told that we go: %q", got)
	}
}

func TestTheNextTierIsForWhenATierFails(t *testing.T) {
	const a, b, c = "http://a/announce", "http://b/announce", "http://c/announce"
	s, now := newSchedule(1, Limits{}, []string{a}, []string{b}, []string{c}), start
	wantNext(t, s, now, a, Started)
	s.Done(now, a, Response{}, errDown)
	wantNext(t, s, now, b, Started)
	s.Done(now, b, Response{Interval: time.Hour}, nil)
	wantWait(t, s, now, time.Hour)
	// The next announce starts again at the first tier.
	now = now.Add(time.Hour)
	wantNext(t, s, now, a, Started)
	s.Done(now, a, Response{}, errDown)
	wantNext(t, s, now, b, None)
	s.Done(now, b, Response{Interval: time.Hour}, nil)
	now = now.Add(time.Hour)
	wantNext(t, s, now, a, Started)
	s.Done(now, a, Response{Interval: time.Hour}, nil)
	wantWait(t, s, now, time.Hour)
	now = now.Add(time.Hour)
	wantNext(t, s, now, a, None)
}

func TestWhoAnswersMovesToTheFrontOfItsTier(t *testing.T) {
	s, now := newSchedule(1, Limits{}, tier("a", 4)), start
	var last string
	for range 3 { // the third one answers
		u, _, _, ok := s.Next(now)
		if !ok {
			t.Fatal("no announce")
		}
		if last != "" {
			s.Done(now, last, Response{}, errDown)
		}
		last = u
		now = now.Add(500 * time.Millisecond)
	}
	s.Done(now, last, Response{Interval: time.Hour}, nil)
	now = now.Add(time.Hour)
	wantNext(t, s, now, last, None)
}

func TestATierIsShuffledByTheSeed(t *testing.T) {
	first := map[string]bool{}
	for seed := range uint64(50) {
		s, again := newSchedule(seed, Limits{}, tier("a", 4), tier("b", 4)), newSchedule(seed, Limits{}, tier("a", 4), tier("b", 4))
		u, _, _, _ := s.Next(start)
		if v, _, _, _ := again.Next(start); v != u {
			t.Fatalf("seed %d: %s and %s", seed, u, v)
		}
		if !strings.HasPrefix(u, "http://a") {
			t.Fatalf("seed %d: starts with %s", seed, u)
		}
		first[u] = true
	}
	if len(first) != 4 {
		t.Errorf("only %v come first", first)
	}
}

func TestIntervalsAreClamped(t *testing.T) {
	for _, c := range []struct {
		interval, minInterval time.Duration
		want, wantNeed        time.Duration // until a regular announce, and if peers are needed
	}{
		{0, 0, 30 * time.Minute, time.Minute},
		{-1, -1, 30 * time.Minute, time.Minute},
		{time.Second, 0, time.Minute, time.Minute},
		{time.Hour, 10 * time.Minute, time.Hour, 10 * time.Minute},
		{time.Hour, 2 * time.Hour, 2 * time.Hour, 2 * time.Hour},
		{1 << 62, 1 << 62, 24 * time.Hour, 24 * time.Hour},
	} {
		for _, need := range []bool{false, true} {
			const a = "http://a/announce"
			s := newSchedule(1, Limits{}, []string{a})
			wantNext(t, s, start, a, Started)
			s.Done(start, a, Response{Interval: c.interval, MinInterval: c.minInterval}, nil)
			want := c.want
			if need {
				s.NeedPeers(start.Add(time.Second))
				want = c.wantNeed
			}
			now := start.Add(2 * time.Second)
			wantWait(t, s, now, want-2*time.Second)
			wantNext(t, s, start.Add(want), a, None)
		}
	}
}

func TestATrackerAtRestIsNoReasonToAskTheNext(t *testing.T) {
	const a, b = "http://a/announce", "http://b/announce"
	s := newSchedule(1, Limits{}, []string{a}, []string{b})
	wantNext(t, s, start, a, Started)
	s.Done(start, a, Response{Interval: time.Hour, MinInterval: 10 * time.Minute}, nil)
	for i := range 10 {
		now := start.Add(time.Duration(i) * time.Minute)
		s.NeedPeers(now)
		wantWait(t, s, now, time.Duration(10-i)*time.Minute)
	}
}

func TestRetriesSlowDownToOneAnHour(t *testing.T) {
	const a = "http://a/announce"
	s, now := newSchedule(1, Limits{}, []string{a}), start
	base := 15 * time.Second
	for i := range 20 {
		wantNext(t, s, now, a, Started)
		s.Done(now, a, Response{}, errDown)
		s.NeedPeers(now)
		_, _, at, ok := s.Next(now)
		if wait := at.Sub(now); ok || wait < base*8/10 || wait > base*12/10 {
			t.Fatalf("failure %d: %v, wakes in %v, want %v ± 20 %%", i+1, ok, wait, base)
		}
		now, base = at, min(2*base, time.Hour)
	}
}

func TestARefusalIsRespected(t *testing.T) {
	const a = "http://a/announce"
	for _, c := range []struct {
		refusal FailureError
		want    time.Duration
	}{
		{FailureError{}, time.Minute},
		{FailureError{RetryIn: 5 * time.Minute}, 5 * time.Minute},
		{FailureError{RetryIn: 1 << 62}, 24 * time.Hour},
		{FailureError{Never: true}, 0},
	} {
		s := newSchedule(1, Limits{}, []string{a})
		wantNext(t, s, start, a, Started)
		s.Done(start, a, Response{}, fmt.Errorf("announce: %w", &c.refusal))
		s.NeedPeers(start)
		wantWait(t, s, start, c.want)
	}
}

func TestOneOfFiftyThatIsAliveIsFoundWithinFiveSeconds(t *testing.T) {
	for seed := range uint64(50) {
		s, now := newSchedule(seed, Limits{}, tier("a", 50)), start
		const alive = "http://a7/announce" // all others never answer
		for asked := 0; ; {
			u, _, at, ok := s.Next(now)
			if u == alive {
				break
			}
			if ok {
				asked++
				continue
			}
			if now = at; at.IsZero() || now.Sub(start) > 5*time.Second {
				t.Fatalf("seed %d: not found after %v and %d trackers", seed, now.Sub(start), asked)
			}
		}
		s.Done(now, alive, Response{Interval: time.Hour}, nil)
		wantWait(t, s, now, time.Hour)
		for i := range 50 { // the dead ones end late, and in the way of nothing
			s.Done(now.Add(time.Minute), fmt.Sprintf("http://a%d/announce", i), Response{}, errDown)
		}
		wantWait(t, s, now.Add(time.Minute), time.Hour-time.Minute)
		wantNext(t, s, now.Add(time.Hour), alive, None)
	}
}

func TestWithAllEachTrackerHasItsOwnTime(t *testing.T) {
	s := newSchedule(1, Limits{All: true}, tier("a", 2), tier("b", 1))
	for i := range 3 {
		u, e, _, ok := s.Next(start)
		if !ok || e != Started {
			t.Fatalf("got %q, %v", e, ok)
		}
		s.Done(start, u, Response{Interval: time.Duration(i+1) * time.Hour}, nil)
	}
	for i := range 3 {
		now := start.Add(time.Duration(i+1) * time.Hour)
		u, _, _, ok := s.Next(now)
		if !ok {
			t.Fatalf("no announce after %d hours", i+1)
		}
		s.Done(now, u, Response{Interval: 10 * time.Hour}, nil)
		if u, _, _, ok := s.Next(now); ok {
			t.Fatalf("a second announce after %d hours, to %s", i+1, u)
		}
	}
}

func TestTrackersOfNoUseAreLeftOut(t *testing.T) {
	s := newSchedule(1, Limits{All: true}, []string{"wss://a/announce", "http://a/announce", "", "udp://a"}, []string{"http://a/announce"}, tier("b", 500))
	var got int
	for {
		_, _, _, ok := s.Next(start)
		if !ok {
			break
		}
		got++
	}
	if got != maxTrackers {
		t.Errorf("%d trackers, want %d", got, maxTrackers)
	}
	wantWait(t, newSchedule(1, Limits{}), start, 0)
	wantWait(t, newSchedule(1, Limits{}, nil, []string{"dht://"}), start, 0)
}

func TestTrackerIDsAreRemembered(t *testing.T) {
	const a = "http://a/announce"
	s := newSchedule(1, Limits{}, []string{a})
	for _, c := range []struct{ said, want string }{{"x", "x"}, {"", "x"}, {"y", "y"}} {
		start := start.Add(time.Duration(len(c.said)) * 1000 * time.Hour)
		s.Next(start)
		s.byURL[a].busy = true
		s.Done(start, a, Response{TrackerID: c.said}, nil)
		if got := s.TrackerID(a); got != c.want {
			t.Errorf("said %q: got %q, want %q", c.said, got, c.want)
		}
	}
	if got := s.TrackerID("http://b/announce"); got != "" {
		t.Errorf("a stranger's is %q", got)
	}
}
