package swarm

import (
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

func TestParseSeeding(t *testing.T) {
	for text, want := range map[string]Seeding{
		"off": {Mode: SeedOff}, "while-open": {Mode: SeedWhileOpen}, "while-cached": {},
		"ratio:1.5": {Mode: SeedRatio, Ratio: 1.5}, "ratio:0": {Mode: SeedRatio}, "time:1h30m0s": {Mode: SeedTime, Time: 90 * time.Minute},
	} {
		got, err := ParseSeeding(text)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
		if got.String() != text {
			t.Errorf("%s: is written %s", text, got)
		}
	}
	for _, text := range []string{"", "on", "off:1", "ratio", "ratio:", "ratio:-1", "ratio:NaN", "ratio:Inf", "ratio:1e9", "time:", "time:-1s", "time:5", "while-open:1"} {
		if got, err := ParseSeeding(text); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

// taker is a scripted leecher that has nothing, stays interested, and asks for
// all again and again while it may.
type taker struct {
	*fakeConn
	unchoked atomic.Bool
	bytes    atomic.Int64
}

// taker connects one to a node.
func (l *lab) taker(c *content, n *node) *taker {
	k := &taker{}
	next := 0
	ask := func(conn *fakeConn) {
		piece, block := next/(pieceLen/metainfo.BlockSize), next%(pieceLen/metainfo.BlockSize)
		next = (next + 1) % (c.pieces() * pieceLen / metainfo.BlockSize)
		conn.send(request(piece, block*metainfo.BlockSize))
	}
	k.fakeConn = l.silentPeer(c, near, script{
		unfollowed: true,
		hello: func(conn *fakeConn) {
			conn.send(wire.Message{Kind: wire.HaveNone})
			conn.send(wire.Message{Kind: wire.Interested})
		},
		message: func(conn *fakeConn, m wire.Message) {
			switch m.Kind {
			case wire.KeepAlive:
				conn.send(m)
			case wire.Unchoke:
				k.unchoked.Store(true)
				for range 16 {
					ask(conn)
				}
			case wire.Choke:
				k.unchoked.Store(false)
			case wire.Piece:
				k.bytes.Add(int64(len(m.Data)))
				if k.unchoked.Load() {
					ask(conn)
				}
			}
		},
	}).dial(n)
	return k
}

func TestSeedOffUploadsNothing(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n, tor := l.seedNode(c, nodeOptions{Options: Options{Seeding: Seeding{Mode: SeedOff}}})
		var all []*taker
		for range 10 {
			all = append(all, l.taker(c, n))
		}
		all[0].send(request(0, 0)) // without having been let
		time.Sleep(time.Hour)
		for i, k := range all {
			if k.unchoked.Load() || k.bytes.Load() > 0 {
				t.Errorf("peer %d: unchoked is %v, got %d bytes", i, k.unchoked.Load(), k.bytes.Load())
			}
		}
		if got := tor.Stats(); got.Uploaded != 0 || got.Peers != 10 {
			t.Errorf("uploaded %d bytes to %d peers, want none to 10", got.Uploaded, got.Peers)
		}
		// It can be changed at run time, for the torrent and for all.
		tor.SetSeeding(&Seeding{})
		l.eventually(time.Second, "the torrent's own rule holds", func() bool { return tor.Stats().Uploaded > 0 })
		tor.SetSeeding(nil)
		time.Sleep(time.Second)
		before := tor.Stats().Uploaded
		time.Sleep(time.Minute)
		if got := tor.Stats().Uploaded; got != before {
			t.Errorf("uploaded %d bytes after it was off again", got-before)
		}
		n.SetSeeding(Seeding{})
		l.eventually(time.Second, "the session's rule holds", func() bool { return tor.Stats().Uploaded > before })
	})
}

func TestARatioIsKept(t *testing.T) {
	c := makeContent(t, 4*mebibyte)
	for _, earlier := range []int64{0, 3 * mebibyte} {
		t.Run(fmt.Sprintf("after %d bytes", earlier), func(t *testing.T) {
			simulate(t, func(l *lab) {
				seed, _ := l.seedNode(c, nodeOptions{})
				n := l.node(nodeOptions{Options: Options{Seeding: Seeding{Mode: SeedRatio, Ratio: 1}}})
				tor, err := n.Add(c.meta, AddOptions{Uploaded: earlier, Peers: append(addrsOf(), seed.addr())})
				if err != nil {
					t.Fatal(err)
				}
				n.open(tor, c).copyOut(0)
				for range 3 {
					l.taker(c, n)
				}
				time.Sleep(10 * time.Minute)
				got := float64(earlier+tor.Stats().Uploaded) / float64(len(c.data))
				if math.Abs(got-1) > 0.01 {
					t.Errorf("the ratio is %.4f, want 1", got)
				}
				tor.SetSeeding(&Seeding{Mode: SeedRatio, Ratio: 2})
				time.Sleep(10 * time.Minute)
				got = float64(earlier+tor.Stats().Uploaded) / float64(len(c.data))
				if math.Abs(got-2) > 0.02 {
					t.Errorf("the ratio is %.4f, want 2", got)
				}
			})
		})
	}
}

func TestSeedingEndsWithTheLastReader(t *testing.T) {
	c := makeContent(t, mebibyte)
	for _, tc := range []struct {
		rule  string
		least time.Duration // after the close
		most  time.Duration
	}{{"while-open", 4 * time.Second, 11 * time.Second}, {"time:2m", 119 * time.Second, 126 * time.Second}} {
		t.Run(tc.rule, func(t *testing.T) {
			simulate(t, func(l *lab) {
				rule, err := ParseSeeding(tc.rule)
				if err != nil {
					t.Fatal(err)
				}
				n, tor := l.seedNode(c, nodeOptions{link: rated(100 << 10), Options: Options{Seeding: rule}})
				time.Sleep(5 * time.Minute)
				k := l.taker(c, n)
				time.Sleep(time.Minute)
				if got := tor.Stats().Uploaded; got != 0 {
					t.Fatalf("uploaded %d bytes with no file open", got)
				}
				a, b := n.open(tor, c), n.open(tor, c)
				l.eventually(time.Second, "an open file lets others have it", k.unchoked.Load)
				a.Close()
				time.Sleep(10 * time.Minute)
				if !k.unchoked.Load() {
					t.Error("choked although a file is open")
				}
				b.Close()
				time.Sleep(tc.least)
				if !k.unchoked.Load() {
					t.Error("choked too soon")
				}
				l.eventually(tc.most-tc.least, "it ends", func() bool { return !k.unchoked.Load() })
			})
		})
	}
}

func TestLimitsOfATorrentHold(t *testing.T) {
	c := makeContent(t, 16*mebibyte)
	other := makeContent(t, 8*mebibyte)
	simulate(t, func(l *lab) {
		seed, st := l.seedNode(c, nodeOptions{})
		seed.fill(other)
		ot := seed.add(other)
		_, _ = l.taker(c, seed), l.taker(c, seed)
		l.taker(other, seed)
		measure := func(get func() int64, d time.Duration) float64 {
			before := get()
			time.Sleep(d)
			return float64(get()-before) / d.Seconds()
		}
		uploaded := func() int64 { return st.Stats().Uploaded }
		for _, want := range []int64{1 << 20, 128 << 10, 2 << 20} {
			st.SetLimits(Limits{Upload: want})
			time.Sleep(2 * time.Second)
			if got := measure(uploaded, 30*time.Second); math.Abs(got/float64(want)-1) > 0.05 {
				t.Errorf("up: got %.0f bytes/s, want %d", got, want)
			}
		}
		if got := measure(func() int64 { return ot.Stats().Uploaded }, 10*time.Second); got < 4<<20 {
			t.Errorf("the other torrent uploads %.0f bytes/s, and has no limit", got)
		}
		seed.SetLimits(Limits{Upload: 1 << 20}) // both hold
		time.Sleep(2 * time.Second)
		if got := measure(func() int64 { return st.Stats().Uploaded + ot.Stats().Uploaded }, 30*time.Second); math.Abs(got/(1<<20)-1) > 0.05 {
			t.Errorf("with the session's limit both upload %.0f bytes/s", got)
		}
	})
	simulate(t, func(l *lab) {
		seed, _ := l.seedNode(c, nodeOptions{})
		n := l.node(nodeOptions{Options: Options{Background: BackgroundAll}})
		tor := n.add(c, seed.addr())
		tor.SetLimits(Limits{Download: 512 << 10})
		if err := n.open(tor, c).read(0, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		before := tor.Stats().Downloaded
		time.Sleep(20 * time.Second)
		if got := float64(tor.Stats().Downloaded-before) / 20; math.Abs(got/(512<<10)-1) > 0.05 {
			t.Errorf("down: got %.0f bytes/s, want 512 KiB", got)
		}
	})
}
