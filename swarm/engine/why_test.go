package engine

import (
	"math/rand/v2"
	"testing"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

// asking returns an engine of four pieces of eight blocks with a seed and a peer
// that has piece 2 alone, both unchoked.
func asking(now time.Time) *Engine {
	layout := metainfo.Layout{PieceLength: 8 * blockSize, Length: 4 * 8 * blockSize}
	e := New(Config{Drafts: &endless{}}, layout, nil, rand.New(rand.NewPCG(1, 1)), now)
	e.first = 8 // a whole piece
	e.PeerJoined(now, 1, Caps{Fast: true})
	e.PeerJoined(now, 2, Caps{Fast: true})
	e.Message(now, 1, wire.Message{Kind: wire.HaveAll})
	e.Message(now, 2, wire.Message{Kind: wire.Have, Index: 2})
	e.Message(now, 1, wire.Message{Kind: wire.Unchoke})
	e.Message(now, 2, wire.Message{Kind: wire.Unchoke})
	return e
}

func TestWhyNamesWhoWasAskedSinceWhen(t *testing.T) {
	start := time.Unix(1e9, 0)
	e := asking(start)
	asked := start.Add(3 * time.Second)
	e.Want(asked, 1, Window{Need: 2, NeedEnd: 3})

	w := e.Why(2)
	if w.Availability != 2 || w.Blocks != 8 || w.Received != 0 || w.Verifying {
		t.Errorf("got %+v, want 2 copies and 0 of 8 blocks", w)
	}
	blocks := 0
	for _, a := range w.Asked {
		blocks += a.Blocks
		if !a.Since.Equal(asked) {
			t.Errorf("peer %d was asked at %v, want %v", a.Peer, a.Since, asked)
		}
	}
	if blocks < 8 || len(w.Asked) == 0 {
		t.Errorf("got %+v, want all 8 blocks to be asked of somebody", w.Asked)
	}
	for i, want := range []int{1, 1, 2, 1} {
		if got := e.Why(i).Availability; got != want {
			t.Errorf("piece %d: got %d copies, want %d", i, got, want)
		}
	}
}

func TestWhyCountsWhatHasCome(t *testing.T) {
	now := time.Unix(1e9, 0)
	e := asking(now)
	e.Want(now, 1, Window{Need: 0, NeedEnd: 1}) // the seed alone has it
	gen := e.open[0].gen
	deliver := func(from, end int) {
		now = now.Add(time.Second)
		for b := from; b < end; b++ {
			e.Blocks(now, 1, []Got{{Piece: 0, Block: b, Gen: gen, Kept: true}})
		}
	}
	deliver(0, 3)
	if w := e.Why(0); w.Received != 3 || len(w.Asked) != 1 || w.Asked[0] != (Asked{1, 5, time.Unix(1e9, 0)}) {
		t.Errorf("got %+v, want 3 blocks received and 5 asked of peer 1 at the start", w)
	}
	deliver(3, 8)
	if w := e.Why(0); !w.Verifying || len(w.Asked) != 0 {
		t.Errorf("got %+v, want a piece out for its hash that nobody owes", w)
	}
	e.Verified(now, 0, true, nil)
	if w := e.Why(0); w.Blocks != 0 || w.Verifying || w.Availability != 1 {
		t.Errorf("got %+v, want nothing to wait for", w)
	}
}

func TestWhyOfNoPieceIsEmpty(t *testing.T) {
	e := asking(time.Unix(1e9, 0))
	for _, i := range []int{-1, 4, 1 << 40} {
		if w := e.Why(i); w.Availability != 0 || w.Blocks != 0 || w.Asked != nil {
			t.Errorf("piece %d: got %+v", i, w)
		}
	}
	if w := e.Why(1); w.Blocks != 8 || w.Received != 0 || w.Asked != nil {
		t.Errorf("a piece that nobody wants: got %+v", w)
	}
}

func TestPeersTellsBothDirections(t *testing.T) {
	now := time.Unix(1e9, 0)
	e := asking(now)
	e.Message(now, 2, wire.Message{Kind: wire.Interested})
	e.Want(now, 1, Window{Need: 0, NeedEnd: 1})
	list := e.Peers()
	if len(list) != 2 || list[0].Peer != 1 || list[1].Peer != 2 {
		t.Fatalf("got %+v, want peers 1 and 2", list)
	}
	seed, other := list[0], list[1]
	if seed.Choked || !seed.Interested || !seed.Choking || seed.Interesting || seed.Pieces != 4 || seed.Outstanding != 8 {
		t.Errorf("the seed: got %+v", seed)
	}
	if other.Choking || !other.Interesting || other.Pieces != 1 || other.Outstanding != 0 {
		t.Errorf("the other: got %+v", other)
	}
}
