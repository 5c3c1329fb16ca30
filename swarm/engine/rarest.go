package engine

import "math/rand/v2"

// rarest holds the pieces that the background may start, sorted by how many
// copies the connected peers have and in random order among equals, so that
// equal clients do not all fetch the same one. A change of one copy is O(1); a
// piece enters or leaves in O(levels). (The scheme is libtorrent's.)
type rarest struct {
	order []int32  // pieces, level by level
	pos   []int32  // of a piece in order, -1 when it is not listed; nil until something is
	level []uint16 // of a listed piece
	start []int32  // where a level starts in order; one more entry closes the last

	listed Bitmap // the same set, to be searched together with what a peer has
}

func (r *rarest) has(piece int) bool { return r.pos != nil && r.pos[piece] >= 0 }

func (r *rarest) len() int { return len(r.order) }

func (r *rarest) put(piece int32, i int32) {
	r.order[i] = piece
	r.pos[piece] = i
}

// mix swaps the piece at i with a random one of its level.
func (r *rarest) mix(i int32, rng *rand.Rand) {
	p := r.order[i]
	l := r.level[p]
	j := r.start[l] + rng.Int32N(r.start[l+1]-r.start[l])
	q := r.order[j]
	r.put(p, j)
	r.put(q, i)
}

func (r *rarest) insert(piece, pieces int, level uint16, rng *rand.Rand) {
	if r.pos == nil {
		r.pos = make([]int32, pieces)
		for i := range r.pos {
			r.pos[i] = -1
		}
		r.level = make([]uint16, pieces)
		r.start = []int32{0, 0}
		r.listed = NewBitmap(pieces)
	}
	r.listed.Set(piece)
	for int(level) >= len(r.start)-1 {
		r.start = append(r.start, int32(len(r.order)))
	}
	hole := int32(len(r.order))
	r.order = append(r.order, 0)
	top := len(r.start) - 1
	r.start[top]++
	for l := top - 1; l > int(level); l-- {
		first := r.start[l]
		if first != hole {
			r.put(r.order[first], hole)
		}
		hole = first
		r.start[l]++
	}
	r.level[piece] = level
	r.put(int32(piece), hole)
	r.mix(hole, rng)
}

func (r *rarest) remove(piece int) {
	if !r.has(piece) {
		return
	}
	r.listed.Clear(piece)
	hole := r.pos[piece]
	for l := int(r.level[piece]); l < len(r.start)-1; l++ {
		if l > int(r.level[piece]) {
			r.start[l]--
		}
		last := r.start[l+1] - 1
		if last >= r.start[l] && last != hole {
			r.put(r.order[last], hole)
			hole = last
		} else if last == hole {
			hole = last
		}
	}
	r.order = r.order[:len(r.order)-1]
	r.start[len(r.start)-1]--
	r.pos[piece] = -1
}

// more moves a piece one level up: a copy appeared.
func (r *rarest) more(piece int, rng *rand.Rand) {
	if !r.has(piece) {
		return
	}
	l := r.level[piece]
	last := r.start[l+1] - 1
	i := r.pos[piece]
	r.put(r.order[last], i)
	r.put(int32(piece), last)
	if int(l)+2 >= len(r.start) {
		r.start = append(r.start, int32(len(r.order)))
	}
	r.start[l+1]--
	r.level[piece] = l + 1
	r.mix(last, rng)
}

// fewer moves a piece one level down: a copy went away.
func (r *rarest) fewer(piece int, rng *rand.Rand) {
	if !r.has(piece) || r.level[piece] == 0 {
		return
	}
	l := r.level[piece]
	first := r.start[l]
	i := r.pos[piece]
	r.put(r.order[first], i)
	r.put(int32(piece), first)
	r.start[l]++
	r.level[piece] = l - 1
	r.mix(first, rng)
}
