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

// crowd is n seeds of which some spoil each block they send with a chance.
type crowd struct {
	e        *Engine
	mem      *memory
	now      time.Time
	rng      *rand.Rand
	bad      map[PeerID]float64
	spoiled  map[[2]int]PeerID
	spoilers []PeerID
	failures map[int]int // of a piece
	banned   []PeerID
	asked    map[PeerID][][2]int
}

func newCrowd(pieces, blocks, peers int, seed uint64) *crowd {
	layout := metainfo.Layout{PieceLength: int64(blocks) * blockSize, Length: int64(pieces*blocks) * blockSize}
	c := &crowd{
		mem: &memory{room: 4, open: map[int]uint32{}, got: map[int]map[int]bool{}},
		now: time.Unix(1e9, 0), rng: rand.New(rand.NewPCG(seed, 2)),
		bad: map[PeerID]float64{}, spoiled: map[[2]int]PeerID{}, failures: map[int]int{}, asked: map[PeerID][][2]int{},
	}
	c.e = New(Config{Drafts: c.mem}, layout, nil, rand.New(rand.NewPCG(seed, 1)), c.now)
	c.e.Background(c.now, 0, pieces, true)
	for i := range peers {
		id := PeerID(i + 1)
		c.asked[id] = nil
		c.e.PeerJoined(c.now, id, Caps{Fast: true})
		c.e.Message(c.now, id, wire.Message{Kind: wire.HaveAll})
		c.e.Message(c.now, id, wire.Message{Kind: wire.Unchoke})
	}
	return c
}

// step obeys the engine, then lets one peer deliver some of what it owes.
func (c *crowd) step() {
	list := c.e.Drain(nil)
	for ; len(list) > 0; list = append(list[1:], c.e.Drain(nil)...) {
		switch a := list[0]; {
		case a.Kind == Send && a.Msg.Kind == wire.Request:
			c.asked[a.Peer] = append(c.asked[a.Peer], [2]int{int(a.Msg.Index), int(a.Msg.Begin / blockSize)})
		case a.Kind == Send && a.Msg.Kind == wire.Cancel:
			b := [2]int{int(a.Msg.Index), int(a.Msg.Begin / blockSize)}
			c.asked[a.Peer] = slices.DeleteFunc(c.asked[a.Peer], func(x [2]int) bool { return x == b })
		case a.Kind == Drop:
			c.banned = append(c.banned, a.Peer)
			delete(c.asked, a.Peer)
			c.e.PeerLeft(c.now, a.Peer)
		case a.Kind == Verify:
			c.verify(a.Piece, a.Digests)
		}
	}
	var busy []PeerID
	for id := range PeerID(64) {
		if len(c.asked[id]) > 0 {
			busy = append(busy, id)
		}
	}
	c.now = c.now.Add(time.Duration(c.rng.IntN(100)) * time.Millisecond)
	c.e.Tick(c.now)
	if len(busy) == 0 {
		return
	}
	id := busy[c.rng.IntN(len(busy))]
	n := 1 + c.rng.IntN(min(8, len(c.asked[id])))
	var got []Got
	for _, b := range c.asked[id][:n] {
		gen, open := c.mem.open[b[0]]
		kept := open && c.mem.take(b)
		if kept && c.rng.Float64() < c.bad[id] {
			c.spoiled[b] = id
			c.spoilers = append(c.spoilers, id)
		}
		got = append(got, Got{Piece: b[0], Block: b[1], Gen: gen, Kept: kept})
	}
	c.asked[id] = c.asked[id][n:]
	c.e.Blocks(c.now, id, got)
	c.e.check()
}

func (c *crowd) verify(piece int, digests bool) {
	ok, sums := true, make([]BlockDigest, c.e.layout.NumBlocks(piece))
	for b := range sums {
		if id, spoiled := c.spoiled[[2]int{piece, b}]; spoiled {
			sums[b], ok = BlockDigest{byte(id), byte(c.failures[piece])}, false
			delete(c.spoiled, [2]int{piece, b})
		}
	}
	if ok {
		c.mem.end(piece)
	} else {
		c.failures[piece]++
	}
	if ok && !digests {
		sums = nil
	}
	c.e.Verified(c.now, piece, ok, sums)
}

// However many of the peers send bad blocks now and then: only they are banned,
// the torrent completes, and no piece fails more often than there are bad peers
// and once more, since every failure after the first convicts somebody.
func TestOnlyTheGuiltyAreBannedAndNoneCanSpoilAPieceForEver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		peers := rapid.IntRange(2, 8).Draw(t, "peers")
		c := newCrowd(rapid.IntRange(1, 12).Draw(t, "pieces"), rapid.IntRange(1, 12).Draw(t, "blocks"), peers, rapid.Uint64().Draw(t, "seed"))
		for id := PeerID(2); id <= PeerID(peers); id++ { // the first is good
			if rapid.Bool().Draw(t, "bad") {
				c.bad[id] = rapid.SampledFrom([]float64{0.02, 0.3, 1}).Draw(t, "how often")
			}
		}
		for i := 0; c.e.Held() < c.e.n; i++ {
			if i == 50_000 {
				t.Fatalf("the torrent does not complete: failures %v, banned %v of %v", c.failures, c.banned, c.bad)
			}
			c.step()
		}
		for _, id := range c.banned { // once for each piece, when it is gone already
			if c.bad[id] == 0 {
				t.Fatalf("banned peer %d, which is good", id)
			}
		}
		for piece, n := range c.failures {
			if n > len(c.bad)+1 {
				t.Fatalf("piece %d failed %d times with %d bad peers", piece, n, len(c.bad))
			}
		}
	})
}

// Every peer that spoils all it sends is found after three failures of a piece
// at most, if the peers are many and the pieces small enough to come from one.
func TestWhoeverSpoilsAllItSendsIsFoundSoon(t *testing.T) {
	for seed := range uint64(200) {
		c := newCrowd(20, 8, 10, seed)
		c.bad[3], c.bad[7] = 1, 1
		for i := 0; c.e.Held() < c.e.n && i < 50_000; i++ {
			c.step()
		}
		slices.Sort(c.banned)
		slices.Sort(c.spoilers)
		if got, want := slices.Compact(c.banned), slices.Compact(c.spoilers); !slices.Equal(got, want) {
			t.Fatalf("seed %d: got %v banned, want %v", seed, got, want)
		}
		for piece, n := range c.failures {
			if n > 3 {
				t.Fatalf("seed %d: piece %d failed %d times", seed, piece, n)
			}
		}
	}
}

// A peer that is gone is named once, not for each of its blocks.
func TestAGuiltyPeerThatLeftIsBannedOnce(t *testing.T) {
	c := newCrowd(1, 8, 2, 1)
	c.e.PeerLeft(c.now, 2) // all is asked of 1
	c.e.PeerJoined(c.now, 3, Caps{Fast: true})
	c.e.Message(c.now, 3, wire.Message{Kind: wire.HaveAll})
	c.e.Drain(nil)
	digests := make([]BlockDigest, 8)
	var got []Got
	for b := range 8 {
		got = append(got, Got{Piece: 0, Block: b, Gen: 1, Kept: true})
	}
	c.e.Blocks(c.now, 1, got[:5])
	c.e.Blocks(c.now, 3, got[5:])
	c.e.Verified(c.now, 0, false, slices.Repeat([]BlockDigest{{1}}, 8))
	c.e.PeerLeft(c.now, 1)
	c.mem.open[0], c.mem.gen = 2, 2
	c.e.Message(c.now, 3, wire.Message{Kind: wire.Unchoke})
	for i := range got {
		got[i].Gen = c.mem.gen
	}
	c.e.Blocks(c.now, 3, got)
	c.e.Drain(nil)
	c.e.Verified(c.now, 0, true, digests)
	var named []PeerID
	for _, a := range c.e.Drain(nil) {
		if a.Kind == Drop && a.Ban {
			named = append(named, a.Peer)
		}
	}
	if !slices.Equal(named, []PeerID{1, 3}) {
		t.Errorf("got bans of %v, want 1 and 3 once each", named)
	}
}
