package engine

import "time"

// Cursor follows one handle's reads and says how far ahead to fetch. Reading in
// sequence opens the window, a seek closes it, and it never holds much more than
// the reader uses up in a few seconds. It tolerates the kernel, which issues
// several read-ahead requests at a time and in any order. The zero value is a
// handle that has not been read. It is not safe for concurrent use.
type Cursor struct {
	start   int64         // of the sequence
	end     int64         // where it has got to
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

	left   int64         // the end of the sequence before the last seek
	leftAt time.Duration // when that was
}

// Ahead is what a read says about those to come.
type Ahead struct {
	// Bytes beyond the read are to be fetched ahead.
	Bytes int64
	// Goal is how many bytes from the read's offset on the reader is likely to need
	// before it goes on for a while; 0 where nothing is known.
	Goal int64
	// Seeks is how often the reader had sought when it came to want this.
	Seeks int
	// Left: it was wanted at the place that the reader has just left. The kernel's
	// read-ahead comes late, and says nothing of what is to come.
	Left bool
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
	// small pieces it is cursorSmall.
	cursorHead  = 1 << 20
	cursorShort = 512 << 10
	cursorSmall = 256 << 10
	// What is kept ahead of a reader: so much time at its own pace, and so much
	// in any case. A player buffers by itself; this is for the swarm's hiccups.
	aheadTime = 8 * time.Second
	minAhead  = 1 << 20
	// After a seek: so much time, since the next seek may be near.
	seekTime = 2 * time.Second
	// The READs of the kernel that were on their way when a reader sought come
	// within so long after it.
	leftTime = 20 * time.Millisecond
	// A player shows the first picture when it has about so much of the film.
	goalTime = time.Second
	// What comes sooner together comes later one by one, so that there are bounds.
	maxGoal = 2 << 20

	rateSpan = 500 * time.Millisecond
)

// Read says that n bytes at off are being read now, by a clock of the caller's,
// and returns what is to be fetched ahead of them, at most limit bytes. Pieces are
// of the given length.
func (c *Cursor) Read(now time.Duration, off, n, piece, limit int64) Ahead {
	end := off + n
	first := c.run == 0
	near := func(at int64) bool { return off <= at+cursorSlack && end >= at-cursorSlack }
	switch {
	case !first && near(c.end):
		c.goOn(off, end)
	case c.seeks > 1 && now-c.leftAt < leftTime && near(c.left):
		return Ahead{Seeks: c.seeks - 1, Left: true}
	default:
		c.seek(now, end, n)
	}
	c.measure(now)
	a := Ahead{Seeks: c.seeks}
	if ahead := c.ahead(now, piece); ahead > 0 {
		a.Bytes = min(ahead, limit) + c.end - end
		a.Goal = max(0, min(c.start+c.goal(piece)-off, n+a.Bytes))
	}
	return a
}

// ahead returns how many bytes beyond the sequence are to be fetched.
func (c *Cursor) ahead(now time.Duration, piece int64) int64 {
	c.proven = c.proven || c.run > cursorProbe || c.run > cursorShort && now-c.began >= probeTime
	switch {
	case c.proven:
		return max(min(2*c.run, c.pace(aheadTime)), min(c.habit, c.pace(seekTime)))
	case c.habit > 0:
		return min(c.habit, c.pace(seekTime))
	case piece > cursorHead:
		return 0
	case c.run > cursorShort:
		return max(piece, cursorSmall)
	case c.start == 0 && c.skipped == 0:
		return piece
	}
	return 0
}

// goal returns how many bytes from the beginning of a sequence on a reader needs
// before it goes on.
func (c *Cursor) goal(piece int64) int64 {
	if c.perSec > 0 {
		return min(int64(c.perSec*goalTime.Seconds()), maxGoal)
	}
	return min(2*piece, maxGoal)
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
	c.left, c.leftAt = c.end, now
	c.start, c.end, c.run, c.skipped = end-n, end, n, 0
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
