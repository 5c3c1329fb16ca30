//go:build invariants || race

package engine

import "fmt"

// check panics when the state contradicts itself: a bug of ours, never
// something that a peer can bring about.
func (e *Engine) check() {
	e.checkPieces()
	e.checkPeers()
	e.checkRarest()
}

func fail(format string, args ...any) { panic("engine: " + fmt.Sprintf(format, args...)) }

func (e *Engine) checkPieces() {
	if n := e.have.Count(); n != e.haveN {
		fail("%d pieces held, counted %d", n, e.haveN)
	}
	for i := range e.n {
		t := e.open[i]
		want := !e.have.Has(i) && (t == nil || t.free > 0)
		if e.free.Has(i) != want {
			fail("piece %d: free is %v", i, !want)
		}
		if t != nil && e.have.Has(i) {
			fail("piece %d is held and open", i)
		}
	}
	loose := 0
	for _, t := range e.open {
		e.checkPartial(t)
		if t.free > 0 {
			loose++
			if e.loose[t.loose] != t {
				fail("piece %d is lost in the list of loose ones", t.piece)
			}
		}
	}
	if loose != len(e.loose) {
		fail("%d loose drafts, counted %d", loose, len(e.loose))
	}
}

func (e *Engine) checkPartial(t *partial) {
	var n [3]int
	for b := range t.blocks {
		k := &t.blocks[b]
		n[k.state]++
		if k.state == blockFree && b < t.next {
			fail("piece %d: block %d is free below the hint %d", t.piece, b, t.next)
		}
		if (k.state == blockAsked) != (k.by[0] != nil) {
			fail("piece %d: block %d is in state %d, asked %v", t.piece, b, k.state, k.by[0] != nil)
		}
		for _, p := range k.by {
			if p == nil {
				continue
			}
			if e.byID[p.id] != p {
				fail("piece %d: block %d is asked of a peer that is gone", t.piece, b)
			}
			if p.requests.find(t.piece, b) < 0 {
				fail("piece %d: block %d is asked of a peer that does not know", t.piece, b)
			}
		}
	}
	if n[blockFree] != t.free || n[blockGot] != t.got || n[blockAsked] != t.asked {
		fail("piece %d: free, asked, got are %v, counted %d, %d, %d", t.piece, n, t.free, t.asked, t.got)
	}
	if t.verifying != (t.got == len(t.blocks)) {
		fail("piece %d: verifying is %v with %d of %d", t.piece, t.verifying, t.got, len(t.blocks))
	}
}

func (e *Engine) checkPeers() {
	seeds := 0
	avail := make([]int, e.n)
	for _, p := range e.peers {
		if p.seed {
			seeds++
		}
		lacking := 0
		for i := range e.n {
			if p.has(i) && !e.have.Has(i) {
				lacking++
			}
			if !p.seed && p.has(i) {
				avail[i]++
			}
		}
		if lacking != p.lacking {
			fail("peer %d has %d pieces that we lack, counted %d", p.id, lacking, p.lacking)
		}
		if !p.dropped && p.interested != (lacking > 0) {
			fail("peer %d: interest is %v with %d pieces that we lack", p.id, p.interested, lacking)
		}
		for i := range p.requests.len() {
			r := p.requests.at(i)
			t := e.open[r.piece]
			if t == nil {
				fail("peer %d is asked for a block of piece %d, which is not open", p.id, r.piece)
			}
			if by := t.blocks[r.block].by; by[0] != p && by[1] != p {
				fail("peer %d is asked for block %d of piece %d and not marked there", p.id, r.block, r.piece)
			}
		}
	}
	if seeds != e.seeds {
		fail("%d seeds, counted %d", seeds, e.seeds)
	}
	for i, n := range e.avail {
		if int(n) != avail[i] {
			fail("piece %d has %d copies, counted %d", i, avail[i], n)
		}
	}
}

func (e *Engine) checkRarest() {
	r := &e.rarest
	if r.pos == nil {
		return
	}
	for i := range e.n {
		listed := e.background != nil && e.background.Has(i) && !e.have.Has(i) && e.open[i] == nil
		if listed != r.has(i) {
			fail("piece %d: listed for the background is %v", i, r.has(i))
		}
	}
	for l := range len(r.start) - 1 {
		for i := r.start[l]; i < r.start[l+1]; i++ {
			p := r.order[i]
			if int(r.level[p]) != l || r.pos[p] != i || e.avail != nil && int(e.avail[p]) != l {
				fail("piece %d is at the wrong place of the rarest-first order", p)
			}
		}
	}
	if int(r.start[len(r.start)-1]) != len(r.order) {
		fail("the rarest-first order has %d pieces, its levels %d", len(r.order), r.start[len(r.start)-1])
	}
}
