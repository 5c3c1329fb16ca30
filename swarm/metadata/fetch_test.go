package metadata

import (
	"bytes"
	"crypto/sha1"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"swarmfs/swarm/wire"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func dictionary(n int) []byte {
	p := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = rng.Read(p)
	return p
}

// world drives a Fetch among peers that answer after a while.
type world struct {
	f       *Fetch
	now     time.Time
	info    []byte
	peers   map[PeerID]*fake
	pending []Action // requests that are on their way
	dropped map[PeerID]bool
	asked   int
}

type fake struct {
	length int
	answer func(piece int, honest []byte) (wire.Metadata, bool)
}

func newWorld(n int) *world {
	info := dictionary(n)
	return &world{f: New(sha1.Sum(info)), now: epoch, info: info, peers: map[PeerID]*fake{}, dropped: map[PeerID]bool{}}
}

func (w *world) honest(piece int) []byte {
	begin := min(piece*wire.MetadataPieceLen, len(w.info))
	return w.info[begin:min(begin+wire.MetadataPieceLen, len(w.info))]
}

func (w *world) join(id PeerID, p *fake) {
	if p.length == 0 {
		p.length = len(w.info)
	}
	w.peers[id] = p
	w.f.Joined(w.now, id, p.length)
}

// step lets 100 ms pass and answers everything that was asked before.
func (w *world) step() {
	w.now = w.now.Add(100 * time.Millisecond)
	list := w.pending
	w.pending = nil
	for _, a := range list {
		p := w.peers[a.Peer]
		if w.dropped[a.Peer] {
			continue
		}
		m := wire.Metadata{Type: wire.MetadataData, Piece: a.Piece, TotalSize: p.length, Data: w.honest(a.Piece)}
		ok := true
		if p.answer != nil {
			m, ok = p.answer(a.Piece, m.Data)
		}
		if ok {
			w.f.Message(w.now, a.Peer, m)
		}
	}
	w.f.Tick(w.now)
	for _, a := range w.f.Drain(nil) {
		if a.Drop {
			w.dropped[a.Peer] = true
			continue
		}
		w.asked++
		w.pending = append(w.pending, a)
	}
}

func (w *world) until(t *testing.T, limit time.Duration) {
	t.Helper()
	for w.f.Result() == nil {
		if w.now.Sub(epoch) > limit {
			t.Fatalf("not there after %v", limit)
		}
		w.step()
	}
	if !bytes.Equal(w.f.Result(), w.info) {
		t.Fatal("another dictionary came out")
	}
}

func TestADictionaryComesFromManyPeersOncePerPiece(t *testing.T) {
	for _, n := range []int{1, wire.MetadataPieceLen, wire.MetadataPieceLen + 1, 50 * wire.MetadataPieceLen} {
		w := newWorld(n)
		for id := range PeerID(10) {
			w.join(id, &fake{})
		}
		w.until(t, 2*time.Second)
		if pieces := (n + wire.MetadataPieceLen - 1) / wire.MetadataPieceLen; w.asked != pieces {
			t.Errorf("%d requests for %d pieces", w.asked, pieces)
		}
	}
}

// HT-M1
func TestLengthsThatNoDictionaryHasAreIgnored(t *testing.T) {
	w := newWorld(100)
	for i, length := range []int{-1, 0, wire.MaxMetadataSize + 1, 1<<31 - 1, 1<<63 - 1} {
		w.f.Joined(w.now, PeerID(i), length)
	}
	if got := w.f.Drain(nil); len(got) != 0 || len(w.f.attempts) != 0 {
		t.Errorf("asked %v", got)
	}
}

// HT-M2
func TestTheRightOfThreeLengthsWins(t *testing.T) {
	w := newWorld(100_000)
	lie := func(piece int, _ []byte) (wire.Metadata, bool) {
		return wire.Metadata{Type: wire.MetadataData, Piece: piece, TotalSize: 200_000, Data: make([]byte, min(wire.MetadataPieceLen, 200_000-piece*wire.MetadataPieceLen))}, true
	}
	w.join(1, &fake{length: 200_000, answer: lie})
	w.join(2, &fake{length: 30 << 20, answer: func(int, []byte) (wire.Metadata, bool) { return wire.Metadata{}, false }})
	for range 50 {
		w.step()
	}
	w.join(3, &fake{})
	w.until(t, 10*time.Second)
	if !w.dropped[1] || w.dropped[3] {
		t.Errorf("dropped: %v", w.dropped)
	}
}

// HT-M3
func TestWhoSendsABadPieceIsFound(t *testing.T) {
	for bad := range PeerID(5) {
		w := newWorld(20 * wire.MetadataPieceLen)
		for id := range PeerID(5) {
			p := &fake{}
			if id == bad {
				p.answer = func(piece int, honest []byte) (wire.Metadata, bool) {
					return wire.Metadata{Type: wire.MetadataData, Piece: piece, TotalSize: len(w.info), Data: make([]byte, len(honest))}, true
				}
			}
			w.join(id, p)
		}
		w.until(t, 20*time.Second)
		if w.asked > 3*20+4*depth {
			t.Errorf("bad %d: %d requests, more than three tries", bad, w.asked)
		}
		for id := range w.dropped {
			if id != bad {
				t.Errorf("peer %d was dropped, %d is bad", id, bad)
			}
		}
	}
}

// HT-M4
func TestSenselessMessagesEndInADropAndTakeNoMemory(t *testing.T) {
	full := make([]byte, wire.MetadataPieceLen)
	for name, m := range map[string]wire.Metadata{
		"beyond the end":     {Type: wire.MetadataData, Piece: 1 << 30, TotalSize: 100_000, Data: full},
		"unasked":            {Type: wire.MetadataData, Piece: 6, TotalSize: 100_000, Data: full[:100_000-6*wire.MetadataPieceLen]},
		"short":              {Type: wire.MetadataData, Piece: 0, TotalSize: 100_000, Data: full[:10]},
		"of another length":  {Type: wire.MetadataData, Piece: 0, TotalSize: 99_999, Data: full},
		"of a length unsaid": {Type: wire.MetadataData, Piece: 0, Data: full},
	} {
		w := newWorld(100_000)
		w.f.Joined(w.now, 1, 100_000)
		w.f.Drain(nil)
		var got []Action
		for range 1000 {
			w.f.Message(w.now, 1, m)
			got = w.f.Drain(got)
		}
		if len(got) != 1 || !got[0].Drop || w.f.held() != 0 {
			t.Errorf("%s: got %v and %d bytes held", name, got, w.f.held())
		}
	}
}

func TestASilentPeerIsGoneRound(t *testing.T) {
	w := newWorld(3 * wire.MetadataPieceLen)
	w.join(1, &fake{answer: func(int, []byte) (wire.Metadata, bool) { return wire.Metadata{}, false }})
	w.step()
	w.join(2, &fake{})
	w.until(t, 5*time.Second)
}

func TestARefusalIsFinal(t *testing.T) {
	w := newWorld(100)
	w.join(1, &fake{answer: func(piece int, _ []byte) (wire.Metadata, bool) {
		return wire.Metadata{Type: wire.MetadataReject, Piece: piece}, true
	}})
	for range 1000 {
		w.step()
	}
	if w.asked != 1 {
		t.Errorf("asked %d times", w.asked)
	}
	w.join(2, &fake{})
	w.until(t, time.Hour)
}

// Whatever hostile peers do in whatever order, one honest peer that stays brings
// the dictionary, and what is held stays bounded.
func TestOneHonestPeerIsEnough(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rapid.IntRange(1, 5*wire.MetadataPieceLen).Draw(rt, "length"))
		hostile := rapid.IntRange(0, 6).Draw(rt, "hostile")
		for id := range PeerID(hostile) {
			length := rapid.SampledFrom([]int{len(w.info), len(w.info) + 1, 1 << 20}).Draw(rt, "claim")
			w.join(id, &fake{length: length, answer: func(piece int, honest []byte) (wire.Metadata, bool) {
				m := wire.Metadata{Type: wire.MetadataData, Piece: piece, TotalSize: length}
				switch rapid.IntRange(0, 4).Draw(rt, "answer") {
				case 0:
					return m, false
				case 1:
					m.Type = wire.MetadataReject
				case 2:
					m.Data = make([]byte, max(0, min(wire.MetadataPieceLen, length-piece*wire.MetadataPieceLen)))
				case 3:
					m.Data = honest
				case 4:
					m.Piece++
				}
				return m, true
			}})
		}
		w.join(100, &fake{})
		for w.f.Result() == nil {
			w.step()
			if w.now.Sub(epoch) > 10*time.Minute {
				rt.Fatal("the dictionary does not come")
			}
			if w.f.held() > maxHeld {
				rt.Fatal("too much is held")
			}
		}
		if w.dropped[100] {
			rt.Fatal("the honest peer was dropped")
		}
	})
}

func TestWhatIsHeldIsBounded(t *testing.T) {
	w := newWorld(100)
	full := make([]byte, wire.MetadataPieceLen)
	for id := range PeerID(3) {
		length := wire.MaxMetadataSize - int(id)*wire.MetadataPieceLen
		w.join(id, &fake{length: length, answer: func(piece int, _ []byte) (wire.Metadata, bool) {
			last := (length - 1) / wire.MetadataPieceLen // never sent, so that nothing is judged
			return wire.Metadata{Type: wire.MetadataData, Piece: piece, TotalSize: length, Data: full}, piece != last
		}})
	}
	most := 0
	for range 500 {
		w.step()
		most = max(most, w.f.held())
	}
	if most > maxHeld || most < maxHeld/2 {
		t.Errorf("held %d bytes, want at most %d and not much less", most, maxHeld)
	}
}
