package engine

import "time"

// Cursor follows one handle's reads and says how far ahead to fetch. Reading in
// sequence opens the window, a seek closes it, and it never holds much more than
// the reader uses up in a few seconds. It tolerates the kernel, which issues
// several read-ahead requests at a time and in any order. The zero value is a
// handle that has not been read. It is not safe for concurrent use.
type Cursor struct {
	end     int64         // where the sequence has got to
	run     int64         // bytes read in sequence
	skipped int64         // bytes before end that were not read; the kernel's requests overtake each other
	began   time.Duration // the sequence's first read
	proven  bool          // the sequence is too long for a probe

	// How fast the reader goes on, from samples of rateSpan.
	since  time.Duration
	from   int64   // of run, at since
	perSec float64 // 0: not known
	habit  int64   // longest sequence before a seek that was no probe
	seeks  int
}

const (
	// A read this far off the end of the sequence still belongs to it: two or
	// three of the kernel's largest requests.
	cursorSlack = 4 << 20
	// A shorter sequence may be a probe: scanners and file(1) read up to 7 MiB of
	// the head of a file, and the kernel 1 MiB more. But nobody who looks takes
	// probeTime for it, unless the swarm is slow.
	cursorProbe = 8 << 20
	probeTime   = 2 * time.Second
	// What may be a probe has one more piece fetched ahead of it, if that is no
	// larger than cursorHead: behind the head of a file, for what comes next is
	// often wanted, and behind a sequence longer than cursorShort, so that a copy
	// through a small window of the kernel's does not wait for each piece. Of
	// small pieces it is cursorSmall. Behind a sequence longer than cursorLong it
	// is a quarter of that: with less, of a copy from many peers 14 % came twice.
	cursorHead  = 1 << 20
	cursorShort = 512 << 10
	cursorSmall = 256 << 10
	cursorLong  = 2 << 20
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
		c.goOn(off, end)
	} else {
		c.seek(now, end, n)
	}
	c.measure(now)
	c.proven = c.proven || c.run > cursorProbe || c.run > cursorShort && now-c.began >= probeTime
	switch {
	case c.proven:
		ahead = max(min(2*c.run, c.pace(aheadTime)), min(c.habit, c.pace(seekTime)))
	case c.habit > 0:
		ahead = min(c.habit, c.pace(seekTime))
	case piece > cursorHead:
		return 0
	case c.run > cursorLong:
		ahead = max(piece, c.run/4)
	case c.run > cursorShort:
		ahead = max(piece, cursorSmall)
	case first && off == 0:
		ahead = piece
	default:
		return 0
	}
	return min(ahead, limit) + (c.end - end)
}

// goOn counts a read of the sequence. What is skipped counts when it is read
// after all: a look at the tail of a small file is not a sequence.
func (c *Cursor) goOn(off, end int64) {
	if off > c.end {
		c.skipped += off - c.end
		c.end = off
	}
	filled := min(c.skipped, min(end, c.end)-off)
	c.skipped -= filled
	c.run += filled
	if end > c.end {
		c.run += end - c.end
		c.end = end
	}
}

// seek begins another sequence.
func (c *Cursor) seek(now time.Duration, end, n int64) {
	c.habit /= 2
	if c.proven {
		c.habit = max(c.run, c.habit)
	}
	c.seeks++
	c.end, c.run, c.skipped = end, n, 0
	c.began, c.proven = now, false
	c.since, c.from = now, n
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

// Probing reports whether the reader may be looking at the file, no more: what
// Read says is then worth its while only when the reader has to wait anyway, so
// that a second look at what is held fetches nothing.
func (c *Cursor) Probing() bool { return !c.proven && c.habit == 0 }

// Seeks returns how often a sequence was left for another place.
func (c *Cursor) Seeks() int { return c.seeks }

// Sequence returns how many bytes were read in sequence up to now.
func (c *Cursor) Sequence() int64 { return c.run }
