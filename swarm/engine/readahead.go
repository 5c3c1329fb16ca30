package engine

import "time"

// Cursor follows one handle's reads and says how far ahead to fetch. Reading in
// sequence opens the window, a seek closes it, and it never holds much more than
// the reader uses up in a few seconds. It tolerates the kernel, which issues
// several read-ahead requests at a time and in any order. The zero value is a
// handle that has not been read. It is not safe for concurrent use.
type Cursor struct {
	end int64 // where the sequence has got to
	run int64 // bytes read in sequence

	// How fast the reader goes on, from samples of rateSpan.
	since  time.Duration
	from   int64   // of run, at since
	perSec float64 // 0: not known
	habit  int64   // longest sequence before a seek
	seeks  int
}

const (
	// A read this far off the end of the sequence still belongs to it: two or
	// three of the kernel's largest requests.
	cursorSlack = 4 << 20
	// A sequence shorter than this may be a probe: nothing is fetched ahead of
	// it, but for the piece behind the head of a file (cursorHead).
	cursorProbe = 512 << 10
	// The head of a file is followed by what comes next so often that one more
	// piece is fetched, if it is no larger than this.
	cursorHead = 1 << 20
	// Who has read so much in sequence, and seeks, goes on reading in sequence.
	cursorHabit = 2 << 20
	// What is kept ahead of a reader: so much time at its own pace, and so much
	// in any case. A player buffers by itself; this is for the swarm's hiccups.
	aheadTime = 8 * time.Second
	minAhead  = 1 << 20
	// After a seek: so much time, since the next seek may be near.
	seekTime = 2 * time.Second

	rateSpan = 500 * time.Millisecond
)

// Read says that n bytes at off are being read now, by a clock of the caller's,
// and returns how many bytes beyond off+n are to be fetched ahead, at most limit.
// Pieces are of the given length.
func (c *Cursor) Read(now time.Duration, off, n, piece, limit int64) (ahead int64) {
	end := off + n
	first := c.run == 0
	if !first && off <= c.end+cursorSlack && end >= c.end-cursorSlack {
		if end > c.end {
			c.run += end - c.end
			c.end = end
		}
	} else {
		c.habit = max(c.run, c.habit/2)
		c.seeks++
		c.end, c.run = end, n
		c.since, c.from = now, n
	}
	c.measure(now)
	switch {
	case c.run > cursorProbe:
		ahead = min(2*c.run, c.pace(aheadTime))
		if c.habit >= cursorHabit {
			ahead = max(ahead, min(c.habit, c.pace(seekTime)))
		}
	case c.habit >= cursorHabit:
		ahead = min(c.habit, c.pace(seekTime))
	case off == 0 && first && piece <= cursorHead:
		return min(piece, limit)
	}
	if ahead == 0 {
		return 0
	}
	return min(ahead, limit) + (c.end - end)
}

// measure follows the reader's own pace. It may be as slow as we let it be;
// then the window is as much as we can fill.
func (c *Cursor) measure(now time.Duration) {
	d := now - c.since
	if d < rateSpan {
		return
	}
	s := float64(c.run-c.from) / d.Seconds()
	switch {
	case c.perSec == 0:
		c.perSec = s
	case s > c.perSec:
		c.perSec += (s - c.perSec) / 2
	default:
		c.perSec += (s - c.perSec) / 8
	}
	c.since, c.from = now, c.run
}

// pace returns how many bytes the reader uses up in a time.
func (c *Cursor) pace(d time.Duration) int64 {
	if c.perSec == 0 {
		return 1 << 40
	}
	return max(minAhead, int64(c.perSec*d.Seconds()))
}

// Seeks returns how often a sequence was left for another place.
func (c *Cursor) Seeks() int { return c.seeks }

// Sequence returns how many bytes were read in sequence up to now.
func (c *Cursor) Sequence() int64 { return c.run }
