package cache

import (
	"errors"
	"fmt"
	"math/bits"
)

// Span is a range of numbers, End not included.
type Span struct {
	First int `json:"first"`
	End   int `json:"end"`
}

// ErrNoPins means that pieces are not kept on disk, so none can be pinned.
var ErrNoPins = errors.New("the cache is in memory only, which keeps nothing for good")

// PinError says that pins would take more of the cache than they may.
type PinError struct {
	Need, Pinned, Limit int64 // bytes: asked for, 0 when the cache is to be smaller; pinned already; for all pins
}

// Error implements error.
func (e *PinError) Error() string {
	if e.Need == 0 {
		return fmt.Sprintf("%s are pinned, of which a cache of that size keeps %s", sizeText(e.Pinned), sizeText(e.Limit))
	}
	return fmt.Sprintf("%s do not fit: %s of the cache's %s for pins are taken: a larger --cache-size holds more",
		sizeText(e.Need), sizeText(e.Pinned), sizeText(e.Limit))
}

// sizeText is exact enough to see by how much something does not fit.
func sizeText(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	default:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
}

// pinLimit returns how many bytes of pieces may be pinned under a disk budget:
// what may be live, less a tenth of the budget, or two batches of the writer,
// for what is read besides.
func pinLimit(budget, logFile int64) int64 {
	return max(liveTarget(budget, logFile)-max(budget/10, 2*batchBytes), 0)
}

// Keeps returns how many bytes of pieces that are not pinned the store keeps; who
// brings more has others evicted. Without a disk it is half of the memory: the
// rest is for what is under way.
func (s *Store) Keeps() int64 {
	<-s.ready
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disk == nil || s.degraded != nil {
		return s.opts.Memory / 2
	}
	return max(s.policy.target-evictBytes(s.budget)-s.pinned, 0)
}

// Pin keeps pieces of the volume from being evicted, those held and those still
// to come, until Unpin; all of them or, with an error, none. A piece is pinned
// once however often it is asked for. The error is [ErrNoPins], with the cause
// if there is one, or a [*PinError].
//
// What is pinned is not remembered by the store, and a disk that fails may still
// lose a piece: onEvict tells.
func (v *Volume) Pin(spans ...Span) error {
	s := v.store
	<-s.ready
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.disk == nil || s.degraded != nil {
		if s.degraded != nil {
			return fmt.Errorf("%w: %w", ErrNoPins, s.degraded)
		}
		return ErrNoPins
	}
	want := v.setOf(spans)
	for i, w := range v.pins {
		want[i] |= w
	}
	size := v.sizeOf(want)
	more, limit := size-v.pinned, pinLimit(s.budget-s.space.rest, s.logFile)
	if s.pinned+more > limit && more > 0 {
		return &PinError{Need: more, Pinned: s.pinned, Limit: limit}
	}
	s.pinned += more
	v.pins, v.pinned = want, size
	return nil
}

// Unpin lets pieces be evicted again.
func (v *Volume) Unpin(spans ...Span) {
	s := v.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.pins == nil {
		return
	}
	for i, w := range v.setOf(spans) {
		v.pins[i] &^= w
	}
	size := v.sizeOf(v.pins)
	s.pinned += size - v.pinned
	v.pinned = size
	if size == 0 {
		v.pins = nil
	}
	s.policy.release()
}

// sizeOf sums the pieces of a set.
func (v *Volume) sizeOf(set bitmap) int64 {
	var n int64
	for _, w := range set {
		n += int64(bits.OnesCount64(w))
	}
	n *= v.geometry.PieceLength
	if last := v.geometry.NumPieces() - 1; last >= 0 && set.has(last) {
		n -= v.geometry.PieceLength - int64(v.geometry.PieceSize(last))
	}
	return n
}
