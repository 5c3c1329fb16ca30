package engine

import "time"

// partial is a piece of which some blocks are asked for or received. Its bytes
// are in a draft that the driver holds.
type partial struct {
	piece     int
	gen       uint32 // tells this draft from an earlier one of the same piece
	blocks    []block
	free      int // blocks neither asked for nor received
	got       int
	asked     int  // blocks asked for and not received
	next      int  // no block below it is free
	loose     int  // index in Engine.loose, -1 when no block is free
	verifying bool // complete, out for its hash
	last      lastDue
}

// lastDue is when the last block of a piece that only one peer was asked for is
// due, so that not each of many idle peers goes through them all to see that it
// would be no sooner. It holds for that time and number of requests sent.
type lastDue struct {
	at, due time.Duration
	asked   int64
}

type blockState uint8

const (
	blockFree blockState = iota
	blockAsked
	blockGot
)

type block struct {
	state blockState
	by    [2]*peer // who was asked; the second only for a duplicate
	from  PeerID   // who sent it
}

// openPartial asks for memory and opens a draft of a piece that is wanted so
// much; nil when there is no room.
func (e *Engine) openPartial(piece int, want tier) *partial {
	if want >= e.refused || want == tierBackground && e.at < e.crowded {
		return nil
	}
	gen, ok := e.cfg.Drafts.Open(piece, want == tierBlocked)
	for !ok && e.reclaim(want) {
		gen, ok = e.cfg.Drafts.Open(piece, want == tierBlocked)
	}
	if !ok {
		e.refused = want
		return nil
	}
	var t *partial
	if k := len(e.spare) - 1; k >= 0 {
		t, e.spare = e.spare[k], e.spare[:k]
	} else {
		t = new(partial)
	}
	n := e.layout.NumBlocks(piece)
	bs := t.blocks
	if cap(bs) < n {
		bs = make([]block, n)
	}
	bs = bs[:n]
	clear(bs)
	*t = partial{piece: piece, gen: gen, blocks: bs, free: n, loose: -1}
	e.open[piece] = t
	e.loosen(t)
	e.rarest.remove(piece)
	return t
}

// loosen and tighten keep the set of pieces, and of drafts, with free blocks.
func (e *Engine) loosen(t *partial) {
	e.free.Set(t.piece)
	if t.loose < 0 {
		t.loose = len(e.loose)
		e.loose = append(e.loose, t)
	}
}

func (e *Engine) tighten(t *partial) {
	e.free.Clear(t.piece)
	if i := t.loose; i >= 0 {
		last := e.loose[len(e.loose)-1]
		e.loose[i], last.loose = last, i
		e.loose = e.loose[:len(e.loose)-1]
		t.loose = -1
	}
}

// closePartial forgets a draft that the driver has committed or discards.
func (e *Engine) closePartial(t *partial) {
	e.tighten(t)
	delete(e.open, t.piece)
	if len(e.spare) < 64 {
		e.spare = append(e.spare, t)
	}
}

// abandon throws a draft away, takes back what was asked for, and makes the
// piece free again.
func (e *Engine) abandon(t *partial) {
	for b := range t.blocks {
		e.cancelBlock(t, b, nil)
	}
	e.stats.Discarded += e.received(t)
	e.cfg.Drafts.Discard(t.piece)
	e.closePartial(t)
	e.free.Set(t.piece)
	e.enlist(t.piece)
}

// received returns how many bytes of a draft are there.
func (e *Engine) received(t *partial) (bytes int64) {
	for b := range t.blocks {
		if t.blocks[b].state == blockGot {
			bytes += int64(e.blockLen(t.piece, b))
		}
	}
	return bytes
}

// When a reader needed the memory of a background piece, no other is begun for so
// long: its turn would come next, and all that was asked for of it, which comes
// all the same, be for nothing.
const crowdedFor = time.Second

// reclaim gives up an open draft that is wanted less than so much, to make room
// for one that is: what is wanted least, and of that what least was received of.
func (e *Engine) reclaim(want tier) bool {
	var victim *partial
	worst := want
	for _, t := range e.open { // in any order: the choice below has no ties
		if t.verifying {
			continue
		}
		w := e.tier(t.piece)
		if w > worst || victim != nil && w == worst &&
			(t.got < victim.got || t.got == victim.got && t.piece > victim.piece) {
			victim, worst = t, w
		}
	}
	if victim == nil {
		return false
	}
	if worst == tierBackground {
		e.crowded = e.at + crowdedFor
	}
	e.abandon(victim)
	return true
}

// take marks the first free block as asked of p and returns its index.
func (e *Engine) take(t *partial, p *peer) int {
	b := t.next
	for t.blocks[b].state != blockFree {
		b++
	}
	t.next = b + 1
	t.blocks[b] = block{state: blockAsked, by: [2]*peer{p, nil}}
	t.free--
	t.asked++
	if t.free == 0 {
		e.tighten(t)
	}
	return b
}

// release takes p off the block. With nobody else asked the block is free again.
func (e *Engine) release(t *partial, b int, p *peer) {
	k := &t.blocks[b]
	if k.state != blockAsked {
		return
	}
	switch p {
	case k.by[0]:
		k.by[0], k.by[1] = k.by[1], nil
	case k.by[1]:
		k.by[1] = nil
	default:
		return
	}
	if k.by[0] == nil {
		k.state = blockFree
		t.free++
		t.asked--
		t.next = min(t.next, b)
		e.loosen(t)
	}
}

// cancelBlock takes the block back from everybody who was asked, but for the
// peer that has just delivered it.
func (e *Engine) cancelBlock(t *partial, b int, except *peer) {
	for _, p := range t.blocks[b].by {
		if p == nil || p == except {
			continue
		}
		if i := p.requests.find(t.piece, b); i >= 0 {
			e.recall(p, i)
			e.short = append(e.short, p)
		}
	}
}

// Got is one block that a peer delivered.
type Got struct {
	Piece, Block int
	Gen          uint32 // of the draft that took it
	Kept         bool   // false: the draft had it already, or there was none
}

// Blocks says that a peer delivered blocks, in this order, now.
func (e *Engine) Blocks(now time.Time, id PeerID, got []Got) {
	p := e.byID[id]
	if p == nil {
		e.blocksOfGone(now, id, got)
		return
	}
	at := e.since(now)
	p.bunched(at-p.lastBlock, len(got))
	p.lastBlock, p.gaveAt = at, at
	p.snubbed = false
	p.rejects = 0
	p.reported = 0
	bytes := 0
	var newest time.Duration // of the requests that are answered
	for _, g := range got {
		size := e.blockLen(g.Piece, g.Block)
		bytes += size
		if i := p.requests.find(g.Piece, g.Block); i >= 0 {
			r := p.requests.at(i)
			p.lat.add(at, at-r.at, r.bare)
			p.answered(r.at)
			newest = max(newest, r.at)
			p.requests.remove(i)
		} else {
			p.unrecall(g.Piece, g.Block)
		}
		e.block(p.id, p, g, size)
	}
	e.askAgain(at, p, newest)
	p.received += int64(bytes)
	p.rate.add(at, bytes)
	if p.owes() == 0 {
		p.rate.pause(at)
	}
	e.starved(p)
	e.resize(at, p)
	e.fill(now, p)
}

// blocksOfGone accounts blocks of a peer that left before its last event came.
func (e *Engine) blocksOfGone(now time.Time, id PeerID, got []Got) {
	for _, g := range got {
		e.block(id, nil, g, e.blockLen(g.Piece, g.Block))
	}
	e.refill(now)
}

func (e *Engine) block(id PeerID, p *peer, g Got, size int) {
	t := e.open[g.Piece]
	if !g.Kept || t == nil || t.gen != g.Gen || t.blocks[g.Block].state == blockGot {
		e.stats.Duplicate += int64(size)
		if p != nil && t != nil && !t.verifying {
			// Refused by the draft although we think it is open: somebody else's
			// block is under way in the inbox. Ours is answered either way.
			e.release(t, g.Block, p)
		}
		return
	}
	e.stats.Downloaded += int64(size)
	if p != nil && len(e.readers) > 0 && e.tier(g.Piece) <= tierAhead {
		p.reads += int64(size)
	}
	k := &t.blocks[g.Block]
	if k.state == blockFree { // released after a time-out, and here after all
		t.free--
		if t.free == 0 {
			e.tighten(t)
		}
	} else {
		e.cancelBlock(t, g.Block, p)
		t.asked--
	}
	*k = block{state: blockGot, from: id}
	t.got++
	if t.got == len(t.blocks) {
		t.verifying = true
		e.out = append(e.out, Action{Kind: Verify, Piece: t.piece, Digests: e.ban.suspected(t.piece)})
	}
}

func (e *Engine) blockLen(piece, b int) int {
	_, n := e.layout.Block(piece, b)
	return n
}
