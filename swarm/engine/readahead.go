package engine

import "time"

// Cursor follows one handle's reads and says how far ahead to fetch. Reading in
// sequence opens a window, a seek closes it, and it never holds much more than
// the reader uses up in a few seconds. It tolerates the kernel, which issues
// several read-ahead requests at a time and in any order, and readers that read
// at up to Places places in turn. The zero value is a handle that has not been
// read. It is not safe for concurrent use.
type Cursor struct {
	places [Places]sequence
	last   int   // the place of the last read
	reads  int   // that have come
	habit  int64 // longest sequence before a seek that was no probe
	seeks  int
}

// sequence is what was read at one place of a file, one after the other.
type sequence struct {
	start   int64         // of the sequence
	end     int64         // where it has got to
	run     int64         // bytes read in sequence
	skipped int64         // bytes before end that were not read; the kernel's requests overtake each other
	began   time.Duration // the first read
	proven  bool          // too long for a probe

	// The reader goes on here. If not it left at leftAt, and may come back.
	live   bool
	leftAt time.Duration
	back   int64         // of run, when it came back last
	readAt time.Duration // the last read
	turn   int           // and which of the cursor's it was; 0: the place is free
	ahead  int64         // bytes beyond end that are fetched

	// How fast the reader goes on, from samples of rateSpan.
	since  time.Duration
	from   int64   // of run, at since
	perSec float64 // 0: not known
}

// Places is how many sequences of one handle are followed: sound and pictures
// apart, and an index.
const Places = 3

// Ahead is what a read says about those to come.
type Ahead struct {
	// Place is which of the handle's places it was at, below Places.
	Place int
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
	// Of several places that are read in turn, one that was not read for so long
	// is left. VLC reads once in two seconds.
	idleTime = 5 * time.Second
	// A player shows the first picture when it has about so much of the film.
	goalTime = time.Second
	// What comes sooner together comes later one by one, so that there are bounds.
	maxGoal = 2 << 20

	rateSpan = 500 * time.Millisecond
)

// Read says that n bytes at off are being read now, by a clock of the caller's,
// and returns what is to be fetched ahead of them: at most limit bytes, those of
// the other places among them. Pieces are of the given length.
func (c *Cursor) Read(now time.Duration, off, n, piece, limit int64) Ahead {
	end := off + n
	i, known := c.find(off, end)
	switch s := &c.places[i]; {
	case !known:
		i = c.seek(now, end, n)
	case s.live:
		s.goOn(off, end)
	case now-s.leftAt < leftTime:
		s.goOn(off, end)
		return Ahead{Place: i, Seeks: c.seeks - 1, Left: true}
	default:
		s.comeBack(now)
		s.goOn(off, end)
	}
	c.reads++
	c.last = i
	s := &c.places[i]
	s.readAt, s.turn = now, c.reads
	c.leaveIdle(now)
	s.measure(now)
	a := Ahead{Place: i, Seeks: c.seeks}
	if s.ahead = min(c.ahead(now, piece), c.share(limit)); s.ahead > 0 {
		a.Bytes = s.ahead + s.end - end
		a.Goal = max(0, min(s.start+s.goal(piece)-off, n+a.Bytes))
	}
	return a
}

// find returns the place that a read belongs to: of several that are near, the one
// that was read last.
func (c *Cursor) find(off, end int64) (i int, ok bool) {
	for j := range c.places {
		s, best := &c.places[j], &c.places[i]
		if s.turn == 0 || off > s.end+cursorSlack || end < s.end-cursorSlack {
			continue
		}
		if !ok || s.turn > best.turn {
			i, ok = j, true
		}
	}
	return i, ok
}

// seek begins a sequence at the place that was read longest ago, and leaves all
// others: which of them the reader goes on with is seen when it does.
func (c *Cursor) seek(now time.Duration, end, n int64) (place int) {
	perSec := c.places[c.last].perSec
	c.habit /= 2
	for i := range c.places {
		s := &c.places[i]
		if s.live && s.proven {
			c.habit = max(s.run, c.habit)
		}
		if s.live {
			s.leave(now)
		}
		if s.turn < c.places[place].turn {
			place = i
		}
	}
	if c.reads > 0 {
		c.seeks++
	}
	c.places[place] = sequence{start: end - n, end: end, run: n, began: now, live: true, since: now, from: n, perSec: perSec}
	return place
}

// leaveIdle leaves the places that the reader does not read in turn with this
// one any more. What waits there is still wanted: the swarm may be slow.
func (c *Cursor) leaveIdle(now time.Duration) {
	for i := range c.places {
		if s := &c.places[i]; s.live && now-s.readAt >= idleTime {
			s.leave(s.readAt)
		}
	}
}

// share returns how many of limit bytes may be ahead at the place read last. A
// place that has more than its part by itself gives it back with its next read.
func (c *Cursor) share(limit int64) int64 {
	live, others := int64(0), int64(0)
	for i := range c.places {
		s := &c.places[i]
		if s.live {
			live++
		}
		if i != c.last {
			others += s.ahead
		}
	}
	return max(0, min(limit/live, limit-others))
}

// ahead returns how many bytes beyond the sequence are to be fetched.
func (c *Cursor) ahead(now time.Duration, piece int64) int64 {
	s := &c.places[c.last]
	s.proven = s.proven || c.together() > cursorProbe || s.run > cursorShort && now-s.began >= probeTime
	switch {
	case s.proven:
		return max(min(2*(s.run-s.back), s.pace(aheadTime)), min(c.habit, s.pace(seekTime)))
	case c.habit > 0:
		return min(c.habit, s.pace(seekTime))
	case piece > cursorHead:
		return 0
	case s.run > cursorShort:
		return max(piece, cursorSmall)
	case s.start == 0 && s.skipped == 0:
		return piece
	}
	return 0
}

// together returns how much was read in sequence at the places that are read in
// turn.
func (c *Cursor) together() (run int64) {
	for i := range c.places {
		if c.places[i].live {
			run += c.places[i].run
		}
	}
	return run
}

// goal returns how many bytes from the beginning of a sequence on a reader needs
// before it goes on.
func (s *sequence) goal(piece int64) int64 {
	if s.perSec > 0 {
		return min(int64(s.perSec*goalTime.Seconds()), maxGoal)
	}
	return min(2*piece, maxGoal)
}

// goOn counts a read of the sequence. What is skipped counts when it is read
// after all: a look at the tail of a small file is not a sequence.
func (s *sequence) goOn(off, end int64) {
	if off > s.end {
		s.skipped += off - s.end
		s.end = off
	}
	filled := min(s.skipped, min(end, s.end)-off)
	s.skipped -= filled
	s.run += filled
	if end > s.end {
		s.run += end - s.end
		s.end = end
	}
}

func (s *sequence) leave(at time.Duration) {
	s.live, s.leftAt, s.ahead = false, at, 0
}

// comeBack goes on where the reader had left. The window opens anew, as after a
// seek, for what came may be a late READ of the kernel's; and the time
// between says nothing of the reader's pace.
func (s *sequence) comeBack(now time.Duration) {
	s.live, s.back = true, s.run
	s.since, s.from = now, s.run
}

// measure follows the reader's own pace. It may be as slow as we let it be;
// then the window is as much as we can fill.
func (s *sequence) measure(now time.Duration) {
	d := now - s.since
	if d < rateSpan {
		return
	}
	sample := float64(s.run-s.from) / d.Seconds()
	switch {
	case s.perSec == 0:
		s.perSec = sample
	case sample > s.perSec:
		s.perSec += (sample - s.perSec) / 2
	default:
		s.perSec += (sample - s.perSec) / 8
	}
	s.since, s.from = now, s.run
}

// pace returns how many bytes the reader uses up in a time.
func (s *sequence) pace(d time.Duration) int64 {
	if s.perSec == 0 {
		return 1 << 40
	}
	return max(minAhead, int64(s.perSec*d.Seconds()))
}

// Probing reports whether the reader may be looking at the file, no more: what
// Read says is then worth its while only when the reader has to wait anyway, so
// that a second look at what is held fetches nothing.
func (c *Cursor) Probing() bool { return !c.places[c.last].proven && c.habit == 0 }

// Live reports whether the reader goes on at a place. The window of one that was
// left is closed.
func (c *Cursor) Live(place int) bool { return c.places[place].live }

// Seeks returns how often all places were left for a new one.
func (c *Cursor) Seeks() int { return c.seeks }

// Sequence returns how many bytes were read in sequence up to now, at the place
// of the last read.
func (c *Cursor) Sequence() int64 { return c.places[c.last].run }
