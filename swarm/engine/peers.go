package engine

import (
	"slices"
	"time"

	"swarmfs/swarm/wire"
)

// Caps is what the handshake told about a peer.
type Caps struct {
	Fast bool // BEP 6: have all, have none, reject, allowed fast
	// DontHave is the peer's extended id of lt_donthave (BEP 54), 0 if unknown;
	// it may also come later with Extensions.
	DontHave uint8
	// MaxRequests is what the peer said it queues (reqq, BEP 10), 0 if unknown.
	MaxRequests int
	// Stream: it sends what lies in one run much more cheaply than what does not.
	Stream bool
}

// peer is one connection as the engine sees it.
type peer struct {
	id       PeerID
	caps     Caps
	dontHave uint8
	ready    bool // our bitfield is sent
	dropped  bool // Drop is on its way

	// What it has.
	pieces    Bitmap // nil while it is a seed or has nothing
	seed      bool
	fickle    bool // was a seed and let pieces go
	count     int
	lacking   int  // pieces it has and we do not
	told      bool // a bitfield, have all or have none came
	bitfields int  // that came later

	// Download.
	choked     bool // it chokes us
	interested bool // we are, and said so
	requests   requests
	recalled   requests      // cancelled and not answered yet
	passed     int           // the round of share in which it had nothing for a blocked read
	next       time.Duration // when it would deliver one more, in that round
	near       int           // where in them the next to be looked for likely is
	depth      int           // requests to keep outstanding
	probe      probe
	extra      int  // of them, because the queue ran dry (starved)
	full       bool // the queue was as deep as it may be when it was last filled
	rate       rate
	lat        latency
	lastBlock  time.Duration // or since when it owes us something
	snubbed    bool
	allowed    []int // allowed fast pieces
	rejects    int   // in a row
	reported   int   // breaches in a row that may be bad luck
	received   int64
	last       int // the piece of which it was asked for a block last; -1: none yet

	// Upload.
	choking   bool // we choke it
	wantsUs   bool // it is interested
	queue     []wire.Message
	inFlight  int   // blocks handed to the driver, not yet reported as sent
	handed    int64 // bytes of them
	sent      int64
	optimist  bool
	received0 int64 // at the last round of unchoking
	sent0     int64
	reads     int64         // received since then for readers
	worth     Bid           // over the last rounds, newer ones count for more
	gaveAt    time.Duration // when it sent a block last, or since when it owes us the first
}

// Bounds of what one peer may make us keep.
const (
	maxAllowedFast  = 16
	maxUploadQueue  = 500 // told as reqq
	uploadWindow    = 64  // blocks handed to the driver at a time: 1 MiB
	maxRejectsInRow = 100 // a peer that answers nothing but reject is of no use
	// Requests for what we do not have, or while choked, without a good one
	// between them. An honest peer may have a whole queue under way when we choke
	// it, or one for a piece that was evicted.
	maxMisbehaviour = 2 * maxUploadQueue
	// What a peer is asked for before it has shown what it delivers. Fewer leave a
	// path idle, more bind the first blocks of a read to a peer that may be slow.
	firstDepth   = 3
	maxBitfields = 1000 // each makes us count all pieces
)

func (p *peer) has(piece int) bool { return p.seed || p.pieces != nil && p.pieces.Has(piece) }

// PeerJoined says that the handshakes are done. The peer is told at once what
// we have.
func (e *Engine) PeerJoined(now time.Time, id PeerID, c Caps) {
	if e.byID[id] != nil {
		return
	}
	p := &peer{id: id, caps: c, dontHave: c.DontHave, choked: true, choking: true, last: -1, probe: probe{gain: 1}}
	p.depth = min(e.first, e.maxDepth(p))
	e.peers = append(e.peers, p)
	e.byID[id] = p
	e.choker.joined(e, p)
	p.ready = true
	switch {
	case c.Fast && e.haveN == e.n:
		e.send(p, wire.Message{Kind: wire.HaveAll})
	case c.Fast && e.haveN == 0:
		e.send(p, wire.Message{Kind: wire.HaveNone})
	case e.haveN > 0:
		e.send(p, wire.Message{Kind: wire.Bitfield, Data: wire.AppendBitfield(nil, e.have, e.n)})
	}
}

// Extensions says what the peer's extended handshake (BEP 10) told.
func (e *Engine) Extensions(id PeerID, c Caps) {
	if p := e.byID[id]; p != nil {
		p.dontHave = c.DontHave
		p.caps.MaxRequests = c.MaxRequests
		p.depth = min(p.depth, e.maxDepth(p))
	}
}

// PeerLeft says that a connection is gone.
func (e *Engine) PeerLeft(now time.Time, id PeerID) {
	p := e.byID[id]
	if p == nil {
		return
	}
	delete(e.byID, id)
	for i, q := range e.peers {
		if q == p {
			e.peers = append(e.peers[:i], e.peers[i+1:]...)
			break
		}
	}
	e.releaseAll(p)
	e.forgetPieces(p)
	e.choker.left(e, p)
	p.dropped = true
	e.handed -= p.handed
	e.fillAll(now)
	e.choker.fillSlots(e, e.since(now))
}

// releaseAll gives back everything that was asked of p.
func (e *Engine) releaseAll(p *peer) {
	for i := range p.requests.len() {
		r := p.requests.at(i)
		if t := e.open[r.piece]; t != nil {
			e.release(t, r.block, p)
		}
	}
	p.requests.clear()
	p.recalled.clear()
}

// Message takes one message of a peer, all but piece (see Blocks) and extended.
func (e *Engine) Message(now time.Time, id PeerID, m wire.Message) {
	p := e.byID[id]
	if p == nil || p.dropped {
		return
	}
	at := e.since(now)
	switch m.Kind {
	case wire.Choke:
		e.choke(now, p)
	case wire.Unchoke:
		if p.choked {
			p.choked = false
			e.fill(now, p)
		}
	case wire.Interested:
		p.wantsUs = true
		e.choker.fillSlots(e, at)
	case wire.NotInterested:
		p.wantsUs = false
		e.choker.uninterested(e, p, at)
	case wire.Have:
		e.peerHas(now, p, m.Index)
	case wire.Bitfield, wire.HaveAll, wire.HaveNone:
		e.bitfield(now, p, m)
	case wire.Request:
		e.requested(p, m)
	case wire.Cancel:
		e.cancelled(p, m)
	case wire.Reject:
		e.rejected(now, p, m)
	case wire.AllowedFast:
		if !p.caps.Fast {
			e.drop(p, false, "allowed fast without the fast extension")
			return
		}
		if int64(m.Index) < int64(e.n) && len(p.allowed) < maxAllowedFast {
			p.allowed = append(p.allowed, int(m.Index))
			e.fill(now, p)
		}
	}
}

func (e *Engine) choke(now time.Time, p *peer) {
	if p.choked {
		return
	}
	p.choked = true
	if p.caps.Fast {
		return // BEP 6: each request is answered, if only by a reject
	}
	e.releaseAll(p)
	e.fillAll(now)
}

func (e *Engine) rejected(now time.Time, p *peer, m wire.Message) {
	if !p.caps.Fast {
		e.drop(p, false, "reject without the fast extension")
		return
	}
	piece, b, ok := e.blockOf(m)
	if !ok {
		e.drop(p, false, "reject of what is no block")
		return
	}
	i := p.requests.find(piece, b)
	if i < 0 { // it crossed our cancel, or answers it
		if p.unrecall(piece, b) {
			e.fill(now, p)
		} else if p.rejects++; p.rejects > maxRejectsInRow {
			e.drop(p, false, "rejects what it was not asked for")
		}
		return
	}
	if p.requests.at(i).revived && !p.choked {
		e.resend(e.since(now), p, i) // the reject answers our cancel
		return
	}
	p.requests.remove(i)
	if t := e.open[piece]; t != nil {
		e.release(t, b, p)
	}
	if p.choked {
		// Allowed or not: asked again it would only reject again.
		p.allowed = slices.DeleteFunc(p.allowed, func(i int) bool { return i == piece })
		e.fillAll(now)
		return
	}
	// Unchoked and rejecting: it does not have what it says, or does not want
	// to give it. Ask the others first, and it again only when they are served.
	if p.rejects++; p.rejects > maxRejectsInRow {
		e.drop(p, false, "rejects every request")
		return
	}
	p.depth = max(1, p.depth/2)
	e.fillOthers(now, p)
}

// blockOf checks that a message names exactly one of our blocks.
func (e *Engine) blockOf(m wire.Message) (piece, b int, ok bool) {
	if int64(m.Index) >= int64(e.n) || m.Begin%blockSize != 0 {
		return 0, 0, false
	}
	piece, b = int(m.Index), int(m.Begin/blockSize)
	if b >= e.layout.NumBlocks(piece) || int(m.Length) != e.blockLen(piece, b) {
		return 0, 0, false
	}
	return piece, b, true
}

// bitfield takes what a peer says it has in all. It comes first, but some send
// one later in place of many haves (aria2 does): then it adds to what is known.
func (e *Engine) bitfield(now time.Time, p *peer, m wire.Message) {
	w := NewBitmap(e.n)
	switch m.Kind {
	case wire.HaveNone:
		if p.told || p.count > 0 {
			e.drop(p, false, "have none after it told what it has")
		}
		p.told = true
		return
	case wire.HaveAll:
		if p.told || p.count > 0 {
			e.drop(p, false, "have all after it told what it has")
			return
		}
		w.Fill(e.n)
	default:
		if err := wire.ParseBitfield(m.Data, e.n, w); err != nil {
			e.drop(p, false, "a malformed bitfield")
			return
		}
	}
	if p.told {
		if p.bitfields++; p.bitfields > maxBitfields || p.seed {
			e.drop(p, false, "too many bitfields")
			return
		}
	}
	p.told = true
	e.forgetPieces(p)
	for i := range p.pieces {
		w[i] |= p.pieces[i]
	}
	p.pieces, p.count = w, w.Count()
	if p.count == e.n && !p.fickle {
		e.becomeSeed(p)
	} else {
		e.countPieces(p, +1)
	}
	p.lacking = e.countLacking(p)
	e.updateInterest(p)
	e.fill(now, p)
}

func (e *Engine) becomeSeed(p *peer) {
	p.seed, p.count, p.pieces = true, e.n, nil
	e.seeds++
}

func (e *Engine) countLacking(p *peer) int {
	switch {
	case p.seed:
		return e.n - e.haveN
	case p.pieces == nil:
		return 0
	}
	n := 0
	for i := nextMissing(p.pieces, e.have, 0, e.n); i >= 0; i = nextMissing(p.pieces, e.have, i+1, e.n) {
		n++
	}
	return n
}

// countPieces adds or takes away the copies that a peer who is no seed has.
func (e *Engine) countPieces(p *peer, d int) {
	if e.avail == nil {
		e.avail = make([]uint16, e.n)
	}
	for i := nextBoth(p.pieces, p.pieces, 0, e.n); i >= 0; i = nextBoth(p.pieces, p.pieces, i+1, e.n) {
		e.count(i, d)
	}
}

func (e *Engine) count(piece, d int) {
	if d > 0 {
		e.avail[piece]++
		e.rarest.more(piece, e.rng)
	} else {
		e.avail[piece]--
		e.rarest.fewer(piece, e.rng)
	}
}

func (e *Engine) forgetPieces(p *peer) {
	if p.seed {
		e.seeds--
	} else if p.pieces != nil {
		e.countPieces(p, -1)
	}
}

func (e *Engine) peerHas(now time.Time, p *peer, index uint32) {
	if int64(index) >= int64(e.n) {
		e.drop(p, false, "have of a piece beyond the end")
		return
	}
	piece := int(index)
	if p.has(piece) {
		return
	}
	if p.pieces == nil {
		p.pieces = NewBitmap(e.n)
	}
	if e.avail == nil {
		e.avail = make([]uint16, e.n)
	}
	p.pieces.Set(piece)
	p.count++
	e.count(piece, +1)
	if p.count == e.n && !p.fickle { // or two tiny messages could make us count all pieces, over and over
		e.countPieces(p, -1)
		e.becomeSeed(p)
	}
	if e.have.Has(piece) {
		return
	}
	p.lacking++
	e.updateInterest(p)
	if e.wanted(piece) {
		e.fill(now, p)
	}
}

// DontHave says that a peer let a piece go (BEP 54). Without the fast extension
// that answers our requests for it too.
func (e *Engine) DontHave(now time.Time, id PeerID, index uint32) {
	p := e.byID[id]
	if p == nil || p.dropped || int64(index) >= int64(e.n) || !p.has(int(index)) {
		return
	}
	piece := int(index)
	if p.seed {
		p.seed, p.fickle = false, true
		e.seeds--
		p.pieces = NewBitmap(e.n)
		p.pieces.Fill(e.n)
		e.countPieces(p, +1)
	}
	p.pieces.Clear(piece)
	p.count--
	e.count(piece, -1)
	if e.have.Has(piece) {
		// It was not told when we got the piece, since it had it.
		e.send(p, wire.Message{Kind: wire.Have, Index: index})
		return
	}
	p.lacking--
	e.updateInterest(p)
	if !p.caps.Fast {
		e.releasePiece(p, piece)
		e.fillAll(now)
	}
}

// releasePiece gives back what was asked of p in one piece.
func (e *Engine) releasePiece(p *peer, piece int) {
	t := e.open[piece]
	if t == nil {
		return
	}
	for i := p.requests.len() - 1; i >= 0; i-- {
		if r := *p.requests.at(i); r.piece == piece {
			p.requests.remove(i)
			e.release(t, r.block, p)
		}
	}
}

// updateInterest tells a peer when we start or stop to want something of it.
func (e *Engine) updateInterest(p *peer) {
	want := p.lacking > 0
	if want == p.interested || p.dropped {
		return
	}
	p.interested = want
	kind := wire.NotInterested
	if want {
		kind = wire.Interested
	}
	e.send(p, wire.Message{Kind: kind})
}
