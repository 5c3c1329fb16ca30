package tracker

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// Limits bound how often a Schedule announces. The zero value is what the
// public internet expects.
type Limits struct {
	// MinInterval is the least time between two regular announces to one
	// tracker that answers, whatever it allows. Less annoys trackers, which
	// may ban us. Default 60 s.
	MinInterval time.Duration
	// MaxInterval is the most that a tracker can make us wait. Default 24 h.
	MaxInterval time.Duration
	// Patience is how long an announce may take before the next tracker is
	// asked beside it, while no tracker of the torrent works; then two more,
	// four more, and so on. Less finds peers sooner among dead
	// trackers and asks more than one among slow ones. Default 500 ms.
	Patience time.Duration
	// Retry is how long a tracker is left alone after its first failure;
	// twice as long after each further one, up to an hour, ±20 %.
	// Default 15 s.
	Retry time.Duration
	// All announces to every tracker of every tier, not only to the first
	// that works. Private trackers may not like it. Default off.
	All bool
}

const (
	// defaultInterval holds if a tracker does not say.
	defaultInterval = 30 * time.Minute
	maxRetry        = time.Hour
	// giveUp is after how many failures in a row a tracker is no longer told
	// that we have become complete.
	giveUp = 5
	// maxTrackers is how many trackers of a torrent are used.
	maxTrackers = 200
)

// Schedule decides which tracker of a torrent to announce to, when, and with
// which event. It is pure, and belongs to one goroutine: time comes in, and
// must not go backwards.
//
// By default it does as BEP 12 says: trackers are tried in order, tier by tier,
// until one answers; each further announce starts again at the first tier. A
// tier is shuffled once, and whoever answers moves to its front. A tier is used
// only while all of those before it fail or are too slow (Limits.Patience).
// With Limits.All each tracker is a list of its own.
//
//	for {
//		url, event, at, ok := s.Next(now)
//		if !ok { wait until at, or for the next input; continue }
//		go: resp, err := client.Announce(…); then s.Done(now, url, resp, err)
//	}
type Schedule struct {
	limits    Limits
	rng       *rand.Rand
	groups    []*group
	byURL     map[string]*tracker
	completed bool // Completed was called
	stopped   bool // Stopping was called
}

// group is a list of trackers of which one that works is enough.
type group struct {
	trackers []*tracker // in the order in which they are tried, tiers in a row
	due      time.Time  // when the next round starts
	round    bool       // under way: from due until a tracker answers, or none is left
	since    time.Time  // when the round started
}

// tracker is what is known of one of them.
type tracker struct {
	url  string
	tier int
	id   string // what it wants to hear again

	busy     bool
	event    Event     // while busy: the event of the announce
	failures int       // in a row
	retryAt  time.Time // after a failure: not before
	notUntil time.Time // after an answer: no regular announce before
	never    bool      // BEP 31
	said     string    // with the last failure, if no answer has come since

	seeders, leechers int // -1: not told

	started   bool // it knows that we are here
	completed bool // it knows, or need not know, that we have become complete
}

// NewSchedule returns the schedule for the trackers of a torrent, by tier. What
// Supported refuses is left out, as are second mentions and all beyond the
// first 200. The first announce is due at once.
func NewSchedule(tiers [][]string, rng *rand.Rand, limits Limits) *Schedule {
	setDefault := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	setDefault(&limits.MinInterval, time.Minute)
	setDefault(&limits.MaxInterval, 24*time.Hour)
	setDefault(&limits.Patience, 500*time.Millisecond)
	setDefault(&limits.Retry, 15*time.Second)
	s := &Schedule{limits: limits, rng: rng, byURL: make(map[string]*tracker)}
	var all []*tracker
	for tier, urls := range tiers {
		first := len(all)
		for _, u := range urls {
			if s.byURL[u] != nil || len(all) >= maxTrackers || !Supported(u) {
				continue
			}
			t := &tracker{url: u, tier: tier, seeders: -1, leechers: -1}
			s.byURL[u] = t
			all = append(all, t)
		}
		shuffled := all[first:]
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	}
	if !limits.All {
		s.groups = []*group{{trackers: all}}
		return s
	}
	for _, t := range all {
		s.groups = append(s.groups, &group{trackers: []*tracker{t}})
	}
	return s
}

// Next returns the announce to make now. If there is one, ok is true: it counts
// as under way until Done, and there may be more, so ask again. If not, ask
// again at the time at; if at is zero, only after Done, Completed or NeedPeers.
func (s *Schedule) Next(now time.Time) (url string, event Event, at time.Time, ok bool) {
	if s.stopped {
		return "", None, time.Time{}, false
	}
	for _, g := range s.groups {
		t, wake := s.next(g, now)
		if t != nil {
			t.busy, t.event = true, s.event(t)
			return t.url, t.event, now, true
		}
		at = earlier(at, wake)
	}
	return "", None, at, false
}

// next returns the tracker of g to announce to now, or when to ask again: zero
// for never, and otherwise later than now.
func (s *Schedule) next(g *group, now time.Time) (*tracker, time.Time) {
	// 1st: whoever must hear that we are complete, whosever turn it is.
	t, owed := s.owed(g, now)
	if t != nil {
		return t, time.Time{}
	}
	// 2nd: the round.
	if !g.round {
		if now.Before(g.due) {
			return nil, earlier(owed, g.due)
		}
		g.round, g.since = true, now
	}
	// 3rd: whose turn it is in it.
	t, busy, wake := s.walk(g, now)
	switch {
	case t == nil && busy == 0:
		if !wake.IsZero() { // else all have said never
			g.round, g.due = false, wake
		}
	case t != nil && busy == 0:
		return t, time.Time{}
	case t != nil && !g.works():
		waves := int(min(now.Sub(g.since)/s.limits.Patience, 30))
		if busy < 1<<waves {
			return t, time.Time{}
		}
		wake = earlier(wake, g.since.Add(time.Duration(waves+1)*s.limits.Patience))
	}
	return nil, earlier(owed, wake)
}

// owed returns a tracker that is to be told now that we have become complete,
// or when one can be.
func (s *Schedule) owed(g *group, now time.Time) (t *tracker, wake time.Time) {
	for _, t := range g.trackers {
		switch {
		case t.never || t.busy || s.event(t) != Completed:
		case now.Before(t.retryAt):
			wake = earlier(wake, t.retryAt)
		default:
			return t, time.Time{}
		}
	}
	return nil, wake
}

// walk returns the first tracker of g that can be asked now, how many are being
// asked, and when another one can be.
func (s *Schedule) walk(g *group, now time.Time) (first *tracker, busy int, wake time.Time) {
	for _, t := range g.trackers {
		switch {
		case t.never:
		case t.busy:
			busy++
		case now.Before(t.retryAt):
			wake = earlier(wake, t.retryAt)
		case t.started && now.Before(t.notUntil):
			wake = earlier(wake, t.notUntil)
			if first == nil && busy == 0 && t.failures == 0 {
				// That one which works wants rest is no reason to go on to
				// the next.
				return nil, 0, wake
			}
		case first == nil:
			first = t
		}
	}
	return first, busy, wake
}

// event returns what an announce to t has to say.
func (s *Schedule) event(t *tracker) Event {
	switch {
	case !t.started:
		return Started
	case s.completed && !t.completed:
		return Completed
	}
	return None
}

// Done tells how the announce to url ended that Next asked for. The error may
// wrap a *FailureError.
func (s *Schedule) Done(now time.Time, url string, r Response, err error) {
	t := s.byURL[url]
	if t == nil || !t.busy {
		return
	}
	t.busy = false
	g := s.group(t)
	if err != nil {
		s.failed(t, now, err)
		return
	}
	s.answered(t, r)
	interval := r.Interval
	if interval <= 0 {
		interval = defaultInterval
	}
	rest := s.clamp(r.MinInterval)
	t.failures, t.retryAt, t.notUntil = 0, time.Time{}, now.Add(rest)
	if g.round { // else it is the answer of one that we did not wait for
		g.round = false
		g.due = now.Add(max(s.clamp(interval), rest))
		g.promote(t)
	}
}

// answered notes what t knows now.
func (s *Schedule) answered(t *tracker, r Response) {
	if r.TrackerID != "" {
		t.id = r.TrackerID
	}
	t.said = ""
	t.count(r.Seeders, r.Leechers)
	switch t.event {
	case Started:
		t.started = true
	case Completed:
		t.completed = true
	}
}

// failed decides when t is tried again.
func (s *Schedule) failed(t *tracker, now time.Time, err error) {
	wait := min(s.limits.Retry<<min(t.failures, 10), maxRetry)
	t.failures++
	t.said = failureText(err)
	wait += time.Duration((s.rng.Float64()*2 - 1) * 0.2 * float64(wait))
	if f := (*FailureError)(nil); errors.As(err, &f) {
		// It is there and said no: it must not hear from us more often than
		// when it says yes.
		wait = min(max(wait, f.RetryIn, s.limits.MinInterval), s.limits.MaxInterval)
		t.never = f.Never
	}
	t.retryAt = now.Add(wait)
	if s.completed && (!t.started || t.failures >= giveUp) {
		t.completed = true
	}
}

// Completed says that the last piece has come; ask Next at once. Not to be called for a
// torrent that was complete when the Schedule was made: trackers count
// downloads by it (BEP 3). A tracker that has not yet heard that we started
// learns from that announce that nothing is left, and is not told again.
func (s *Schedule) Completed() {
	if s.completed {
		return
	}
	s.completed = true
	for _, t := range s.byURL {
		t.completed = !t.started && !t.busy
	}
}

// NeedPeers asks for an announce as soon as the trackers allow it: not before
// the min interval of the one whose turn it is, and no sooner after failures.
func (s *Schedule) NeedPeers(now time.Time) {
	for _, g := range s.groups {
		if !g.round && now.Before(g.due) {
			g.due = now
		}
	}
}

// TrackerID returns what the tracker at url wants to hear (Request.TrackerID),
// or "".
func (s *Schedule) TrackerID(url string) string {
	if t := s.byURL[url]; t != nil {
		return t.id
	}
	return ""
}

// Stopping ends the schedule: Next returns nothing any more. It returns the
// trackers that know that we are here and need to be told that we go.
func (s *Schedule) Stopping() []string {
	s.stopped = true
	var urls []string
	for _, g := range s.groups {
		for _, t := range g.trackers {
			if t.started && !t.never {
				urls = append(urls, t.url)
			}
		}
	}
	return urls
}

func (s *Schedule) clamp(d time.Duration) time.Duration {
	return min(max(d, s.limits.MinInterval), s.limits.MaxInterval)
}

func (s *Schedule) group(t *tracker) *group {
	for _, g := range s.groups {
		if slices.Contains(g.trackers, t) {
			return g
		}
	}
	panic("tracker: tracker without a group")
}

// works reports whether any tracker of g answered when last asked: then there
// is no hurry.
func (g *group) works() bool {
	return slices.ContainsFunc(g.trackers, func(t *tracker) bool { return t.started && t.failures == 0 })
}

// promote moves t to the front of its tier (BEP 12).
func (g *group) promote(t *tracker) {
	front := slices.IndexFunc(g.trackers, func(o *tracker) bool { return o.tier == t.tier })
	at := slices.Index(g.trackers, t)
	copy(g.trackers[front+1:at+1], g.trackers[front:at])
	g.trackers[front] = t
}

// earlier returns the earlier of two times, of which a zero one means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
