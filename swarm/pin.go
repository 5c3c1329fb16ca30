package swarm

import (
	"errors"
	"slices"
	"time"

	"swarmfs/cache"
	"swarmfs/swarm/engine"
)

// ErrNotPinnable means that the torrent's Volume cannot keep pieces for good.
var ErrNotPinnable = errors.New("what is seeded in place cannot be pinned")

// pinner is a Volume that can be told to keep pieces.
type pinner interface {
	Pin(spans ...cache.Span) error
	Unpin(spans ...cache.Span)
}

// pins are the files of a torrent that are to be completed and kept. Guarded by
// Torrent.mu.
type pins struct {
	files  map[int]bool  // index in Info.Files
	pieces engine.Bitmap // that hold some of them; nil: none
}

// Pin completes files and keeps them in the cache, whether anybody reads them or
// not; a file is given by its index in Info.Files. With an error, which is that
// of cache.Volume.Pin or ErrNotPinnable, nothing changes.
func (t *Torrent) Pin(files []int) error {
	v, ok := t.volume.(pinner)
	if !ok {
		return ErrNotPinnable
	}
	t.pinning.Lock()
	defer t.pinning.Unlock()
	next := t.pinnedFiles()
	for _, i := range files {
		if i >= 0 && i < len(t.info.Files) {
			next[i] = true
		}
	}
	set := t.piecesOf(next)
	if err := v.Pin(spansOf(set, t.layout.NumPieces())...); err != nil {
		return err
	}
	t.setPins(pins{next, set})
	return nil
}

// Unpin ends what Pin began. What is held stays until the cache needs the room;
// a piece that a pinned file has a part in stays pinned.
func (t *Torrent) Unpin(files []int) {
	v, ok := t.volume.(pinner)
	if !ok {
		return
	}
	t.pinning.Lock()
	defer t.pinning.Unlock()
	next := t.pinnedFiles()
	for _, i := range files {
		delete(next, i)
	}
	set, gone := t.piecesOf(next), t.pinnedPieces()
	for i := range set {
		gone[i] &^= set[i]
	}
	t.setPins(pins{next, set})
	v.Unpin(spansOf(gone, t.layout.NumPieces())...)
}

// setPins publishes what is pinned and has the loop fetch it.
func (t *Torrent) setPins(p pins) {
	t.mu.Lock()
	t.pins = p
	t.mu.Unlock()
	t.tell(repinned{})
}

// Pinned returns the pieces that are pinned, in order.
func (t *Torrent) Pinned() []cache.Span { return spansOf(t.pinnedPieces(), t.layout.NumPieces()) }

// PinnedFiles returns the files that are pinned, in order, as ranges of indexes
// in Info.Files.
func (t *Torrent) PinnedFiles() []cache.Span {
	set := engine.NewBitmap(len(t.info.Files))
	for i := range t.pinnedFiles() {
		set.Set(i)
	}
	return spansOf(set, len(t.info.Files))
}

func (t *Torrent) pinnedFiles() map[int]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	files := make(map[int]bool, len(t.pins.files))
	for i := range t.pins.files {
		files[i] = true
	}
	return files
}

// pinnedPieces returns a copy, as long as there are pieces.
func (t *Torrent) pinnedPieces() engine.Bitmap {
	set := engine.NewBitmap(t.layout.NumPieces())
	t.mu.Lock()
	defer t.mu.Unlock()
	copy(set, t.pins.pieces)
	return set
}

func (t *Torrent) piecesOf(files map[int]bool) engine.Bitmap {
	set := engine.NewBitmap(t.layout.NumPieces())
	for i := range files {
		f := &t.info.Files[i]
		first, end := t.layout.Pieces(f.Offset, f.Length)
		for piece := first; piece < end; piece++ {
			set.Set(piece)
		}
	}
	return set
}

// spansOf returns the ranges of a set.
func spansOf(set engine.Bitmap, n int) []cache.Span {
	spans := []cache.Span{}
	for i := range n {
		if len(set) == 0 || !set.Has(i) {
			continue
		}
		if last := len(spans) - 1; last >= 0 && spans[last].End == i {
			spans[last].End++
		} else {
			spans = append(spans, cache.Span{First: i, End: i + 1})
		}
	}
	return spans
}

// Expand returns the numbers in spans that are below n, each once: for Pin, what
// PinnedFiles returned.
func Expand(spans []cache.Span, n int) []int {
	var all []int
	for _, s := range spans {
		for i := max(s.First, 0); i < min(s.End, n); i++ {
			all = append(all, i)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// repin has the engine fetch what is pinned, and no longer what was.
func (r *run) repin(now time.Time) {
	next, gone := r.t.pinnedPieces(), r.background.pinned
	for i := range gone {
		gone[i] &^= next[i]
	}
	dropped := spansOf(gone, r.t.layout.NumPieces())
	for _, s := range dropped {
		r.leave(now, s.First, s.End)
	}
	r.background.pinned = next
	if len(dropped) > 0 && len(r.background.begun) == 0 {
		r.background.all = false // there was nothing to begin but what was pinned: the next read looks again
	}
	r.t.session.allotment.fit(r.t.session.keeps())
	r.restoreBackground(now)
}

// refetch asks again for a pinned piece that the disk lost. While the cache is in
// memory only it would go round for ever.
func (r *run) refetch(now time.Time, piece int) {
	store := r.t.session.opts.Store
	if r.background.pinned.Has(piece) && store != nil && store.Degraded() == nil {
		r.begin(now, piece, piece+1)
	}
}
