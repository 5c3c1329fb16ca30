package swarm

import (
	"slices"
	"time"

	"swarmfs/swarm/engine"
)

// doubtful is a Volume that may hold more than it knows: it is still to look at
// undecided pieces, those in windows first. They are not asked of peers meanwhile. Of
// each it tells by onFound or onEvict how it ended, of many at once by onRecount.
type doubtful interface {
	// Undecided returns the first undecided piece of [first, end); end if there is none.
	Undecided(first, end int) int
	// Decide has an undecided piece looked at soon, at once if it is urgent; what is
	// looked at anyway need not be.
	Decide(piece int, urgent bool)
	NotifyRecount(onRecount func())
}

// withheld is what the engine would fetch if it were known to be missing.
type withheld struct {
	readers    map[int][]*Reader // whose windows end at an undecided piece, by that
	background engine.Bitmap     // nil: nothing
	deciding   bool              // one of background was asked for:
	next       int               // this one; else where to go on
}

// until cuts a window before the first piece that may turn out to be held. Its reader
// is looked at again when that is known.
func (r *run) until(rd *Reader, w engine.Window) engine.Window {
	end := r.undecided(w.Pos, w.End)
	if end == w.End {
		return w
	}
	if r.withheld.readers == nil {
		r.withheld.readers = make(map[int][]*Reader)
	}
	if !slices.Contains(r.withheld.readers[end], rd) {
		r.withheld.readers[end] = append(r.withheld.readers[end], rd)
	}
	r.t.volume.(doubtful).Decide(end, true)
	if end == w.Pos {
		return engine.Window{}
	}
	w.End = end
	return w
}

// undecided returns the first piece of [first, end) that is not held and may be; end if
// there is none.
func (r *run) undecided(first, end int) int {
	v, ok := r.t.volume.(doubtful)
	if !ok {
		return end
	}
	end = min(end, r.t.layout.NumPieces())
	for first = v.Undecided(first, end); first < end && r.eng.Have(first); {
		first = v.Undecided(first+1, end)
	}
	return max(first, 0)
}

// begin has pieces [first, end) fetched when nothing more urgent is left, those that
// may be held as soon as they are known to be missing.
func (r *run) begin(now time.Time, first, end int) {
	for first < end {
		next := r.undecided(first, end)
		if first < next {
			r.eng.Background(now, first, next, true)
		}
		for first = next; first < end && r.undecided(first, first+1) == first; first++ {
			if r.withheld.background == nil {
				r.withheld.background = engine.NewBitmap(r.t.layout.NumPieces())
			}
			r.withheld.background.Set(first)
		}
	}
	r.decideNext()
}

// decideNext asks for a piece that the background waits for, one at a time: what it
// does not want any more is not looked at for it.
func (r *run) decideNext() {
	w := &r.withheld
	if w.background == nil || w.deciding {
		return
	}
	n := r.t.layout.NumPieces()
	for range n {
		if w.next %= n; w.background.Has(w.next) {
			w.deciding = true
			r.t.volume.(doubtful).Decide(w.next, false)
			return
		}
		w.next++
	}
	w.background = nil
}

// leave ends what begin began.
func (r *run) leave(now time.Time, first, end int) {
	r.eng.Background(now, first, end, false)
	if set := r.withheld.background; set != nil {
		for piece := first; piece < end; piece++ {
			set.Clear(piece)
		}
	}
}

// decided says that it is known whether a piece is held.
func (r *run) decided(now time.Time, piece int) {
	if r.withheld.next == piece {
		r.withheld.deciding = false
	}
	if set := r.withheld.background; set != nil && set.Has(piece) {
		set.Clear(piece)
		if !r.eng.Have(piece) {
			r.begin(now, piece, piece+1)
		}
	}
	r.decideNext()
	readers := r.withheld.readers[piece]
	delete(r.withheld.readers, piece)
	for _, rd := range readers {
		r.looks(now, rd)
	}
}

// Pieces whose state is corrected in one go: more are too many have messages for a
// peer to take at once.
const maxRecount = 4096

// recount brings the engine's view up to what the volume holds.
func (r *run) recount(now time.Time) {
	held := engine.Bitmap(r.t.volume.Pieces())
	r.withheld.deciding = false
	changed := 0
	for piece := range r.t.layout.NumPieces() {
		switch had, has := r.eng.Have(piece), held.Has(piece); {
		case has && !had:
			r.eng.Acquired(now, piece)
			r.wake(piece, nil)
		case had && !has:
			r.eng.Evicted(now, piece)
			r.refetch(now, piece)
		default:
			continue
		}
		if changed++; changed == maxRecount {
			r.group.Go(func() error { return r.post(r.ctx, recounted{}) }, r.reportPanic("recount"))
			break
		}
	}
	if set := r.withheld.background; set != nil {
		r.withheld.background = nil
		for _, s := range spansOf(set, r.t.layout.NumPieces()) {
			r.begin(now, s.First, s.End)
		}
	}
	for piece := range r.waiting {
		if r.undecided(piece, piece+1) == piece { // its readers find it out, each by itself
			r.wake(piece, nil)
		}
	}
	readers := r.withheld.readers
	r.withheld.readers = nil
	for _, list := range readers { // each may be there twice: the second look changes nothing
		for _, rd := range list {
			r.looks(now, rd)
		}
	}
}
