package engine

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

// tape turns bytes into choices; when it is at its end all are zero.
type tape struct{ rest []byte }

func (b *tape) byte() byte {
	if len(b.rest) == 0 {
		return 0
	}
	c := b.rest[0]
	b.rest = b.rest[1:]
	return c
}

func (b *tape) pick(n int) int { return int(b.byte()) % n }

func (b *tape) uint32() uint32 {
	var w [4]byte
	b.rest = b.rest[copy(w[:], b.rest):]
	return binary.BigEndian.Uint32(w[:])
}

func (b *tape) bytes(n int) []byte {
	n = min(n, len(b.rest))
	p := b.rest[:n]
	b.rest = b.rest[n:]
	return p
}

// Whatever peers send, in whatever order, garbage included: the engine's state
// does not contradict itself (check), it asks the driver for nothing that is not
// there, and no peer makes it answer a message with a flood.
func FuzzMessages(f *testing.F) {
	// A peer joins, has all, unchokes; a reader waits; blocks; a verdict.
	f.Add([]byte{3, 9, 2, 0, 0, 1, 4, 0, 2, 0, 1, 7, 0, 0, 0, 0, 2, 3, 0, 3, 0, 3, 0, 4, 1})
	f.Add([]byte{1, 200, 9, 0, 2, 5, 0, 255, 2, 5, 0, 255, 255, 2, 8, 0, 0, 0, 0, 0, 0, 0, 64, 0})
	f.Add([]byte{5, 77, 1, 0, 1, 0, 2, 0, 14, 2, 1, 1, 6, 3, 3, 1, 8, 2, 5, 200, 9, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<12 {
			return
		}
		newFuzzed(t, &tape{data}).play()
	})
}

type fuzzed struct {
	t     *testing.T
	in    *tape
	e     *Engine
	mem   *memory
	now   time.Time
	next  PeerID
	asked map[PeerID][][2]int // by requests, cancelled or not
	ready []int               // to be verified
}

func newFuzzed(t *testing.T, in *tape) *fuzzed {
	layout := metainfo.Layout{PieceLength: int64(1+in.pick(4)) * 12000, Length: int64(1+in.pick(20)) * 9999}
	h := &fuzzed{t: t, in: in, now: time.Unix(1e9, 0), asked: map[PeerID][][2]int{}}
	h.mem = &memory{room: 1 + in.pick(4), open: map[int]uint32{}, got: map[int]map[int]bool{}}
	h.e = New(Config{Drafts: h.mem, Slots: NewPool(2).Join()}, layout, []uint64{uint64(in.byte()) & (1<<layout.NumPieces() - 1)}, rand.New(rand.NewPCG(1, 1)), h.now)
	return h
}

func (h *fuzzed) play() {
	for len(h.in.rest) > 0 {
		h.step()
		h.e.check()
		h.drain()
		if len(h.e.byID) > 6 {
			h.e.PeerLeft(h.now, h.next-6)
		}
	}
}

func (h *fuzzed) peer() PeerID { return h.next - PeerID(h.in.pick(7)) } // some are gone, or never were

func (h *fuzzed) piece() int { return h.in.pick(h.e.n) }

var fuzzedKinds = []wire.Kind{
	wire.Choke, wire.Unchoke, wire.Interested, wire.NotInterested, wire.Have, wire.Bitfield, wire.HaveAll, wire.HaveNone,
	wire.Request, wire.Cancel, wire.Reject, wire.AllowedFast, wire.Port, wire.Suggest, wire.Piece, wire.Kind(250),
}

func (h *fuzzed) message() wire.Message {
	m := wire.Message{Kind: fuzzedKinds[h.in.pick(len(fuzzedKinds))]}
	switch m.Kind {
	case wire.Bitfield:
		m.Data = h.in.bytes((h.e.n + 7) / 8)
	case wire.Have, wire.AllowedFast, wire.Request, wire.Cancel, wire.Reject:
		if h.in.pick(4) == 0 { // anything
			m.Index, m.Begin, m.Length = h.in.uint32(), h.in.uint32(), h.in.uint32()
			break
		}
		p := h.piece()
		begin, n := h.e.layout.Block(p, h.in.pick(h.e.layout.NumBlocks(p)))
		m.Index, m.Begin, m.Length = uint32(p), uint32(begin), uint32(n)
	}
	return m
}

func (h *fuzzed) step() {
	e, in := h.e, h.in
	switch in.pick(15) {
	case 0, 1:
		h.next++
		c := Caps{Fast: in.pick(2) == 1}
		b := in.byte()
		c.DontHave, c.Stream, c.MaxRequests = b%3, b >= 192, in.pick(300)
		e.PeerJoined(h.now, h.next, c)
	case 2, 3, 4, 5:
		e.Message(h.now, h.peer(), h.message())
	case 6:
		h.deliver()
	case 7:
		w := Window{Need: h.piece(), Pos: h.piece()}
		w.NeedEnd, w.End = w.Need+in.pick(4)-1, w.Pos+in.pick(30)-1 // some are backwards
		e.Want(h.now, ReaderID(in.pick(5)), w)
	case 8:
		e.ReaderGone(h.now, ReaderID(in.pick(5)))
	case 9:
		p := h.piece()
		e.Background(h.now, p-2, p+in.pick(8), in.pick(3) > 0)
	case 10:
		h.now = h.now.Add(time.Duration(in.byte()) * 100 * time.Millisecond)
		e.Tick(h.now)
	case 11:
		e.DontHave(h.now, h.peer(), uint32(h.piece())+uint32(in.byte())/250)
	case 12:
		e.Evicted(h.now, h.piece())
		e.Extensions(h.peer(), Caps{DontHave: in.byte(), MaxRequests: in.pick(300)})
	case 13:
		h.verdict()
		e.Room(h.now)
	case 14:
		e.PeerLeft(h.now, h.peer())
	}
}

// deliver brings some blocks that a peer was asked for once.
func (h *fuzzed) deliver() {
	id := h.peer()
	var got []Got
	for range 1 + h.in.pick(4) {
		if len(h.asked[id]) == 0 {
			break
		}
		i := h.in.pick(len(h.asked[id]))
		b := h.asked[id][i]
		h.asked[id] = append(h.asked[id][:i], h.asked[id][i+1:]...)
		gen, open := h.mem.open[b[0]]
		got = append(got, Got{Piece: b[0], Block: b[1], Gen: gen, Kept: open && h.mem.take(b)})
	}
	h.e.Blocks(h.now, id, got)
}

func (h *fuzzed) verdict() {
	if len(h.ready) == 0 {
		return
	}
	p := h.ready[0]
	h.ready = h.ready[1:]
	if _, open := h.mem.open[p]; !open {
		return
	}
	ok := h.in.pick(3) > 0
	if ok {
		h.mem.end(p)
	}
	digests := make([]BlockDigest, h.e.layout.NumBlocks(p))
	for i := range digests {
		digests[i][0] = h.in.byte() % 2
	}
	h.e.Verified(h.now, p, ok, digests)
}

func (h *fuzzed) drain() {
	list := h.e.Drain(nil)
	// A step may release and share again all that 7 peers were asked for.
	if limit := 7 * (2*h.e.n*3 + 100); len(list) > limit {
		h.t.Fatalf("%d actions for one input", len(list))
	}
	for _, a := range list {
		switch {
		case a.Kind == Send && a.Msg.Kind == wire.Request:
			h.asked[a.Peer] = append(h.asked[a.Peer], [2]int{int(a.Msg.Index), int(a.Msg.Begin / blockSize)})
		case a.Kind == Upload && !h.e.Have(a.Piece):
			h.t.Fatalf("uploads piece %d, which is not held", a.Piece)
		case a.Kind == Upload:
			h.e.Uploaded(h.now, a.Peer, 1, int(a.Msg.Length), nil)
		case a.Kind == Verify:
			if got, want := len(h.mem.got[a.Piece]), h.e.layout.NumBlocks(a.Piece); got != want {
				h.t.Fatalf("verify of piece %d with %d of %d blocks", a.Piece, got, want)
			}
			h.ready = append(h.ready, a.Piece)
		case a.Kind == Drop:
			h.e.PeerLeft(h.now, a.Peer)
		}
	}
}
