package engine

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

// places is an engine with peers that are interested and take what they may.
type places struct {
	e        *Engine
	now      time.Time
	unchoked map[PeerID]bool
	served   map[PeerID]int // rounds in which it was unchoked
}

func newPlaces(slots, peers int, complete bool, seed uint64) *places {
	layout := metainfo.Layout{PieceLength: blockSize, Length: 64 * blockSize}
	have := NewBitmap(64)
	have.Fill(64)
	if !complete {
		have.Clear(63)
	}
	p := &places{now: time.Unix(1e9, 0), unchoked: map[PeerID]bool{}, served: map[PeerID]int{}}
	p.e = New(Config{Drafts: &endless{}, Slots: NewPool(slots).Join()}, layout, have, rand.New(rand.NewPCG(seed, 1)), p.now)
	for i := range peers {
		p.e.PeerJoined(p.now, PeerID(i+1), Caps{Fast: true})
		p.e.Message(p.now, PeerID(i+1), wire.Message{Kind: wire.Interested})
	}
	return p
}

// round lets one round pass in which each unchoked peer takes so much.
func (p *places) round(taken func(PeerID) int) {
	for _, a := range p.e.Drain(nil) {
		if a.Kind != Send {
			continue
		}
		switch a.Msg.Kind {
		case wire.Unchoke:
			p.unchoked[a.Peer] = true
		case wire.Choke:
			delete(p.unchoked, a.Peer)
		}
	}
	for id := range p.unchoked {
		p.served[id]++
		p.e.Uploaded(p.now, id, 0, taken(id), nil)
	}
	p.now = p.now.Add(chokeRound)
	p.e.Tick(p.now)
}

// Over many rounds every interested peer gets a place, whoever takes faster.
func TestEveryInterestedPeerIsServedInTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots, peers := rapid.IntRange(1, 8).Draw(t, "slots"), rapid.IntRange(1, 20).Draw(t, "peers")
		complete := rapid.Bool().Draw(t, "complete")
		p := newPlaces(slots, peers, complete, rapid.Uint64().Draw(t, "seed"))
		for range optimisticEvery * (peers + 2) {
			p.round(func(id PeerID) int { return int(id) << 20 })
			if len(p.unchoked) > slots {
				t.Fatalf("%d peers unchoked in %d places", len(p.unchoked), slots)
			}
			if want := min(slots, peers); len(p.unchoked) < want {
				t.Fatalf("%d peers unchoked, want %d", len(p.unchoked), want)
			}
		}
		for i := range peers {
			if p.served[PeerID(i+1)] == 0 {
				t.Errorf("peer %d of %d was never served in %d places", i+1, peers, slots)
			}
		}
	})
}

// A seed's regular places end up with those who take fastest.
func TestASeedServesTheFastestMost(t *testing.T) {
	const peers, slots = 12, 4
	p := newPlaces(slots, peers, true, 1)
	rate := func(id PeerID) int { return int(id) << 20 }
	for range 100 {
		p.round(rate)
	}
	clear(p.served)
	for range 100 {
		p.round(rate)
	}
	for id := PeerID(peers - slots + 2); id <= peers; id++ {
		if p.served[id] < 90 {
			t.Errorf("peer %d, one of the fastest, was served in %d of 100 rounds", id, p.served[id])
		}
	}
}
