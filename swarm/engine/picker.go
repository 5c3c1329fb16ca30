package engine

import (
	"math"
	"time"

	"swarmfs/swarm/wire"
)

// fill asks p for blocks until its queue is full or it has nothing that is
// wanted, and then whoever lost requests by it.
func (e *Engine) fill(now time.Time, p *peer) {
	at := e.since(now)
	e.fillOne(at, p)
	e.refill(now)
}

// refill fills the queues that another peer's block, or a piece that needed the
// memory, has cut short.
func (e *Engine) refill(now time.Time) {
	at := e.since(now)
	for len(e.short) > 0 {
		p := e.short[len(e.short)-1]
		e.short = e.short[:len(e.short)-1]
		e.fillOne(at, p)
	}
}

func (e *Engine) fillOne(at time.Duration, p *peer) {
	for e.mayAsk(p) {
		if e.hasten(at, p) {
			continue
		}
		t := e.pick(at, p)
		if t == nil {
			break
		}
		e.askNext(at, p, t)
	}
	p.full = p.requests.len() >= p.depth
	if p.requests.len() == 0 && e.mayAsk(p) {
		e.help(at, p)
	}
}

// fillAll shares what reads are blocked on among the peers who deliver it first,
// then fills every peer's queue.
func (e *Engine) fillAll(now time.Time) {
	e.share(e.since(now))
	e.shared = true
	for _, p := range e.peers {
		e.fill(now, p)
	}
	e.shared = false
}

// fillOthers is fillAll without the peer that has just failed us.
func (e *Engine) fillOthers(now time.Time, failed *peer) {
	for _, p := range e.peers {
		if p != failed {
			e.fill(now, p)
		}
	}
}

func (e *Engine) mayAsk(p *peer) bool {
	if p.dropped || p.lacking == 0 || p.choked && len(p.allowed) == 0 {
		return false
	}
	depth := p.depth
	if p.snubbed {
		depth = 1
	}
	return p.requests.len() < depth
}

// askNext asks p for the next free block of t; for all of them, as far as p
// takes so many, if the piece failed before: then one peer is to send it whole. So
// is a peer that has pieces of its own.
func (e *Engine) askNext(at time.Duration, p *peer, t *partial) {
	e.ask(at, p, t, e.take(t, p))
	if !e.ban.suspected(t.piece) && (e.tier(t.piece) == tierBlocked || !e.ownPieces(p)) {
		return
	}
	for t.free > 0 && p.requests.len() < e.maxDepth(p) {
		e.ask(at, p, t, e.take(t, p))
	}
}

func (e *Engine) ask(at time.Duration, p *peer, t *partial, b int) {
	if p.requests.len() == 0 {
		p.lastBlock = at
		if !p.snubbed {
			p.gaveAt = at
		}
	}
	if p.owes() == 0 {
		p.rate.begin(at)
	}
	p.last = t.piece
	e.stats.Requested++
	if i := p.recalled.find(t.piece, b); i >= 0 {
		// The cancel may come too late: asked again the block would come twice.
		r := *p.recalled.at(i)
		p.recalled.remove(i)
		r.due, r.revived = at+e.finish(p, 1), true
		p.requests.push(r)
		return
	}
	p.requests.push(request{
		piece: t.piece, block: b, at: at, due: at + e.finish(p, 1), bare: p.requests.len() < bareQueue,
	})
	e.sendRequest(p, wire.Request, t.piece, b)
}

func (e *Engine) sendRequest(p *peer, kind wire.Kind, piece, b int) {
	begin, n := e.layout.Block(piece, b)
	e.send(p, wire.Message{Kind: kind, Index: uint32(piece), Begin: uint32(begin), Length: uint32(n)})
}

// askAgain sends the revived requests that the peer was sent before a time: it has
// passed over them, as it did not have to answer twice. So it does those that are
// overdue: not every peer answers a cancel.
func (e *Engine) askAgain(at time.Duration, p *peer, before time.Duration) {
	for i := 0; i < p.requests.len(); {
		r := p.requests.at(i)
		if !r.revived || r.at >= before && at < r.due+2*p.lat.dev+hastenAfter {
			i++
			continue
		}
		e.resend(at, p, i)
		i = 0
	}
}

// resend sends the ith request of a peer once more.
func (e *Engine) resend(at time.Duration, p *peer, i int) {
	r := *p.requests.at(i)
	p.requests.remove(i)
	r.at, r.due, r.bare, r.revived = at, at+e.finish(p, 1), false, false
	p.requests.push(r)
	e.sendRequest(p, wire.Request, r.piece, r.block)
}

// recall takes back the ith request of a peer. What is on its way already comes
// all the same: until the peer has answered, which with the fast extension it
// always does, it still owes the block.
func (e *Engine) recall(p *peer, i int) {
	r := *p.requests.at(i)
	p.requests.remove(i)
	if p.caps.Fast {
		if p.recalled.len() >= maxRecalled {
			p.recalled.remove(0)
		}
		p.recalled.push(r)
	}
	e.stats.Cancelled++
	if !r.revived { // else that was sent before
		e.sendRequest(p, wire.Cancel, r.piece, r.block)
	}
}

// pick returns the draft, opened if need be, of which p should send the next
// free block; nil when p has nothing that is wanted and can be started.
func (e *Engine) pick(at time.Duration, p *peer) *partial {
	switch {
	case p.choked:
		return e.pickAllowed(p)
	case p.snubbed:
		return e.pickSnubbed(p)
	}
	if p.passed != e.sharing || !e.shared { // or it has just been through them
		if t := e.pickBlocked(at, p); t != nil {
			return t
		}
	}
	if t := e.pickAhead(at, p); t != nil {
		return t
	}
	return e.pickBackground(p)
}

// So many pieces are weighed for one block.
const maxWeighed = 16

// pickBlocked serves the read that waits longest. What the others have in time
// without p it leaves to them.
func (e *Engine) pickBlocked(at time.Duration, p *peer) *partial {
	weighed := 0
	for _, r := range e.readers[:e.blocked] {
		i := e.nextFree(p, r.win.Need, r.win.Goal)
		if i >= 0 && e.tooLate(at, p, r) {
			continue
		}
		for ; i >= 0 && weighed < maxWeighed; weighed++ {
			next := e.nextFree(p, i+1, r.win.Goal)
			if next < 0 || !e.canSpare(at, p, r, i, next) {
				break
			}
			i = next
		}
		if i < 0 {
			continue
		}
		want := tierBlocked
		if i >= r.win.NeedEnd {
			want = tierAhead
		}
		if t := e.openOr(i, want); t != nil {
			return t
		}
		// No memory for the first piece of a read: finish one that is open.
		if t := e.pickLoose(p, tierBlocked); t != nil {
			return t
		}
	}
	return nil
}

// nextFree returns the first piece in [from, end) that p has and that has free
// blocks, or -1.
func (e *Engine) nextFree(p *peer, from, end int) int {
	switch {
	case p.seed:
		return nextBoth(e.free, e.free, from, end)
	case p.pieces == nil:
		return -1
	}
	return nextBoth(e.free, p.pieces, from, end)
}

func (e *Engine) openOr(piece int, want tier) *partial {
	if t := e.open[piece]; t != nil {
		return t
	}
	return e.openPartial(piece, want)
}

// pickAhead serves the reader whose next missing piece is nearest to where it
// reads. A slow peer leaves to the others what the readers get to before it
// would deliver.
func (e *Engine) pickAhead(at time.Duration, p *peer) *partial {
	if e.ownPieces(p) {
		if t := e.pickRun(p); t != nil {
			return t
		}
	}
	best, distance, weighed := -1, 0, 0
	late := e.lateness(p)
	for _, r := range e.readers {
		i := e.nextFree(p, min(r.win.Pos+late, r.win.End), r.win.End)
		for i >= 0 && e.inGoal(i) {
			i = e.nextFree(p, i+1, r.win.End)
		}
		whole := i < 0 && late > 0 // p is late for the whole window
		if whole {
			i = e.lastFree(p, r.win.Pos, r.win.End)
		}
		if i < 0 || best >= 0 && i-r.win.Pos >= distance {
			continue
		}
		if whole {
			if weighed++; weighed > maxHastened || e.tooLateAhead(at, p, r) && e.elsewhere(p, i) {
				continue
			}
		}
		best, distance = i, i-r.win.Pos
	}
	for _, r := range e.readers {
		// What was just taken back of it would come twice.
		if best < 0 && r.later > 0 && p.recalled.len() == 0 {
			best = e.nextFree(p, r.win.Need, r.win.NeedEnd)
		}
	}
	if best < 0 {
		return nil
	}
	if t := e.openOr(best, tierAhead); t != nil {
		return t
	}
	// No memory for a new draft: finish one that is open.
	return e.pickLoose(p, tierAhead)
}

// lateness is how many pieces all peers together deliver while p delivers one
// block; none when it is less than one.
func (e *Engine) lateness(p *peer) int { return e.latePieces(p, 1) }

// latePieces is the same while p delivers so many blocks.
func (e *Engine) latePieces(p *peer, blocks int) int {
	pieces := e.finish(p, blocks).Seconds() * e.together / float64(e.layout.PieceLength)
	if pieces < 1 {
		return 0
	}
	return int(math.Ceil(min(pieces, float64(e.n))))
}

// lastFree is nextFree from the other end.
func (e *Engine) lastFree(p *peer, from, end int) int {
	for i := end - 1; i >= from; i-- {
		if e.free.Has(i) && p.has(i) && !e.inGoal(i) {
			return i
		}
	}
	return -1
}

// pickLoose returns an open draft with free blocks that p has, wanted at least
// as much as limit says.
func (e *Engine) pickLoose(p *peer, limit tier) *partial {
	var best *partial
	for _, t := range e.loose {
		if p.has(t.piece) && e.tier(t.piece) <= limit && (best == nil || t.free < best.free) {
			best = t
		}
	}
	return best
}

// How many pieces of the rarest-first order are looked at before a peer that
// has few of them is searched by its own list instead.
const rarestProbes = 64

// Pieces begun and asked of nobody in part are memory that serves nobody, and
// are fetched again after a crash. Beyond one and a half a peer, or so many bytes
// of them, another is begun only for a peer that would be idle. (The bounds are
// libtorrent's.)
const maxLoose = 32 << 20

// pickBackground goes on with what is begun before it begins another piece, so
// that few are half done.
func (e *Engine) pickBackground(p *peer) *partial {
	if e.background == nil {
		return nil
	}
	own := e.ownPieces(p)
	if !own {
		if t := e.pickLoose(p, tierBackground); t != nil {
			return t
		}
	}
	begun := len(e.loose)
	if p.requests.len() > 0 && (2*begun >= 3*len(e.peers) || int64(begun)*e.layout.PieceLength >= maxLoose) {
		return nil
	}
	if i := e.rarestOf(p); i >= 0 {
		return e.openPartial(i, tierBackground)
	}
	if own {
		return e.pickLoose(p, tierBackground)
	}
	return nil
}

func (e *Engine) rarestOf(p *peer) int {
	if next := e.nextInRun(p); next >= 0 {
		return next
	}
	list := e.rarest.order
	if !p.seed && len(list) > 0 {
		list = list[e.rarest.start[1]:] // the others have no copy but at seeds
	}
	for _, i := range list[:min(len(list), rarestProbes)] {
		if p.has(int(i)) {
			return e.runStart(p, int(i))
		}
	}
	if p.pieces == nil || len(list) <= rarestProbes {
		return -1
	}
	// The rarest are elsewhere: of what the peer has, look at as many again from
	// a random place on.
	best, from := -1, e.rng.IntN(e.n)
	probes := 0
	for _, span := range [2][2]int{{from, e.n}, {0, from}} {
		i := nextBoth(e.rarest.listed, p.pieces, span[0], span[1])
		for ; i >= 0 && probes < rarestProbes; i = nextBoth(e.rarest.listed, p.pieces, i+1, span[1]) {
			probes++
			if best < 0 || e.avail[i] < e.avail[best] {
				best = i
			}
		}
	}
	return best
}

// pickAllowed is for a peer that chokes us but lets us have some pieces (BEP 6).
func (e *Engine) pickAllowed(p *peer) *partial {
	for _, i := range p.allowed {
		if p.has(i) && e.free.Has(i) && e.wanted(i) {
			if t := e.openOr(i, e.tier(i)); t != nil {
				return t
			}
		}
	}
	return nil
}

// pickSnubbed is for a peer that went silent. A read is blocked on it only if
// nobody else can help; otherwise it is tried with what is wanted last, to see
// whether it is back.
func (e *Engine) pickSnubbed(p *peer) *partial {
	best := -1
	for _, r := range e.readers {
		for i := e.nextFree(p, r.win.Need, r.win.NeedEnd); i >= 0; i = e.nextFree(p, i+1, r.win.NeedEnd) {
			if !e.elsewhere(p, i) {
				return e.openOr(i, tierBlocked)
			}
		}
		for i := r.win.End - 1; best < 0 && i >= r.win.Pos; i-- {
			if e.free.Has(i) && p.has(i) && e.tier(i) == tierAhead {
				best = i
			}
		}
	}
	if e.background != nil {
		for _, t := range e.loose {
			if p.has(t.piece) && e.tier(t.piece) == tierBackground {
				return t
			}
		}
		if i := e.rarestOf(p); i >= 0 && e.tier(i) == tierBackground {
			if t := e.openPartial(i, tierBackground); t != nil {
				return t
			}
		}
	}
	if best < 0 {
		return nil
	}
	return e.openOr(best, tierAhead)
}

// share gives what reads are blocked on to the peers block by block: each time
// to the one with room in its queue that is expected to deliver first.
func (e *Engine) share(at time.Duration) {
	if e.blocked == 0 {
		return
	}
	e.sharing++
	for _, p := range e.peers {
		if p.choked || p.snubbed || !e.mayAsk(p) {
			p.passed = e.sharing
			continue
		}
		p.next = e.finish(p, 1)
	}
	for {
		var best *peer
		for _, p := range e.peers {
			if p.passed != e.sharing && (best == nil || p.next < best.next) {
				best = p
			}
		}
		if best == nil {
			return
		}
		t := e.pickBlocked(at, best)
		if t != nil {
			e.askNext(at, best, t)
			best.next = e.finish(best, 1)
		}
		if t == nil || !e.mayAsk(best) {
			best.passed = e.sharing
		}
	}
}

// soonest returns the peer that is expected to deliver one more block of the
// piece first, other than two; nil when nobody is.
func (e *Engine) soonest(piece int, but, nor *peer) *peer {
	var best *peer
	var first time.Duration
	for _, p := range e.peers {
		if p == but || p == nor || p.dropped || p.choked || p.snubbed || !p.has(piece) || p.requests.len() >= e.maxDepth(p) {
			continue
		}
		if f := e.finish(p, 1); best == nil || f < first {
			best, first = p, f
		}
	}
	return best
}
