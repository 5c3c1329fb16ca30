package engine

import (
	"cmp"
	"slices"
	"time"
)

// Window is what a reader wants, in pieces. The zero Window wants nothing.
type Window struct {
	// Need and NeedEnd bound the pieces that a read is blocked on; equal: none.
	Need, NeedEnd int
	// Goal is the end of what the reader must have before it goes on for a
	// while, NeedEnd if it is less: [Need, Goal) is shared among the peers so that
	// all of it comes soon, not only the first piece.
	Goal int
	// Pos and End bound what is to be there soon, nearest first.
	Pos, End int
}

type reader struct {
	id       ReaderID
	win      Window
	since    time.Duration // blocked since
	later    time.Duration // waits for what is probably not wanted any more, until then; 0: in earnest
	forecast forecast
	ahead    forecast
	until    time.Duration // closed, and to be forgotten then; 0: open
}

func (r *reader) isBlocked() bool { return r.win.Need < r.win.NeedEnd && r.later == 0 }

// tier is how much a piece is wanted; lower is stronger.
type tier uint8

const (
	tierBlocked tier = iota
	tierAhead
	tierBackground
	tierUnwanted
)

// Want says what a reader wants from now on. Several reads of one reader may be
// blocked at a time: each has a ReaderID of its own.
func (e *Engine) Want(now time.Time, id ReaderID, w Window) {
	at := e.since(now)
	w = e.clip(w)
	r := e.byReader[id]
	if r == nil {
		r = &reader{id: id, since: at}
		e.byReader[id] = r
		e.readers = append(e.readers, r)
	}
	if !r.isBlocked() {
		r.since = at
	}
	if old := r.win; old.Pos < old.End && (w.Pos > old.End || w.End < old.Pos) {
		e.jumped = true
	}
	r.win = w
	e.sortReaders()
	e.refused = tierUnwanted // other pieces may be given up for others now
	if e.jumped && e.blocked > 0 {
		e.jumped = false
		e.clearWay()
	}
	e.fillAll(now)
}

// clearWay takes back what no reader wants since one has jumped and what would
// delay the read that waits now. The oldest request of a peer stays: it is
// probably under way.
func (e *Engine) clearWay() {
	for _, p := range e.peers {
		for i := p.requests.len() - 1; i > 0; i-- {
			r := *p.requests.at(i)
			t := e.open[r.piece]
			if t == nil || e.tier(r.piece) < tierBackground {
				continue
			}
			e.recall(p, i)
			e.release(t, r.block, p)
		}
	}
}

// A window outlives its reader for so long: many programs close a file and open
// it again at once, and go on.
const linger = 3 * time.Second

// ReaderClosed says that a reader will read no more. Its window stays for a few
// seconds.
func (e *Engine) ReaderClosed(now time.Time, id ReaderID) {
	if r := e.byReader[id]; r != nil && r.win.Pos < r.win.End {
		r.win.NeedEnd = r.win.Need
		r.until = e.since(now) + linger
		e.sortReaders()
		return
	}
	e.ReaderGone(now, id)
}

// After a seek, what the kernel had begun to read ahead at the old place still
// waits, and nobody can tell it from a read. It gives way for so long.
// While it does, its reader is served elsewhere first.
const deferFor = 10 * time.Second

// Defer says that what a blocked read waits for is probably not wanted any more:
// its reader has gone elsewhere. It is fetched after everything else that is to
// be there soon, and counts as blocked again, as the newest, after
// ten seconds.
func (e *Engine) Defer(now time.Time, id ReaderID) {
	if r := e.byReader[id]; r != nil && r.isBlocked() {
		r.later = e.since(now) + deferFor
		e.jumped = true
		e.sortReaders()
	}
}

// ReaderGone says that a reader wants nothing any more.
func (e *Engine) ReaderGone(now time.Time, id ReaderID) {
	r := e.byReader[id]
	if r == nil {
		return
	}
	delete(e.byReader, id)
	e.readers = slices.DeleteFunc(e.readers, func(o *reader) bool { return o == r })
	e.sortReaders()
	e.Room(now) // what only it wanted may be given up
}

func (e *Engine) clip(w Window) Window {
	bound := func(i int) int { return min(max(i, 0), e.n) }
	w = Window{Need: bound(w.Need), NeedEnd: bound(w.NeedEnd), Goal: bound(w.Goal), Pos: bound(w.Pos), End: bound(w.End)}
	w.Goal = max(w.Goal, w.NeedEnd)
	return w
}

// The kernel sends the READs of one read-ahead window at once and they come in any
// order: among those that began to wait within so long the nearer place is first.
const sameTime = 100 * time.Millisecond

// sortReaders puts the blocked ones first, who waits longest foremost.
func (e *Engine) sortReaders() {
	slices.SortStableFunc(e.readers, func(a, b *reader) int {
		switch ab, bb := a.isBlocked(), b.isBlocked(); {
		case ab && !bb:
			return -1
		case bb && !ab:
			return 1
		}
		return cmp.Or(
			cmp.Compare(a.since/sameTime, b.since/sameTime),
			cmp.Compare(a.win.Need, b.win.Need),
			cmp.Compare(a.since, b.since),
			cmp.Compare(a.id, b.id))
	})
	e.blocked = 0
	for e.blocked < len(e.readers) && e.readers[e.blocked].isBlocked() {
		e.blocked++
	}
}

// Background sets which pieces [first, end) are to be fetched when nothing more
// urgent is left, rarest first.
func (e *Engine) Background(now time.Time, first, end int, on bool) {
	if e.background == nil {
		if !on {
			return
		}
		e.background = NewBitmap(e.n)
	}
	for i := max(first, 0); i < min(end, e.n); i++ {
		if on {
			e.background.Set(i)
			e.enlist(i)
		} else {
			e.background.Clear(i)
			e.rarest.remove(i)
		}
	}
	e.refused = tierUnwanted // what is off may be given up for other pieces
	e.fillAll(now)
}

// enlist puts a piece among those that the background may start.
func (e *Engine) enlist(piece int) {
	if e.background == nil || !e.background.Has(piece) || e.have.Has(piece) ||
		e.open[piece] != nil || e.rarest.has(piece) {
		return
	}
	var level uint16
	if e.avail != nil {
		level = e.avail[piece]
	}
	e.rarest.insert(piece, e.n, level, e.rng)
}

func (e *Engine) tier(piece int) tier {
	best := tierUnwanted
	if e.background != nil && e.background.Has(piece) {
		best = tierBackground
	}
	for _, r := range e.readers {
		switch {
		case r.win.Need <= piece && piece < r.win.NeedEnd:
			if r.later > 0 {
				best = min(best, tierBackground)
				continue
			}
			return tierBlocked
		case r.win.Pos <= piece && piece < r.win.End, r.isBlocked() && r.win.Need <= piece && piece < r.win.Goal:
			best = min(best, tierAhead)
		}
	}
	return best
}

func (e *Engine) wanted(piece int) bool { return e.tier(piece) != tierUnwanted }
