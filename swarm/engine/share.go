package engine

import "time"

// A peer that would deliver later than the others together do without it, by
// more than one of its blocks or this, is of no help: estimates are no better.
const helpMargin = 20 * time.Millisecond

// inTime reports whether a reader gets a piece in time without p: when the others
// who have it are done with it sooner than p would deliver one block of it; or
// when those who could not do what p would do instead, the reader's next piece,
// are done with it before the peers can be done with all that the reader needs.
// For that the first piece may come later, but the last comes sooner.
func (e *Engine) inTime(p *peer, r *reader, piece, next int) bool {
	var all, rigid crew
	for _, q := range e.peers {
		if q == p || q.choked || q.snubbed || q.dropped || !q.has(piece) {
			continue
		}
		if q.rate.perSec > 0 {
			all.add(e, q)
		}
		if next >= 0 && !q.has(next) {
			rigid.add(e, q)
		}
	}
	left := e.freeBytes(piece)
	mine := e.finish(p, 1) - min(helpMargin, blockTime(p.rate.perSec))
	late := p.rate.perSec > 0 && all.perSec > 0 && mine > all.done(left)
	if !late && rigid.perSec == 0 {
		return false
	}
	var whole crew
	for _, q := range e.peers {
		if !q.choked && !q.snubbed && !q.dropped && e.nextFree(q, piece, r.win.Goal) >= 0 {
			whole.add(e, q)
		}
	}
	for i := nextBoth(e.free, e.free, piece+1, r.win.Goal); i >= 0; i = nextBoth(e.free, e.free, i+1, r.win.Goal) {
		left += e.freeBytes(i)
	}
	end := whole.done(left)
	return late && mine > end || rigid.perSec > 0 && rigid.done(e.freeBytes(piece)) <= end
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
