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
		t := e.pick(p)
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
	for _, r := range e.readers[:e.blocked] {
		e.assign(e.since(now), r)
	}
	for _, p := range e.peers {
		e.fill(now, p)
	}
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
// takes so many, if the piece failed before: then one peer is to send it whole.
func (e *Engine) askNext(at time.Duration, p *peer, t *partial) {
	e.ask(at, p, t, e.take(t, p))
	if !e.ban.suspected(t.piece) {
		return
	}
	for t.free > 0 && p.requests.len() < e.maxDepth(p) {
		e.ask(at, p, t, e.take(t, p))
	}
}

func (e *Engine) ask(at time.Duration, p *peer, t *partial, b int) {
	if p.requests.len() == 0 {
		p.lastBlock = at
		p.rate.begin(at)
	}
	p.requests.push(request{
		piece: t.piece, block: b, at: at, due: at + e.finish(p, 1), bare: p.requests.len() < bareQueue,
	})
	begin, n := e.layout.Block(t.piece, b)
	e.stats.Requested++
	e.send(p, wire.Message{Kind: wire.Request, Index: uint32(t.piece), Begin: uint32(begin), Length: uint32(n)})
}

func (e *Engine) sendCancel(p *peer, piece, b int) {
	begin, n := e.layout.Block(piece, b)
	e.stats.Cancelled++
	e.send(p, wire.Message{Kind: wire.Cancel, Index: uint32(piece), Begin: uint32(begin), Length: uint32(n)})
}

// pick returns the draft, opened if need be, of which p should send the next
// free block; nil when p has nothing that is wanted and can be started.
func (e *Engine) pick(p *peer) *partial {
	switch {
	case p.choked:
		return e.pickAllowed(p)
	case p.snubbed:
		return e.pickSnubbed(p)
	}
	if t := e.pickBlocked(p); t != nil {
		return t
	}
	if t := e.pickAhead(p); t != nil {
		return t
	}
	return e.pickBackground(p)
}

// pickBlocked serves the read that waits longest.
func (e *Engine) pickBlocked(p *peer) *partial {
	for _, r := range e.readers[:e.blocked] {
		if i := e.nextFree(p, r.win.Need, r.win.NeedEnd); i >= 0 {
			if t := e.openOr(i, tierBlocked); t != nil {
				return t
			}
			// No memory for the first piece of a read: finish one that is open.
			if t := e.pickLoose(p, tierBlocked); t != nil {
				return t
			}
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
func (e *Engine) pickAhead(p *peer) *partial {
	best, distance := -1, 0
	late := e.lateness(p)
	for _, r := range e.readers {
		i := e.nextFree(p, min(r.win.Pos+late, r.win.End), r.win.End)
		if i < 0 && late > 0 {
			i = e.lastFree(p, r.win.Pos, r.win.End)
		}
		if i >= 0 && (best < 0 || i-r.win.Pos < distance) {
			best, distance = i, i-r.win.Pos
		}
	}
	for _, r := range e.readers {
		if best < 0 && r.later > 0 {
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
func (e *Engine) lateness(p *peer) int {
	pieces := e.finish(p, 1).Seconds() * e.together / float64(e.layout.PieceLength)
	if pieces < 1 {
		return 0
	}
	return int(math.Ceil(min(pieces, float64(e.n))))
}

// lastFree is nextFree from the other end.
func (e *Engine) lastFree(p *peer, from, end int) int {
	for i := end - 1; i >= from; i-- {
		if e.free.Has(i) && p.has(i) {
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

// pickBackground goes on with what is begun before it begins another piece, so
// that few are half done.
func (e *Engine) pickBackground(p *peer) *partial {
	if e.background == nil {
		return nil
	}
	if t := e.pickLoose(p, tierBackground); t != nil {
		return t
	}
	if i := e.rarestOf(p); i >= 0 {
		return e.openPartial(i, tierBackground)
	}
	return nil
}

func (e *Engine) rarestOf(p *peer) int {
	list := e.rarest.order
	if !p.seed && len(list) > 0 {
		list = list[e.rarest.start[1]:] // the others have no copy but at seeds
	}
	for _, i := range list[:min(len(list), rarestProbes)] {
		if p.has(int(i)) {
			return int(i)
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

// assign shares the pieces that a read is blocked on among the peers: each free
// block goes to whoever is expected to deliver it first.
func (e *Engine) assign(at time.Duration, r *reader) {
	for i := nextBoth(e.free, e.free, r.win.Need, r.win.NeedEnd); i >= 0; i = nextBoth(e.free, e.free, i+1, r.win.NeedEnd) {
		for {
			p := e.soonest(i, nil)
			if p == nil {
				break
			}
			t := e.openOr(i, tierBlocked)
			if t == nil {
				break
			}
			e.askNext(at, p, t)
			if t.free == 0 {
				break
			}
		}
	}
}

// A peer whose queue lasts longer gets no more urgent blocks: another may come
// free before.
const urgentQueue = 2 * time.Second

// soonest returns the peer that is expected to deliver one more block of the
// piece first, other than but; nil when nobody is.
func (e *Engine) soonest(piece int, but *peer) *peer {
	var best *peer
	var first time.Duration
	for _, p := range e.peers {
		if p == but || p.dropped || p.choked || p.snubbed || !p.has(piece) || p.requests.len() >= e.maxDepth(p) {
			continue
		}
		if f := e.finish(p, 1); f < urgentQueue && (best == nil || f < first) {
			best, first = p, f
		}
	}
	return best
}

// Guesses for a peer that has not delivered yet: middling, so that it is tried
// after the good ones and before the bad ones.
const (
	guessRate = 1 << 20 // bytes/s, until another peer has shown what is usual here
	guessTrip = 50 * time.Millisecond
)

// speed returns what p delivers, in bytes/s, and its bare round trip.
func (e *Engine) speed(p *peer) (perSec float64, trip time.Duration) {
	switch {
	case p.rate.perSec > 0:
		perSec = p.rate.perSec
	case e.usual > 0:
		perSec = e.usual
	default:
		perSec = guessRate
	}
	if p.lat.floor == 0 {
		return perSec, guessTrip
	}
	// The quickest answer took the trip and the time that one block takes.
	return perSec, max(0, p.lat.floor-blockTime(perSec))
}

// blockTime is how long one block takes at a rate.
func blockTime(perSec float64) time.Duration {
	return time.Duration(blockSize / perSec * float64(time.Second))
}

// finish estimates how long p takes to deliver all that is outstanding and the
// given number of blocks more.
func (e *Engine) finish(p *peer, blocks int) time.Duration {
	perSec, trip := e.speed(p)
	return trip + time.Duration(p.requests.len()+blocks)*blockTime(perSec)
}

// help gives an idle peer a block that another was asked for and is expected to
// deliver later than p would: the end-game, for one reader's piece or for the
// whole torrent. A block is asked of two peers at most; whoever is late gets a
// cancel.
func (e *Engine) help(at time.Duration, p *peer) {
	if p.choked || p.snubbed {
		return
	}
	for _, r := range e.readers[:e.blocked] {
		if e.helpRange(at, p, r.win.Need, r.win.NeedEnd) {
			return
		}
	}
	for _, r := range e.readers {
		if e.helpRange(at, p, r.win.Pos, min(r.win.End, r.win.Pos+2)) {
			return
		}
	}
	if e.background != nil && e.rarest.len() == 0 {
		e.helpBackground(at, p)
	}
}

func (e *Engine) helpRange(at time.Duration, p *peer, from, end int) bool {
	for i := from; i < end; i++ {
		if t := e.open[i]; t != nil && p.has(i) && e.helpPartial(at, p, t, e.finish(p, 1)*3/2) {
			return true
		}
	}
	return false
}

func (e *Engine) helpBackground(at time.Duration, p *peer) {
	var best *partial
	for _, t := range e.open { // in any order: the choice has no ties
		if t.asked > 0 && p.has(t.piece) && (best == nil || t.asked < best.asked || t.asked == best.asked && t.piece < best.piece) {
			best = t
		}
	}
	if best != nil {
		e.helpPartial(at, p, best, e.finish(p, 1))
	}
}

// A read is not to wait for one slow peer while a quicker one takes what is
// wanted less: a block that is due so much later than that one would deliver it
// is asked of both. Between peers of one kind it never is.
const hastenAfter = 100 * time.Millisecond

// hasten asks p for a block that a read is blocked on and that another peer is
// expected to deliver much later.
func (e *Engine) hasten(at time.Duration, p *peer) bool {
	if e.blocked == 0 || p.choked || p.snubbed {
		return false
	}
	for _, r := range e.readers[:e.blocked] {
		if e.nextFree(p, r.win.Need, r.win.NeedEnd) >= 0 {
			return false // there is something that nobody was asked for
		}
		for i := r.win.Need; i < r.win.NeedEnd; i++ {
			t := e.open[i]
			if t != nil && p.has(i) && e.helpPartial(at, p, t, 2*e.finish(p, 1)+hastenAfter) {
				return true
			}
		}
	}
	return false
}

// hedge asks a second peer for what a read is blocked on and what is overdue: by
// half of what it was expected to take, and more than the holder's answers
// usually vary.
func (e *Engine) hedge(at time.Duration) {
	for _, r := range e.readers[:e.blocked] {
		for i := r.win.Need; i < r.win.NeedEnd; i++ {
			if t := e.open[i]; t != nil && t.asked > 0 && !e.ban.suspected(i) {
				e.hedgePartial(at, t)
			}
		}
	}
}

func (e *Engine) hedgePartial(at time.Duration, t *partial) {
	for b := range t.blocks {
		k := &t.blocks[b]
		if k.state != blockAsked || k.by[1] != nil {
			continue
		}
		holder := k.by[0]
		j := holder.requests.findFrom(holder.near, t.piece, b)
		if j < 0 {
			continue
		}
		holder.near = j + 1
		q := holder.requests.at(j)
		if at < q.due+(q.due-q.at)/2+2*holder.lat.dev+hastenAfter {
			continue
		}
		p := e.soonest(t.piece, holder)
		if p == nil {
			return
		}
		if e.finish(p, 1) < at-q.at { // it may well take as long again
			k.by[1] = p
			e.ask(at, p, t, b)
		}
	}
}

// helpPartial takes the block of t that is expected last, if that is later than
// so long from now.
func (e *Engine) helpPartial(at time.Duration, p *peer, t *partial, mine time.Duration) bool {
	if t.asked == 0 || e.ban.suspected(t.piece) {
		return false
	}
	if t.last.at == at && t.last.asked == e.stats.Requested && mine >= t.last.due {
		return false
	}
	best, latest := -1, mine
	t.last = lastDue{at: at, asked: e.stats.Requested}
	for b := range t.blocks {
		k := &t.blocks[b]
		if k.state != blockAsked || k.by[1] != nil {
			continue
		}
		f := e.due(at, k.by[0], t.piece, b)
		t.last.due = max(t.last.due, f)
		if f > latest && k.by[0] != p {
			best, latest = b, f
		}
	}
	if best < 0 {
		return false
	}
	t.blocks[best].by[1] = p
	e.ask(at, p, t, best)
	return true
}

// due estimates how long from now the peer takes to deliver a block that it was
// asked for. What is overdue is trusted less the longer it is.
func (e *Engine) due(at time.Duration, p *peer, piece, b int) time.Duration {
	i := p.requests.findFrom(p.near, piece, b)
	if i < 0 {
		return 0
	}
	p.near = i + 1
	waited := at - p.requests.at(i).at
	f := e.finish(p, i+1-p.requests.len())
	if waited > f {
		return waited
	}
	return f
}

// maxDepth is how many requests the peer takes.
func (e *Engine) maxDepth(p *peer) int {
	m := e.cfg.MaxRequests
	if r := p.caps.MaxRequests; r > 0 {
		m = min(m, r)
	}
	return max(1, m)
}

// Beyond the bandwidth × delay product a queue holds what the peer needs to
// keep its own pipeline busy between two of our refills.
const queueMargin = 20 * time.Millisecond

// A request that finds fewer than so many outstanding measures the bare round
// trip. One would leave the path idle for longer.
const bareQueue = 2

// resize sets how many requests p should have outstanding: rate × one and a
// half bare round trips, so that it grows while the path takes more, and stays
// so shallow that an urgent block never waits long behind our own.
func (e *Engine) resize(at time.Duration, p *peer) {
	if p.rate.perSec == 0 {
		return
	}
	e.usual += (p.rate.perSec - e.usual) / 8
	if p.lat.stale(at) {
		p.depth = min(bareQueue, e.maxDepth(p))
		return
	}
	perSec, trip := e.speed(p)
	bytes := perSec * (trip*3/2 + queueMargin).Seconds()
	// A deeper queue may help a peer, but not at the cost of the next urgent block.
	deepest := max(bytes, perSec*(trip+maxQueueing).Seconds())
	p.depth = min(2+int(min(bytes*p.probe.gain, deepest)/blockSize)+p.extra, e.maxDepth(p))
}

// How long the requests beyond the bare round trip may take at the most.
const maxQueueing = 80 * time.Millisecond

// probe tries whether a deeper queue makes a peer quicker: what it does between a
// request and its answer (a disk, threads, batches) is not in the bare round
// trip. As long as it does, the queue grows; when not, it goes back, and that is
// found out again some seconds later. (BBR probes for bandwidth in this way.)
type probe struct {
	gain    float64 // by which the queue is deeper
	growing bool
	next    time.Duration
	at      time.Duration // since when bytes are counted
	bytes   int64         // received until then
	last    float64       // bytes/s before the last step
}

const (
	probeStep   = 1.5
	probeWorth  = 1.15 // times the rate, or the step was in vain
	probeMax    = 16
	probePeriod = 100 * time.Millisecond
	probeRest   = 5 * time.Second
	probeBlocks = 32 // fewer in a period tell nothing
)

func (p *peer) tryDeeper(at time.Duration) {
	b := &p.probe
	if at < b.next || p.received-b.bytes < probeBlocks*blockSize {
		return
	}
	perSec := float64(p.received-b.bytes) / (at - b.at).Seconds()
	b.at, b.bytes, b.next = at, p.received, at+probePeriod
	switch {
	case !p.full: // nothing is asked of it, or its own reqq is the limit
		b.growing = false
	case b.growing && perSec < b.last*probeWorth:
		b.gain = max(1, b.gain/probeStep)
		b.growing = false
		b.next = at + probeRest
	default:
		b.growing, b.last = true, perSec
		b.gain = min(b.gain*probeStep, probeMax)
	}
}

// starved deepens the queue of a peer that has answered all of a full one: it
// could have sent more. Some serve in bursts (Transmission every 500 ms), and
// neither their rate nor their round trip tells how much they would take.
func (e *Engine) starved(p *peer) {
	if p.full && p.requests.len() == 0 {
		p.extra = min(max(2*p.extra, p.depth), e.maxDepth(p))
	}
}

// ease takes a part of that back now and then.
func (p *peer) ease() { p.extra -= (p.extra + 15) / 16 }
