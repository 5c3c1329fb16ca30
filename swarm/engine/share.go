package engine

import "time"

// A peer that would deliver later than the others together do without it, by
// more than one of its blocks or this, is of no help: estimates are no better.
const helpMargin = 20 * time.Millisecond

// forecast is when what a reader needs is expected, by the rates of all who can
// send something of it. What one of them is asked for changes nothing: it is owed
// instead of left. So it holds for a while.
type forecast struct {
	made  bool
	at    time.Duration // when it was made
	need  int           // of which window
	goal  int
	piece time.Duration // the first piece is there; 0: nobody has shown a rate
	all   time.Duration // everything up to the goal is there
}

// How long a forecast holds, and that of a whole window, which is further away.
const (
	forecastFor      = 5 * time.Millisecond
	forecastAheadFor = 20 * time.Millisecond
)

func (e *Engine) forecast(at time.Duration, r *reader) *forecast {
	f := &r.forecast
	if f.made && at-f.at < forecastFor && f.need == r.win.Need && f.goal == r.win.Goal {
		return f
	}
	*f = forecast{made: true, at: at, need: r.win.Need, goal: r.win.Goal}
	first := nextBoth(e.free, e.free, r.win.Need, r.win.Goal)
	if first < 0 {
		return f
	}
	piece, all := &e.crews[0], &e.crews[1]
	piece.reset()
	all.reset()
	for _, q := range e.peers {
		if q.choked || q.snubbed || q.dropped || e.nextFree(q, first, r.win.Goal) < 0 {
			continue
		}
		all.add(e, q)
		if q.rate.known() && q.has(first) {
			piece.add(e, q)
		}
	}
	if len(piece.members) > 0 {
		f.piece = at + piece.done(e.freeBytes(first))
		f.all = at + all.done(e.freeIn(first, r.win.Goal))
	}
	return f
}

// tooLate reports whether a reader has all it needs sooner without p.
func (e *Engine) tooLate(at time.Duration, p *peer, r *reader) bool {
	f := e.forecast(at, r)
	return f.piece > 0 && at+e.finish(p, 1)-e.margin(p) > max(f.piece, f.all)
}

// tooLateAhead reports whether all that is free in a reader's window is there sooner
// without p.
func (e *Engine) tooLateAhead(at time.Duration, p *peer, r *reader) bool {
	all := e.forecastAhead(at, r)
	return all > 0 && at+e.finish(p, 1)-e.margin(p) > all
}

// forecastAhead is when all of a reader's window is expected; 0: nothing of it is
// to be had. That the window moves on meanwhile makes no difference.
func (e *Engine) forecastAhead(at time.Duration, r *reader) time.Duration {
	f := &r.ahead
	if f.made && at-f.at < forecastAheadFor && r.win.Pos < f.goal && f.need < r.win.End {
		return f.all
	}
	*f = forecast{made: true, at: at, need: r.win.Pos, goal: r.win.End}
	first := nextBoth(e.free, e.free, r.win.Pos, r.win.End)
	if first < 0 {
		return 0
	}
	all := &e.crews[0]
	all.reset()
	for _, q := range e.peers {
		if !q.choked && !q.snubbed && !q.dropped && e.nextFree(q, first, r.win.End) >= 0 {
			all.add(e, q)
		}
	}
	if len(all.members) > 0 {
		f.all = at + all.done(e.freeIn(first, r.win.End))
	}
	return f.all
}

// margin is how much later than the others a peer may be.
func (e *Engine) margin(p *peer) time.Duration {
	perSec, _ := e.speed(p)
	return min(helpMargin, blockTime(perSec))
}

// canSpare reports whether p can leave a piece to those who could not do what p
// would do instead, the next that it has: they are done with it before the peers
// can be done with all that the reader needs. For that the first piece may come
// later, but the last comes sooner. Its cost is a look at every peer.
func (e *Engine) canSpare(at time.Duration, p *peer, r *reader, piece, next int) bool {
	if e.seeds == len(e.peers) {
		return false
	}
	all := e.forecast(at, r).all
	rigid := &e.crews[0]
	rigid.reset()
	for _, q := range e.peers {
		if q != p && !q.choked && !q.snubbed && !q.dropped && q.has(piece) && !q.has(next) {
			rigid.add(e, q)
		}
	}
	return len(rigid.members) > 0 && at+rigid.done(e.freeBytes(piece)) <= all
}

// inGoal reports whether a blocked read's reader needs the piece: pickBlocked has
// seen to it.
func (e *Engine) inGoal(piece int) bool {
	for _, r := range e.readers[:e.blocked] {
		if r.win.Need <= piece && piece < r.win.Goal {
			return true
		}
	}
	return false
}

// crew is some peers together.
type crew struct {
	members []member
	first   time.Duration // when one of them delivers another block
}

type member struct {
	perSec float64
	owed   float64 // bytes that it could have delivered before another: outstanding, and its round trip
}

func (c *crew) reset() { c.members, c.first = c.members[:0], 0 }

func (c *crew) add(e *Engine, p *peer) {
	perSec, trip := e.speed(p)
	f := trip + time.Duration(p.owes()+1)*blockTime(perSec)
	if len(c.members) == 0 || f < c.first {
		c.first = f
	}
	c.members = append(c.members, member{perSec, float64(p.owes()*blockSize) + perSec*trip.Seconds()})
}

// done estimates when they have delivered so many bytes beyond what they owe,
// shared so that all end together. Who owes for longer than that has no share.
func (c *crew) done(bytes int64) time.Duration {
	left, perSec := float64(bytes), 0.0
	for _, m := range c.members {
		left += m.owed
		perSec += m.perSec
	}
	for busy := true; busy; {
		busy = false
		for i := 0; i < len(c.members); i++ {
			m := c.members[i]
			if len(c.members) == 1 || m.owed*perSec <= left*m.perSec {
				continue
			}
			left -= m.owed
			perSec -= m.perSec
			last := len(c.members) - 1
			c.members[i] = c.members[last]
			c.members = c.members[:last]
			i--
			busy = true
		}
	}
	return max(time.Duration(left/perSec*float64(time.Second)), c.first)
}

// freeBytes is how much of a piece nobody was asked for, in whole blocks.
func (e *Engine) freeBytes(piece int) int64 {
	if t := e.open[piece]; t != nil {
		return int64(t.free) * blockSize
	}
	return int64(e.layout.NumBlocks(piece)) * blockSize
}

// freeIn is the same of the pieces [from, end).
func (e *Engine) freeIn(from, end int) (bytes int64) {
	for i := nextBoth(e.free, e.free, from, end); i >= 0; i = nextBoth(e.free, e.free, i+1, end) {
		bytes += e.freeBytes(i)
	}
	return bytes
}
