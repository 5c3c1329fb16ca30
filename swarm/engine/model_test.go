package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

// memory is a driver's table of drafts with room for so many, and some more for
// urgent ones.
type memory struct {
	room, reserve int
	open          map[int]uint32
	got           map[int]map[int]bool // blocks in open drafts
	gen           uint32
}

func (m *memory) Open(piece int, urgent bool) (uint32, bool) {
	if _, ok := m.open[piece]; ok {
		panic("opened twice")
	}
	if len(m.open) >= m.room && !(urgent && len(m.open) < m.room+m.reserve) {
		return 0, false
	}
	m.gen++
	m.open[piece] = m.gen
	return m.gen, true
}

func (m *memory) Discard(piece int) {
	if _, ok := m.open[piece]; !ok {
		panic("discards what is not open")
	}
	m.end(piece)
}

func (m *memory) end(piece int) {
	delete(m.open, piece)
	delete(m.got, piece)
}

// take claims a block of an open draft for its first writer.
func (m *memory) take(b [2]int) bool {
	if m.got[b[0]] == nil {
		m.got[b[0]] = map[int]bool{}
	}
	first := !m.got[b[0]][b[1]]
	m.got[b[0]][b[1]] = true
	return first
}

// remote is what a model history knows of a peer.
type remote struct {
	fast, choking bool
	told          bool
	has           Bitmap
	asked         [][2]int // piece, block: requests not answered
	cancelled     [][2]int // may be answered all the same
	allowed       []int    // allowed fast
	unchoked      bool     // by us
}

// history drives an Engine with random inputs and checks its outputs.
type history struct {
	e       *Engine
	mem     *memory
	layout  metainfo.Layout
	now     time.Time
	peers   map[PeerID]*remote
	ids     []PeerID
	nextID  PeerID
	readers []ReaderID
	nextRd  ReaderID
	verify  []int
	have    Bitmap
	gone    map[PeerID][][2]int // what peers that left were asked for last
	fetched int64               // bytes of all blocks
	kept    int64               // bytes of them in pieces that verified
}

func newHistory(t *rapid.T) *history {
	pieceLen := int64(rapid.SampledFrom([]int{16 << 10, 20000, 48 << 10, 128 << 10}).Draw(t, "piece length"))
	h := &history{
		layout: metainfo.Layout{PieceLength: pieceLen, Length: int64(rapid.IntRange(1, 2<<20).Draw(t, "length"))},
		mem: &memory{
			room: rapid.IntRange(1, 8).Draw(t, "room"), reserve: rapid.IntRange(0, 2).Draw(t, "reserve"),
			open: map[int]uint32{}, got: map[int]map[int]bool{},
		},
		now: time.Unix(1e9, 0), peers: map[PeerID]*remote{}, gone: map[PeerID][][2]int{},
	}
	h.have = NewBitmap(h.layout.NumPieces())
	seed := rapid.Uint64().Draw(t, "seed")
	h.e = New(Config{Drafts: h.mem, Slots: NewPool(3).Join(), MaxRequests: 40}, h.layout, nil, rand.New(rand.NewPCG(seed, 1)), h.now)
	return h
}

// settle takes the engine's outputs and checks each.
func (h *history) settle(t *rapid.T) {
	for list := h.e.Drain(nil); len(list) > 0; list = append(list[1:], h.e.Drain(nil)...) {
		switch a := list[0]; a.Kind {
		case Send:
			h.sent(t, a)
		case Verify:
			if len(h.mem.got[a.Piece]) != h.layout.NumBlocks(a.Piece) {
				t.Fatalf("verify of piece %d with %d blocks", a.Piece, len(h.mem.got[a.Piece]))
			}
			h.verify = append(h.verify, a.Piece)
		case Drop:
			h.leave(a.Peer)
		case Upload:
			if !h.have.Has(a.Piece) {
				t.Fatalf("uploads piece %d, which is not held", a.Piece)
			}
			h.e.Uploaded(h.now, a.Peer, 1, int(a.Msg.Length), nil)
		}
	}
	h.verify = slices.DeleteFunc(h.verify, func(p int) bool { _, open := h.mem.open[p]; return !open })
	h.e.check()
	h.checkSums(t)
	h.checkFair(t)
	h.checkLive(t)
}

// checkSums: every byte that came was kept, or is in an open draft, or is counted
// among one kind of waste.
func (h *history) checkSums(t *rapid.T) {
	var open int64
	for piece, blocks := range h.mem.got {
		for b := range blocks {
			_, n := h.layout.Block(piece, b)
			open += int64(n)
		}
	}
	st := h.e.Stats()
	if got := st.Downloaded + st.Duplicate; got != h.fetched {
		t.Fatalf("%d bytes came, counted %d", h.fetched, got)
	}
	if lost := st.Failed + st.Discarded + st.Duplicate; h.kept+open+lost != h.fetched {
		t.Fatalf("of %d bytes %d were kept, %d are in drafts, and %d are counted as lost", h.fetched, h.kept, open, lost)
	}
	if st := h.e.Ended(h.have.Has); st.Discarded != h.fetched-h.kept-st.Failed-st.Duplicate {
		t.Fatalf("of %d bytes %d were kept, and %d are discarded in the end", h.fetched, h.kept, st.Discarded)
	}
}

// checkFair: a block is asked of two peers at most.
func (h *history) checkFair(t *rapid.T) {
	n := map[[2]int]int{}
	for id, r := range h.peers {
		if p := h.e.byID[id]; p.choked && !p.caps.Fast {
			continue
		}
		for _, b := range r.asked {
			if n[b]++; n[b] > 2 {
				t.Fatalf("block %d of piece %d is asked of %d peers", b[1], b[0], n[b])
			}
		}
	}
}

// checkLive: what is wanted and could be asked of somebody is, or there is a
// reason not to.
func (h *history) checkLive(t *rapid.T) {
	e := h.e
	for i := range e.n {
		w := e.tier(i)
		if w == tierUnwanted || !e.free.Has(i) || e.open[i] == nil && !h.memoryFor(w) {
			continue
		}
		for _, p := range e.peers {
			switch {
			case p.dropped, !p.has(i), p.choked && !slices.Contains(p.allowed, i): // cannot
			case p.requests.len() >= p.depth: // has enough to do
			case p.snubbed, p.rejects > 0: // does not answer, or with rejects
			default:
				t.Fatalf("piece %d is wanted (tier %d), and peer %d could be asked for it: %d of %d outstanding",
					i, w, p.id, p.requests.len(), p.depth)
			}
		}
	}
}

// memoryFor reports whether a piece that is wanted so much could be opened.
func (h *history) memoryFor(w tier) bool {
	limit := h.mem.room
	if w == tierBlocked {
		limit += h.mem.reserve
	}
	if len(h.mem.open) < limit {
		return true
	}
	for _, t := range h.e.open {
		if !t.verifying && h.e.tier(t.piece) > w {
			return true
		}
	}
	return false
}

func (h *history) sent(t *rapid.T, a Action) {
	r := h.peers[a.Peer]
	if r == nil {
		return
	}
	switch a.Msg.Kind {
	case wire.Request:
		p, b := int(a.Msg.Index), int(a.Msg.Begin/metainfo.BlockSize)
		if r.choking && !slices.Contains(r.allowed, p) {
			t.Fatalf("requests of a peer that chokes")
		}
		if !r.has.Has(p) {
			t.Fatalf("requests piece %d of a peer without it", p)
		}
		if h.have.Has(p) {
			t.Fatalf("requests piece %d, which is held", p)
		}
		if slices.Contains(r.asked, [2]int{p, b}) {
			t.Fatalf("requests block %d of piece %d twice of one peer", b, p)
		}
		r.asked = append(r.asked, [2]int{p, b})
	case wire.Cancel:
		p, b := int(a.Msg.Index), int(a.Msg.Begin/metainfo.BlockSize)
		i := slices.Index(r.asked, [2]int{p, b})
		if i < 0 {
			t.Fatalf("cancels block %d of piece %d, which was not asked for", b, p)
		}
		r.asked = slices.Delete(r.asked, i, i+1)
		r.cancelled = append(r.cancelled, [2]int{p, b})
	case wire.Unchoke:
		r.unchoked = true
	case wire.Choke:
		r.unchoked = false
	}
}

func (h *history) leave(id PeerID) {
	if r := h.peers[id]; r != nil {
		h.gone[id] = r.asked
	}
	delete(h.peers, id)
	h.ids = slices.DeleteFunc(h.ids, func(o PeerID) bool { return o == id })
	h.e.PeerLeft(h.now, id)
}

func (h *history) anyPeer(t *rapid.T) (PeerID, *remote) {
	if len(h.ids) == 0 {
		t.Skip("no peers")
	}
	id := rapid.SampledFrom(h.ids).Draw(t, "peer")
	return id, h.peers[id]
}

func (h *history) anyPiece(t *rapid.T) int {
	return rapid.IntRange(0, h.layout.NumPieces()-1).Draw(t, "piece")
}

func (h *history) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"": h.settle,
		"join": func(t *rapid.T) {
			if len(h.ids) >= 8 {
				t.Skip("enough")
			}
			h.nextID++
			r := &remote{fast: rapid.Bool().Draw(t, "fast"), choking: true, has: NewBitmap(h.layout.NumPieces())}
			h.peers[h.nextID] = r
			h.ids = append(h.ids, h.nextID)
			h.e.PeerJoined(h.now, h.nextID, Caps{Fast: r.fast, Stream: rapid.Bool().Draw(t, "stream")})
		},
		"leave": func(t *rapid.T) { id, _ := h.anyPeer(t); h.leave(id) },
		"bitfield": func(t *rapid.T) {
			id, r := h.anyPeer(t)
			if r.told || r.has.Count() > 0 {
				t.Skip("told already")
			}
			r.told = true
			n := h.layout.NumPieces()
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				r.has.Fill(n)
				h.e.Message(h.now, id, wire.Message{Kind: wire.HaveAll})
			case 1:
				for i := range n {
					if rapid.Bool().Draw(t, "has") {
						r.has.Set(i)
					}
				}
				h.e.Message(h.now, id, wire.Message{Kind: wire.Bitfield, Data: wire.AppendBitfield(nil, r.has, n)})
			case 2:
				h.e.Message(h.now, id, wire.Message{Kind: wire.HaveNone})
			}
		},
		"have": func(t *rapid.T) {
			id, r := h.anyPeer(t)
			p := h.anyPiece(t)
			r.has.Set(p)
			h.e.Message(h.now, id, wire.Message{Kind: wire.Have, Index: uint32(p)})
		},
		"donthave": func(t *rapid.T) {
			id, r := h.anyPeer(t)
			p := h.anyPiece(t)
			r.has.Clear(p)
			if !r.fast {
				r.asked = slices.DeleteFunc(r.asked, func(a [2]int) bool { return a[0] == p })
			}
			h.e.DontHave(h.now, id, uint32(p))
		},
		"unchoke": func(t *rapid.T) {
			id, r := h.anyPeer(t)
			r.choking = false
			h.e.Message(h.now, id, wire.Message{Kind: wire.Unchoke})
		},
		"choke": func(t *rapid.T) {
			id, r := h.anyPeer(t)
			r.choking = true
			if !r.fast {
				r.asked = nil
			}
			h.e.Message(h.now, id, wire.Message{Kind: wire.Choke})
		},
		"reject": func(t *rapid.T) {
			id, r := h.anyPeer(t)
			if !r.fast || len(r.asked) == 0 {
				t.Skip("nothing to reject")
			}
			a := r.asked[0]
			r.asked = r.asked[1:]
			begin, n := h.layout.Block(a[0], a[1])
			h.e.Message(h.now, id, wire.Message{Kind: wire.Reject, Index: uint32(a[0]), Begin: uint32(begin), Length: uint32(n)})
		},
		"block": func(t *rapid.T) {
			id, r := h.anyPeer(t)
			if len(r.asked) == 0 {
				t.Skip("nothing asked")
			}
			i := rapid.IntRange(0, min(3, len(r.asked)-1)).Draw(t, "which")
			a := r.asked[i]
			r.asked = slices.Delete(r.asked, i, i+1)
			h.deliver(id, a)
		},
		"blocks": func(t *rapid.T) { // all that is outstanding: progress
			id, r := h.anyPeer(t)
			for range len(r.asked) {
				if len(r.asked) == 0 {
					break
				}
				a := r.asked[0]
				r.asked = r.asked[1:]
				h.deliver(id, a)
				h.settle(t) // it may have cancelled the next
			}
		},
		"late": func(t *rapid.T) { // it crossed our cancel
			id, r := h.anyPeer(t)
			if len(r.cancelled) == 0 {
				t.Skip("nothing cancelled")
			}
			a := r.cancelled[0]
			r.cancelled = r.cancelled[1:]
			if !slices.Contains(r.asked, a) {
				h.deliver(id, a)
			}
		},
		"late reject": func(t *rapid.T) { // it answers our cancel
			id, r := h.anyPeer(t)
			if len(r.cancelled) == 0 || !r.fast || slices.Contains(r.asked, r.cancelled[0]) {
				t.Skip("nothing cancelled")
			}
			a := r.cancelled[0]
			r.cancelled = r.cancelled[1:]
			begin, n := h.layout.Block(a[0], a[1])
			h.e.Message(h.now, id, wire.Message{Kind: wire.Reject, Index: uint32(a[0]), Begin: uint32(begin), Length: uint32(n)})
		},
		"after the end": func(t *rapid.T) { // blocks and messages of peers that left
			if h.nextID == 0 {
				t.Skip("no peers")
			}
			id := PeerID(rapid.IntRange(1, int(h.nextID)).Draw(t, "gone"))
			if h.peers[id] == nil && len(h.gone[id]) > 0 {
				h.deliver(id, h.gone[id][0])
				h.gone[id] = h.gone[id][1:]
				h.e.Message(h.now, id, wire.Message{Kind: wire.Unchoke})
				h.e.DontHave(h.now, id, 0)
				h.e.PeerLeft(h.now, id)
			}
		},
		"acquired": func(t *rapid.T) {
			if p := h.anyPiece(t); rapid.IntRange(0, 9).Draw(t, "once in a while") == 0 && !slices.Contains(h.verify, p) {
				h.have.Set(p)
				h.e.Acquired(h.now, p)
			}
		},
		"verified": func(t *rapid.T) {
			if len(h.verify) == 0 {
				t.Skip("nothing to verify")
			}
			p := h.verify[0]
			h.verify = h.verify[1:]
			ok := rapid.IntRange(0, 3).Draw(t, "ok") > 0
			if ok {
				h.mem.end(p)
				h.have.Set(p)
				h.kept += int64(h.layout.PieceSize(p))
			}
			h.e.Verified(h.now, p, ok, make([]BlockDigest, h.layout.NumBlocks(p)))
		},
		"evicted": func(t *rapid.T) {
			p := h.anyPiece(t)
			if h.have.Has(p) {
				h.have.Clear(p)
				h.e.Evicted(h.now, p)
			}
		},
		"want": func(t *rapid.T) {
			if len(h.readers) == 0 || rapid.Bool().Draw(t, "new") {
				h.nextRd++
				h.readers = append(h.readers, h.nextRd)
			}
			id := rapid.SampledFrom(h.readers).Draw(t, "reader")
			n := h.layout.NumPieces()
			w := Window{Need: h.anyPiece(t), Pos: h.anyPiece(t)}
			w.NeedEnd = w.Need + rapid.IntRange(0, 2).Draw(t, "need")
			w.End = w.Pos + rapid.IntRange(0, n).Draw(t, "ahead")
			h.e.Want(h.now, id, w)
		},
		"gone": func(t *rapid.T) {
			if len(h.readers) == 0 {
				t.Skip("no readers")
			}
			h.e.ReaderGone(h.now, h.readers[0])
			h.readers = h.readers[1:]
		},
		"background": func(t *rapid.T) {
			p := h.anyPiece(t)
			h.e.Background(h.now, p, p+10, rapid.Bool().Draw(t, "on"))
		},
		"room":       func(t *rapid.T) { h.e.Room(h.now) },
		"interested": func(t *rapid.T) { id, _ := h.anyPeer(t); h.e.Message(h.now, id, wire.Message{Kind: wire.Interested}) },
		"uninterested": func(t *rapid.T) {
			id, _ := h.anyPeer(t)
			h.e.Message(h.now, id, wire.Message{Kind: wire.NotInterested})
		},
		"request": func(t *rapid.T) {
			id, _ := h.anyPeer(t)
			p := h.anyPiece(t)
			begin, n := h.layout.Block(p, 0)
			h.e.Message(h.now, id, wire.Message{Kind: wire.Request, Index: uint32(p), Begin: uint32(begin), Length: uint32(n)})
		},
		"allowed": func(t *rapid.T) {
			id, r := h.anyPeer(t)
			if !r.fast {
				t.Skip("has no fast extension")
			}
			p := h.anyPiece(t)
			r.allowed = append(r.allowed, p)
			h.e.Message(h.now, id, wire.Message{Kind: wire.AllowedFast, Index: uint32(p)})
		},
		"garbage": func(t *rapid.T) {
			id, _ := h.anyPeer(t)
			kinds := []wire.Kind{wire.Have, wire.Bitfield, wire.Request, wire.Cancel, wire.Reject, wire.AllowedFast}
			m := wire.Message{
				Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Index: rapid.Uint32().Draw(t, "index"),
				Begin: rapid.Uint32().Draw(t, "begin"), Length: rapid.Uint32().Draw(t, "length"),
			}
			if m.Kind == wire.Have || m.Kind == wire.AllowedFast {
				m.Index |= 1 << 20 // beyond the end
			}
			h.e.Message(h.now, id, m)
		},
		"tick": func(t *rapid.T) {
			h.now = h.now.Add(time.Duration(rapid.IntRange(1, 12000).Draw(t, "ms")) * time.Millisecond)
			h.e.Tick(h.now)
		},
	}
}

func (h *history) deliver(id PeerID, a [2]int) {
	h.now = h.now.Add(time.Millisecond)
	gen, open := h.mem.open[a[0]]
	kept := open && h.mem.take(a)
	_, n := h.layout.Block(a[0], a[1])
	h.fetched += int64(n)
	h.e.Blocks(h.now, id, []Got{{Piece: a[0], Block: a[1], Gen: gen, Kept: kept}})
}

// A random history never breaks an invariant, and once all peers are honest
// seeds a download finishes: nothing was lost on the way.
func TestRandomHistoriesKeepTheInvariantsAndFinish(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		t.Repeat(h.actions())
		h.finish(t)
	})
}

func (h *history) finish(t *rapid.T) {
	for _, id := range slices.Clone(h.ids) {
		h.leave(id)
	}
	h.settle(t)
	n := h.layout.NumPieces()
	h.mem.room = n
	h.nextID++
	id, r := h.nextID, &remote{fast: true, has: NewBitmap(n)}
	r.has.Fill(n)
	h.peers[id], h.ids = r, append(h.ids, id)
	h.e.PeerJoined(h.now, id, Caps{Fast: true})
	h.e.Message(h.now, id, wire.Message{Kind: wire.HaveAll})
	h.e.Message(h.now, id, wire.Message{Kind: wire.Unchoke})
	h.e.Want(h.now, 1<<30, Window{Need: 0, NeedEnd: n})
	h.e.Room(h.now)
	for range 100 * (n + 10) {
		h.settle(t)
		if h.have.Count() == n {
			return
		}
		list := r.asked
		r.asked = nil
		for _, a := range list {
			h.deliver(id, a)
		}
		for _, p := range h.verify {
			h.mem.end(p)
			h.kept += int64(h.layout.PieceSize(p))
			h.have.Set(p)
			h.e.Verified(h.now, p, true, make([]BlockDigest, h.layout.NumBlocks(p)))
		}
		h.verify = nil
		h.now = h.now.Add(150 * time.Millisecond)
		h.e.Tick(h.now)
	}
	t.Fatal(fmt.Sprintf("the download does not finish: %d of %d pieces", h.have.Count(), n))
}
