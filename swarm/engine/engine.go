package engine

import (
	"math/rand/v2"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

const blockSize = metainfo.BlockSize

// Config holds what the driver decides once for a torrent.
type Config struct {
	// Drafts holds the memory of pieces in assembly.
	Drafts Drafts
	// Slots gives the torrent its places for peers that may download from us.
	// Default: 8 of its own.
	Slots Slots
	// MaxRequests caps the requests outstanding at one peer. Default 500, what
	// libtorrent asks for and every client takes.
	MaxRequests int
}

// Drafts is the memory of pieces in assembly, which the driver keeps. It must not
// call the Engine.
type Drafts interface {
	// Open begins a draft if there is memory for it. Urgent is set when a read
	// is blocked on the piece. The generation tells the draft from earlier ones
	// of the same piece.
	Open(piece int, urgent bool) (gen uint32, ok bool)
	// Discard throws an open draft away.
	Discard(piece int)
}

// Engine is the state of one torrent. It is not safe for concurrent use: the
// torrent's loop owns it.
type Engine struct {
	cfg    Config
	layout metainfo.Layout
	n      int // pieces
	rng    *rand.Rand
	epoch  time.Time
	at     time.Duration // since the epoch, when the driver called last

	have    Bitmap // verified and held
	haveN   int
	free    Bitmap // not held, and at least one block is neither asked for nor received
	open    map[int]*partial
	loose   []*partial    // the open ones that have free blocks
	spare   []*partial    // for reuse
	crowded time.Duration // until then no background piece is begun (reclaim)
	refused tier          // what is wanted no more than this got no memory; until some may be free

	peers  []*peer // in the order of joining
	byID   map[PeerID]*peer
	avail  []uint16 // copies of a piece among the peers that are not seeds; nil until needed
	seeds  int      // connected peers that have everything
	rarest rarest
	short  []*peer // lost a request to another peer's block, or to a stronger piece

	background Bitmap    // what is fetched when nothing else is wanted; nil: nothing
	readers    []*reader // blocked ones first
	byReader   map[ReaderID]*reader
	blocked    int     // how many of them are
	usual      float64 // bytes/s of a peer here, smoothed; 0: nobody has delivered
	together   float64 // bytes/s of all peers that let us download
	shared     bool    // who has passed in the newest round of share has nothing to do there
	sharing    int     // counts the rounds of share
	first      int     // firstDepth, but for tests that count blocks
	crews      [2]crew // for reuse
	jumped     bool    // a window has moved away from what was asked for

	choker    choker
	allowed   int64 // Stats.Uploaded may become
	handed    int64 // bytes of blocks that the driver has and has not reported
	uploading bool  // peers may be unchoked
	ban       smartBan
	stats     Stats
	watched   time.Duration // when silent peers were last looked for
	helped    time.Duration // and when idle ones could help
	eased     time.Duration // when deepened queues last gave something back
	out       []Action
}

// Stats counts what has happened since New. Bytes are payload. Downloaded less Failed
// and Discarded is what verified pieces and the open drafts hold.
type Stats struct {
	Downloaded int64 // received and kept, not yet necessarily verified
	Duplicate  int64 // received twice: end-game, or too late
	Failed     int64 // in pieces that did not verify
	Discarded  int64 // in pieces that were given up before they were whole, or came from elsewhere
	Uploaded   int64
	Requested  int64 // blocks asked for
	Cancelled  int64 // requests taken back
	Snubs      int64 // peers that went silent with requests outstanding
	Bans       int64
}

// Plus returns the sum of two counts.
func (s Stats) Plus(o Stats) Stats {
	s.Downloaded += o.Downloaded
	s.Duplicate += o.Duplicate
	s.Failed += o.Failed
	s.Discarded += o.Discarded
	s.Uploaded += o.Uploaded
	s.Requested += o.Requested
	s.Cancelled += o.Cancelled
	s.Snubs += o.Snubs
	s.Bans += o.Bans
	return s
}

// New returns the engine of a torrent of which the pieces in have are held.
// The slice have is copied.
func New(cfg Config, layout metainfo.Layout, have []uint64, rng *rand.Rand, now time.Time) *Engine {
	if cfg.Slots == nil {
		cfg.Slots = NewPool(8).Join()
	}
	if cfg.MaxRequests == 0 {
		cfg.MaxRequests = 500
	}
	n := layout.NumPieces()
	e := &Engine{
		cfg: cfg, layout: layout, n: n, rng: rng, epoch: now,
		have: NewBitmap(n), free: NewBitmap(n), open: map[int]*partial{},
		byID: map[PeerID]*peer{}, byReader: map[ReaderID]*reader{},
		refused: tierUnwanted, first: firstDepth, allowed: noBound, uploading: true,
	}
	e.free.Fill(n)
	copy(e.have, have)
	for i := range e.free {
		e.free[i] &^= e.have[i]
	}
	e.haveN = e.have.Count()
	return e
}

// Stats returns the counters.
func (e *Engine) Stats() Stats { return e.stats }

// Ended returns the counters as they are when all open drafts are thrown away but
// those of pieces that are held.
func (e *Engine) Ended(held func(piece int) bool) Stats {
	s := e.stats
	for _, t := range e.open {
		if !held(t.piece) {
			s.Discarded += e.received(t)
		}
	}
	return s
}

// Held returns how many pieces are verified and held.
func (e *Engine) Held() int { return e.haveN }

// Have reports whether the piece is verified and held.
func (e *Engine) Have(piece int) bool { return e.have.Has(piece) }

// Verified says how the check of a complete draft ended. When ok the piece can
// be read from now on; otherwise its draft is discarded and it is fetched
// again. The digests of its blocks are asked for by Verify's Digests and given
// whenever its hash was wrong; they find out who sent the bad block. Not ok and
// no digests means that it could not be kept, which is no peer's fault.
func (e *Engine) Verified(now time.Time, piece int, ok bool, digests []BlockDigest) {
	t := e.open[piece]
	if t == nil || !t.verifying {
		return
	}
	if !ok {
		e.failed(t, digests)
		e.fillAll(now)
		return
	}
	banned := e.acquit(t, digests)
	e.closePartial(t)
	e.Acquired(now, piece)
	if banned { // what they owed is free again
		e.fillAll(now)
	}
}

// Acquired says that a piece is held that no draft of ours led to: it was
// found on the disk.
func (e *Engine) Acquired(now time.Time, piece int) {
	if piece < 0 || piece >= e.n || e.have.Has(piece) {
		return
	}
	if t := e.open[piece]; t != nil {
		e.abandon(t)
	}
	e.have.Set(piece)
	e.free.Clear(piece)
	e.rarest.remove(piece)
	e.haveN++
	for _, p := range e.peers {
		if p.has(piece) {
			p.lacking--
			e.updateInterest(p)
			continue // it has the piece: telling it would only cost both of us
		}
		if p.ready {
			e.send(p, wire.Message{Kind: wire.Have, Index: uint32(piece)})
		}
	}
	if e.haveN == e.n {
		e.out = append(e.out, Action{Kind: Completed})
	}
	e.Room(now)
	e.refill(now)
}

// Evicted says that the cache let a held piece go. It is no longer offered.
func (e *Engine) Evicted(now time.Time, piece int) {
	if piece < 0 || piece >= e.n || !e.have.Has(piece) {
		return
	}
	e.have.Clear(piece)
	e.free.Set(piece)
	e.haveN--
	if e.background != nil {
		// There was no place to keep it: fetching it for nobody would go round
		// for ever. A reader can still have it.
		e.background.Clear(piece)
	}
	for _, p := range e.peers {
		if p.dontHave != 0 && p.ready {
			e.send(p, wire.Message{Kind: wire.Extended, Ext: p.dontHave, Data: wire.AppendDontHave(nil, uint32(piece))})
		}
		if p.has(piece) {
			p.lacking++
			e.updateInterest(p)
		}
		e.rejectQueued(p, piece)
	}
	if e.wanted(piece) {
		e.fillAll(now)
	}
}

// Room says that memory for drafts was freed.
func (e *Engine) Room(now time.Time) {
	if e.refused != tierUnwanted {
		e.refused = tierUnwanted
		e.fillAll(now)
	}
}

// since turns a point in time into the engine's own clock, and sets that.
func (e *Engine) since(now time.Time) time.Duration {
	e.at = now.Sub(e.epoch)
	return e.at
}
