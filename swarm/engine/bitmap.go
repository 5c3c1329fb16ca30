package engine

import "math/bits"

// Bitmap is a set of pieces: bit i of word i/64 is piece i. Its length is fixed
// by NewBitmap; bits beyond the number of pieces stay zero.
type Bitmap []uint64

// NewBitmap returns an empty set that has room for n pieces.
func NewBitmap(n int) Bitmap { return make(Bitmap, (n+63)/64) }

// Has reports whether piece i is in the set.
func (b Bitmap) Has(i int) bool { return b[i>>6]&(1<<(i&63)) != 0 }

// Set puts piece i into the set.
func (b Bitmap) Set(i int) { b[i>>6] |= 1 << (i & 63) }

// Clear takes piece i out of the set.
func (b Bitmap) Clear(i int) { b[i>>6] &^= 1 << (i & 63) }

// Count returns how many pieces are in the set.
func (b Bitmap) Count() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// Fill puts the pieces [0, n) into the set.
func (b Bitmap) Fill(n int) {
	for i := range b {
		b[i] = ^uint64(0)
	}
	if r := n & 63; r != 0 {
		b[len(b)-1] = 1<<r - 1
	}
}

// nextBoth returns the first piece in [from, end) that both sets hold, or -1.
func nextBoth(a, b Bitmap, from, end int) int {
	if from >= end {
		return -1
	}
	i := from >> 6
	w := a[i] & b[i] & (^uint64(0) << (from & 63))
	for {
		if w != 0 {
			if p := i<<6 + bits.TrailingZeros64(w); p < end {
				return p
			}
			return -1
		}
		if i++; i<<6 >= end {
			return -1
		}
		w = a[i] & b[i]
	}
}

// nextMissing returns the first piece in [from, end) that a holds and b lacks,
// or -1.
func nextMissing(a, b Bitmap, from, end int) int {
	if from >= end {
		return -1
	}
	i := from >> 6
	w := a[i] &^ b[i] & (^uint64(0) << (from & 63))
	for {
		if w != 0 {
			if p := i<<6 + bits.TrailingZeros64(w); p < end {
				return p
			}
			return -1
		}
		if i++; i<<6 >= end {
			return -1
		}
		w = a[i] &^ b[i]
	}
}
