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

// How long a forecast holds.
const forecastFor = 5 * time.Millisecond

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
	var piece, all crew
	for _, q := range e.peers {
		if q.choked || q.snubbed || q.dropped || e.nextFree(q, first, r.win.Goal) < 0 {
			continue
		}
		all.add(e, q)
		if q.rate.perSec > 0 && q.has(first) {
			piece.add(e, q)
		}
	}
	left := int64(0)
	for i := first; i >= 0; i = nextBoth(e.free, e.free, i+1, r.win.Goal) {
		left += e.freeBytes(i)
	}
	if piece.perSec > 0 {
		f.piece = at + piece.done(e.freeBytes(first))
		f.all = at + all.done(left)
	}
	return f
}

// tooLate reports whether a reader has all it needs sooner without p.
func (e *Engine) tooLate(at time.Duration, p *peer, r *reader) bool {
	f := e.forecast(at, r)
	if f.piece == 0 || p.rate.perSec == 0 {
		return false
	}
	return at+e.finish(p, 1)-min(helpMargin, blockTime(p.rate.perSec)) > max(f.piece, f.all)
}

// canSpare reports whether p can leave a piece to those who could not do what p
// would do instead, the next that it has: they are done with it before the peers
// can be done with all that the reader needs. For that the first piece may come
// later, but the last comes sooner. Its cost is a look at every peer.
func (e *Engine) canSpare(at time.Duration, p *peer, r *reader, piece, next int) bool {
	if e.seeds == len(e.peers) {
		return false
	}
	var rigid crew
	for _, q := range e.peers {
		if q != p && !q.choked && !q.snubbed && !q.dropped && q.has(piece) && !q.has(next) {
			rigid.add(e, q)
		}
	}
	return rigid.perSec > 0 && at+rigid.done(e.freeBytes(piece)) <= e.forecast(at, r).all
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
	perSec float64
	owed   float64       // bytes that they could have delivered before another: outstanding, and their round trips
	first  time.Duration // when one of them delivers another block
}

func (c *crew) add(e *Engine, p *peer) {
	perSec, trip := e.speed(p)
	f := e.finish(p, 1)
	if c.perSec == 0 || f < c.first {
		c.first = f
	}
	c.perSec += perSec
	c.owed += float64(p.owes()*blockSize) + perSec*trip.Seconds()
}

// done estimates when they have delivered what they owe and so many bytes more,
// shared so that all end together.
func (c *crew) done(bytes int64) time.Duration {
	d := time.Duration((c.owed + float64(bytes)) / c.perSec * float64(time.Second))
	return max(d, c.first)
}

// freeBytes is how much of a piece nobody was asked for, in whole blocks.
func (e *Engine) freeBytes(piece int) int64 {
	if t := e.open[piece]; t != nil {
		return int64(t.free) * blockSize
	}
	return int64(e.layout.NumBlocks(piece)) * blockSize
}
