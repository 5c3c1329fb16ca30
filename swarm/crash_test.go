package swarm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"swarmfs/cache"
	"swarmfs/swarm/simnet"
)

// panicky is a network whose connections with one address panic in their reader
// after some reads.
type panicky struct {
	*simnet.Host
	victim netip.Addr
	after  int64
	times  *atomic.Int64
}

func (p panicky) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	conn, err := p.Host.Dial(ctx, addr)
	if err != nil || addr.Addr() != p.victim {
		return conn, err
	}
	return &panickyConn{Conn: conn, p: p}, nil
}

type panickyConn struct {
	net.Conn
	p     panicky
	reads int64
}

func (c *panickyConn) Read(b []byte) (int, error) {
	if c.reads++; c.reads > c.p.after {
		c.p.times.Add(1)
		panic("the test's own bug in a peer")
	}
	return c.Conn.Read(b)
}

func TestAPanicInAPeerEndsThatPeerOnly(t *testing.T) {
	c := makeContent(t, 4*mebibyte)
	for _, tc := range []struct {
		name  string
		after int64
	}{{"in the handshake", 0}, {"later", 5}} {
		t.Run(tc.name, func(t *testing.T) {
			simulate(t, func(l *lab) {
				honest, victim := l.peer(c, rated(mebibyte), script{}), l.peer(c, rated(mebibyte), script{})
				var times atomic.Int64
				n := l.node(nodeOptions{net: func(h *simnet.Host) Network {
					return panicky{h, victim.host.Addr(), tc.after, &times}
				}})
				tor := n.add(c, honest.addr(), victim.addr())
				time.Sleep(time.Second)
				r := n.open(tor, c)
				r.copyOut(0)
				if r.stall > 3*time.Second {
					t.Errorf("a read took %v", r.stall)
				}
				time.Sleep(time.Hour)
				if got := times.Load(); got < 2 || got > 2000 {
					t.Errorf("the address was tried %d times in an hour; it is to be left alone for a while and tried again", got)
				}
				if got := int64(n.log.count("ERROR panic in a peer")); got != times.Load() {
					t.Errorf("%d panics, %d of them logged", times.Load(), got)
				}
				if n.isBanned(victim.addr()) {
					t.Error("the address is banned for a bug of ours")
				}
				// It is left when all is there, as both are seeds then.
				if got := honest.conns.Load(); got != 1 {
					t.Errorf("the honest peer was connected %d times, want once", got)
				}
				if got := len(n.dials); got != 0 {
					t.Errorf("%d dials are still under way", got)
				}
			})
		})
	}
}

// faulty is a Volume whose Draft panics, which the loop calls.
type faulty struct {
	Volume
	drafts atomic.Int64 // calls that are to panic
}

func (f *faulty) Draft(piece int, urgent bool) (*cache.Draft, error) {
	if f.drafts.Add(-1) >= 0 {
		panic("the test's own bug in the loop")
	}
	return f.Volume.Draft(piece, urgent)
}

func (l *lab) faultyTorrent(n *node, c *content, peers ...netip.AddrPort) (*Torrent, *faulty) {
	info := c.meta.Info
	v, err := n.store.Volume(info.Hash, cache.Geometry{PieceLength: info.PieceLength, Length: info.Length, Sums: info.PieceSums()})
	if err != nil {
		l.t.Fatal(err)
	}
	f := &faulty{Volume: v}
	tor, err := n.Add(c.meta, AddOptions{Volume: f, Peers: peers})
	if err != nil {
		l.t.Fatal(err)
	}
	return tor, f
}

func TestACrashedLoopStartsAgainAndItsReadersGoOn(t *testing.T) {
	c, other := makeContent(t, 2*mebibyte), makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		seed, otherSeed := l.peer(c, rated(mebibyte), script{}), l.peer(other, rated(mebibyte), script{})
		n := l.node(nodeOptions{})
		tor, f := l.faultyTorrent(n, c, seed.addr())
		sibling := n.add(other, otherSeed.addr())
		time.Sleep(time.Second)
		r := n.open(tor, c)
		if err := r.read(0, 3*pieceLen); err != nil {
			t.Fatal(err)
		}
		counted := tor.Stats()
		f.drafts.Store(2) // crashes twice, as the second life meets it, too
		before := otherSeed.conns.Load()
		start := time.Now()
		r.copyOut(0)
		n.open(sibling, other).copyOut(0)
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("took %v with two crashes", d)
		}
		if got := n.log.count("ERROR panic"); got != 2 {
			t.Errorf("%d panics are logged, want 2", got)
		}
		if got := tor.Stats(); got.Downloaded < int64(len(c.data)) || got.Requested < counted.Requested {
			t.Errorf("the counters went back in the crash: from %+v to %+v", counted.Stats, got.Stats)
		}
		if otherSeed.conns.Load() != before {
			t.Error("the crash of one torrent touched the peers of another")
		}
	})
}

func TestWhatACrashThrowsAwayCountsAsDiscarded(t *testing.T) {
	c := makeContent(t, 2*mebibyte)
	simulate(t, func(l *lab) {
		seed := l.peer(c, rated(mebibyte), script{})
		n := l.node(nodeOptions{})
		tor, f := l.faultyTorrent(n, c, seed.addr())
		time.Sleep(time.Second)
		r := n.open(tor, c)
		go func() {
			time.Sleep(300 * time.Millisecond)
			f.drafts.Store(1) // when others are half done
		}()
		r.copyOut(0)
		got := tor.Stats()
		if got.Discarded == 0 || got.Downloaded-got.Failed-got.Discarded != int64(len(c.data)) {
			t.Errorf("of %d bytes %d are discarded, want what is beyond %d", got.Downloaded, got.Discarded, len(c.data))
		}
	})
}

func TestTheThirdCrashInTenMinutesIsFinal(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		seed := l.peer(c, near, script{})
		n := l.node(nodeOptions{})
		tor, f := l.faultyTorrent(n, c, seed.addr())
		time.Sleep(time.Second)
		f.drafts.Store(3)
		r := n.open(tor, c)
		start := time.Now()
		if err := r.read(0, 10); !errors.Is(err, ErrFailed) {
			t.Fatalf("got %v, want ErrFailed", err)
		}
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("took %v to give up", d)
		}
		if err := r.read(0, 10); !errors.Is(err, ErrFailed) {
			t.Errorf("a later read got %v, want ErrFailed", err)
		}
		if got := n.log.count("torrent has failed"); got != 1 {
			t.Errorf("%d log entries about the failure, want 1", got)
		}
		// It can be removed, and a sibling works.
		if err := n.Remove(c.meta.Info.Hash); err != nil {
			t.Error(err)
		}
		seed2 := l.peer(c, near, script{})
		n.open(n.add(c, seed2.addr()), c).copyOut(0)
	})
}

func TestCrashesFarApartAreForgiven(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		seed := l.peer(c, near, script{})
		n := l.node(nodeOptions{})
		tor, f := l.faultyTorrent(n, c, seed.addr())
		r := n.open(tor, c)
		for i := range 6 {
			f.drafts.Store(1)
			if err := r.read(i*2*pieceLen, 10); err != nil {
				t.Fatalf("after crash %d: %v", i+1, err)
			}
			time.Sleep(6 * time.Minute)
		}
	})
}
