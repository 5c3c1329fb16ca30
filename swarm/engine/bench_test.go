package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

// flow is an engine in the middle of a download: peers in turn deliver the oldest
// block they owe, pieces verify at once and readers move on.
type flow struct {
	e       *Engine
	now     time.Time
	pieces  int
	turn    int
	batch   int
	got     []Got
	actions []Action
	windows []Window
	blocked bool
}

type flowConfig struct {
	peers, pieces, blocks int
	density               float64 // part of the pieces that a peer has; 1: seeds
	readers, window       int     // pieces ahead of each
	blocked               bool    // each waits for its next piece, and needs the one after it
	background            bool
	batch                 int // blocks in one call
}

func newFlow(c flowConfig) *flow {
	layout := metainfo.Layout{PieceLength: int64(c.blocks) * blockSize, Length: int64(c.pieces*c.blocks) * blockSize}
	rng := rand.New(rand.NewPCG(1, 1))
	f := &flow{now: time.Unix(1e9, 0), pieces: c.pieces, batch: c.batch, blocked: c.blocked}
	f.e = New(Config{Drafts: &endless{}}, layout, nil, rng, f.now)
	for i := range c.peers {
		id := PeerID(i + 1)
		f.e.PeerJoined(f.now, id, Caps{Fast: true})
		if c.density == 1 {
			f.e.Message(f.now, id, wire.Message{Kind: wire.HaveAll})
			continue
		}
		w := NewBitmap(c.pieces)
		for p := range c.pieces {
			if rng.Float64() < c.density {
				w.Set(p)
			}
		}
		f.e.Message(f.now, id, wire.Message{Kind: wire.Bitfield, Data: wire.AppendBitfield(nil, w, c.pieces)})
	}
	for i := range c.readers {
		from := i * (c.pieces / c.readers)
		f.windows = append(f.windows, Window{Pos: from, End: from + c.window})
		f.want(i)
	}
	if c.background {
		f.e.Background(f.now, 0, c.pieces, true)
	}
	for i := range c.peers {
		f.e.Message(f.now, PeerID(i+1), wire.Message{Kind: wire.Unchoke})
	}
	f.drain()
	return f
}

// next lets the next peer that owes something deliver; false when none does.
func (f *flow) next() bool {
	for range f.e.peers {
		p := f.e.peers[f.turn%len(f.e.peers)]
		f.turn++
		n := min(f.batch, p.requests.len())
		if n == 0 {
			continue
		}
		f.got = f.got[:0]
		for i := range n {
			r := p.requests.at(i)
			f.got = append(f.got, Got{Piece: r.piece, Block: r.block, Gen: f.e.open[r.piece].gen, Kept: true})
		}
		f.now = f.now.Add(time.Duration(n) * 50 * time.Microsecond) // 330 MB/s in all
		f.e.Blocks(f.now, p.id, f.got)
		if f.turn%64 == 0 {
			f.e.Tick(f.now)
		}
		f.drain()
		return true
	}
	return false
}

func (f *flow) want(reader int) {
	w := f.windows[reader]
	if f.blocked {
		w.Need, w.NeedEnd, w.Goal = w.Pos, w.Pos+1, w.Pos+2
	}
	f.e.Want(f.now, ReaderID(reader+1), w)
}

func (f *flow) drain() {
	f.actions = f.e.Drain(f.actions[:0])
	for i := 0; i < len(f.actions); i++ {
		if f.actions[i].Kind != Verify {
			continue
		}
		piece := f.actions[i].Piece
		f.e.Verified(f.now, piece, true, nil)
		for r := range f.windows {
			w := &f.windows[r]
			if piece != w.Pos {
				continue
			}
			for w.Pos < w.End && f.e.Have(w.Pos) {
				w.Pos++
				w.End = min(w.End+1, f.pieces)
			}
			f.want(r)
		}
		f.actions = f.e.Drain(f.actions)
	}
}

func (f *flow) bench(b *testing.B, again func() *flow) {
	for range 20_000 / f.batch { // to a steady state
		f.next()
	}
	b.ReportAllocs()
	blocks, requested := int64(0), -f.e.Stats().Requested
	for b.Loop() {
		if !f.next() {
			b.StopTimer()
			requested += f.e.Stats().Requested
			*f = *again()
			requested -= f.e.Stats().Requested
			b.StartTimer()
			continue
		}
		blocks += int64(len(f.got))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(max(blocks, 1)), "ns/block")
	requested += f.e.Stats().Requested
	b.ReportMetric(float64(requested)/float64(max(blocks, 1)), "requests/block")
}

// BenchmarkPick is one block's arrival and the choice of the next: 200 peers,
// 100,000 pieces of 1 MiB.
func BenchmarkPick(b *testing.B) {
	for _, c := range []struct {
		name string
		flowConfig
	}{
		{"seeds, one reader 256 pieces ahead", flowConfig{density: 1, readers: 1, window: 256}},
		{"seeds, one reader 8 pieces ahead", flowConfig{density: 1, readers: 1, window: 8}},
		{"seeds, one read that waits", flowConfig{density: 1, readers: 1, window: 8, blocked: true}},
		{"seeds, ten reads that wait", flowConfig{density: 1, readers: 10, window: 8, blocked: true}},
		{"half, ten reads that wait", flowConfig{density: 0.5, readers: 10, window: 8, blocked: true}},
		{"half of the pieces, background", flowConfig{density: 0.5, background: true}},
		{"one in a hundred pieces, background", flowConfig{density: 0.01, background: true}},
		{"seeds, 100 readers 64 pieces ahead", flowConfig{density: 1, readers: 100, window: 64}},
		{"half, 100 readers 8 ahead, background", flowConfig{density: 0.5, readers: 100, window: 8, background: true}},
	} {
		c.peers, c.pieces, c.blocks, c.batch = 200, 100_000, 64, 1
		b.Run(c.name, func(b *testing.B) {
			again := func() *flow { return newFlow(c.flowConfig) }
			again().bench(b, again)
		})
	}
}

// BenchmarkBlocks is the path of a fast download: one seed, pieces of 1 MiB, eight
// blocks at a time.
func BenchmarkBlocks(b *testing.B) {
	for _, batch := range []int{1, 8} {
		b.Run(fmt.Sprintf("%d at a time", batch), func(b *testing.B) {
			again := func() *flow {
				return newFlow(flowConfig{peers: 1, pieces: 20_000, blocks: 64, density: 1, readers: 1, window: 64, batch: batch})
			}
			again().bench(b, again)
		})
	}
}

// BenchmarkShare is the choice for reads of cold places that begin to wait, among
// 200 idle peers of known rates: 190 deliver a hundredth of what the others do,
// and leave to those piece after piece.
func BenchmarkShare(b *testing.B) {
	for _, c := range []struct {
		name                  string
		blocks, need, readers int
		density               float64
	}{
		{"pieces of 1 MiB, one read", 64, 1, 1, 1},
		{"pieces of 16 KiB, one read", 1, 8, 1, 0.5},
		{"pieces of 256 KiB, ten reads", 16, 1, 10, 0.5},
		{"pieces of 64 KiB, ten reads", 4, 2, 10, 1},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := newFlow(flowConfig{peers: 200, pieces: 100_000, blocks: c.blocks, density: c.density, batch: 1})
			for i, p := range f.e.peers {
				p.rate.perSec, p.lat.floor, p.lat.samples, p.depth = 4e4, 40*time.Millisecond, 2, 16
				if i >= 190 {
					p.rate.perSec = 4e6
				}
			}
			goal := max(2, min(128, maxGoal/(c.blocks*blockSize)))
			asked := -f.e.Stats().Requested
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				for r := range c.readers {
					at := (i*c.readers + r) * 200 % (f.pieces - goal)
					f.e.Want(f.now, ReaderID(r+1), Window{Need: at, NeedEnd: at + c.need, Goal: at + goal})
				}
				b.StopTimer()
				f.forget(c.readers)
				b.StartTimer()
			}
			asked += f.e.Stats().Requested
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(asked), "ns/block")
		})
	}
}

// forget takes back all that is wanted and asked for.
func (f *flow) forget(readers int) {
	for r := range readers {
		f.e.ReaderGone(f.now, ReaderID(r+1))
	}
	for _, p := range f.e.peers {
		f.e.releaseAll(p)
	}
	for _, t := range f.e.open {
		f.e.abandon(t)
	}
	f.drain()
}

// BenchmarkHelp is a look of 200 idle peers at a piece of 14 MiB that two others
// owe: none of them would be sooner.
func BenchmarkHelp(b *testing.B) {
	f := newFlow(flowConfig{peers: 2, pieces: 2, blocks: 900, density: 1, batch: 1})
	for _, p := range f.e.peers {
		p.rate.perSec, p.depth = 1e9, 450
	}
	f.e.Want(f.now, 1, Window{Need: 0, NeedEnd: 1})
	for i := range 200 {
		id := PeerID(100 + i)
		f.e.PeerJoined(f.now, id, Caps{Fast: true})
		f.e.Message(f.now, id, wire.Message{Kind: wire.HaveAll})
		p := f.e.byID[id]
		p.choked, p.rate.perSec = false, 1
	}
	f.drain()
	if t := f.e.open[0]; t == nil || t.asked != 900 {
		b.Fatal("the piece is not asked for")
	}
	b.ReportAllocs()
	for b.Loop() {
		f.e.fillAll(f.now)
	}
}
