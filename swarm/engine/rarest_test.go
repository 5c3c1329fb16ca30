package engine

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

// The order is a sorted multiset: pieces by copies, whatever came and went.
func TestRarestIsASortedMultiset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "pieces")
		seed := rapid.Uint64().Draw(t, "seed")
		rng := rand.New(rand.NewPCG(seed, 1))
		var r rarest
		model := map[int]int{} // piece: copies
		piece := rapid.IntRange(0, n-1)
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				i, level := piece.Draw(t, "piece"), rapid.IntRange(0, 9).Draw(t, "copies")
				if _, ok := model[i]; ok {
					t.Skip("listed")
				}
				r.insert(i, n, uint16(level), rng)
				model[i] = level
			},
			"remove": func(t *rapid.T) {
				i := piece.Draw(t, "piece")
				r.remove(i)
				delete(model, i)
			},
			"more": func(t *rapid.T) {
				i := piece.Draw(t, "piece")
				r.more(i, rng)
				if _, ok := model[i]; ok {
					model[i]++
				}
			},
			"fewer": func(t *rapid.T) {
				i := piece.Draw(t, "piece")
				r.fewer(i, rng)
				if model[i] > 0 {
					model[i]--
				}
			},
			"": func(t *rapid.T) {
				if r.len() != len(model) {
					t.Fatalf("got %d pieces, want %d", r.len(), len(model))
				}
				var got, want []int
				for _, i := range r.order {
					level, ok := model[int(i)]
					if !ok || !r.has(int(i)) {
						t.Fatalf("piece %d is in the order and should not be", i)
					}
					got = append(got, level)
				}
				for _, level := range model {
					want = append(want, level)
				}
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Fatalf("got copies %v in this order, want %v", got, want)
				}
				for i := range n {
					if _, ok := model[i]; ok != r.has(i) || r.pos != nil && ok != r.listed.Has(i) {
						t.Fatalf("piece %d: listed is %v, want %v", i, r.has(i), ok)
					}
				}
			},
		})
	})
}

// Each of some equal pieces comes first about equally often.
func TestEquallyRarePiecesComeInRandomOrder(t *testing.T) {
	const n, rounds = 8, 8000
	rng := rand.New(rand.NewPCG(1, 1))
	var first [n]int
	for range rounds {
		var r rarest
		for i := range n {
			r.insert(i, n, 3, rng)
		}
		r.more(rng.IntN(n), rng)
		first[r.order[0]]++
	}
	for i, got := range first {
		if want := rounds / n; got < want*8/10 || got > want*12/10 {
			t.Errorf("piece %d was first %d times, want about %d", i, got, want)
		}
	}
}

// A peer is asked for what it has of the background, however small a part of the
// torrent that is, and however many rarer pieces nobody has.
func TestWhatAPeerHasOfASmallBackgroundIsFound(t *testing.T) {
	const pieces = 100_000
	for seed := range uint64(20) {
		now := time.Unix(1e9, 0)
		layout := metainfo.Layout{PieceLength: blockSize, Length: pieces * blockSize}
		e := New(Config{Drafts: &endless{}}, layout, nil, rand.New(rand.NewPCG(seed, 1)), now)
		e.Background(now, 0, 1000, true)
		has := NewBitmap(pieces)
		for i := 300; i < pieces; i++ { // nobody has the first 300
			has.Set(i)
		}
		other := NewBitmap(pieces) // what this peer lacks is rarer than what it has
		for i := 300; i < 600; i++ {
			has.Clear(i)
			other.Set(i)
		}
		for id, w := range []Bitmap{other, has, has} {
			e.PeerJoined(now, PeerID(id+1), Caps{})
			e.Message(now, PeerID(id+1), wire.Message{Kind: wire.Bitfield, Data: wire.AppendBitfield(nil, w, pieces)})
		}
		e.Message(now, 3, wire.Message{Kind: wire.Unchoke})
		if got := e.byID[3].requests.len(); got != firstDepth {
			t.Fatalf("seed %d: got %d requests, want %d", seed, got, firstDepth)
		}
	}
}
