package swarm

import (
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"swarmfs/swarm/simnet"
)

var _ Network = (*simnet.Host)(nil)

func TestAFileIsReadFromOneSeeder(t *testing.T) {
	c := makeContent(t, 4*mebibyte+12345)
	for _, tc := range []struct {
		name  string
		plain bool
	}{{"fast", false}, {"plain", true}} {
		t.Run(tc.name, func(t *testing.T) {
			simulate(t, func(l *lab) {
				seed := l.peer(c, rated(2*mebibyte), script{plain: tc.plain})
				n := l.node(nodeOptions{})
				tor := n.add(c, seed.addr())
				start := time.Now()
				r := n.open(tor, c)
				r.copyOut(0)
				// 4 MiB at 2 MiB/s, and what it takes to connect and to begin.
				if d := time.Since(start); d > 2700*time.Millisecond {
					t.Errorf("took %v, want about 2.1s", d)
				}
				synctest.Wait() // the loop hears of the last piece after its readers
				st := tor.Stats()
				if st.Held != c.pieces() || st.Duplicate != 0 || st.Downloaded != int64(len(c.data)) {
					t.Errorf("held %d of %d pieces, %d bytes twice, %d fetched", st.Held, c.pieces(), st.Duplicate, st.Downloaded)
				}
			})
		})
	}
}

func TestManySeedersAddUp(t *testing.T) {
	c := makeContent(t, 8*mebibyte)
	simulate(t, func(l *lab) {
		var addrs []netip.AddrPort
		for i := range 8 {
			addrs = append(addrs, l.peer(c, rated(512<<10), script{plain: i%2 == 0}).addr())
		}
		n := l.node(nodeOptions{})
		tor := n.add(c, addrs...)
		start := time.Now()
		r := n.open(tor, c)
		r.copyOut(0)
		// 4 MiB/s in all.
		if d := time.Since(start); d > 3200*time.Millisecond {
			t.Errorf("took %v, want about 2s", d)
		}
		if dup := tor.Stats().Duplicate; dup > int64(len(c.data))/10 {
			t.Errorf("%d bytes of %d came twice", dup, len(c.data))
		}
	})
}

func TestSeveralReadersAndSeeks(t *testing.T) {
	c := makeContent(t, 8*mebibyte)
	simulate(t, func(l *lab) {
		a, b := l.peer(c, rated(2*mebibyte), script{}), l.peer(c, rated(2*mebibyte), script{})
		n := l.node(nodeOptions{})
		tor := n.add(c, a.addr(), b.addr())
		var g sync.WaitGroup
		for i := range 4 {
			g.Go(func() {
				r := n.open(tor, c)
				defer r.Close()
				r.copyOut(i * 2 * mebibyte)
			})
		}
		g.Go(func() {
			r := n.open(tor, c)
			defer r.Close()
			for i := range 40 {
				off := (i * 7919 * 1021) % (len(c.data) - 70_000)
				if err := r.read(off, 70_000); err != nil {
					t.Errorf("read at %d: %v", off, err)
				}
			}
			if r.stall > 3*time.Second {
				t.Errorf("a seek took %v beside four copies of 4 MiB/s in all", r.stall)
			}
		})
		g.Wait()
	})
}

func TestPiecesSpreadOverPeersAreAllFound(t *testing.T) {
	c := makeContent(t, 4*mebibyte)
	simulate(t, func(l *lab) {
		var addrs []netip.AddrPort
		for i := range 7 {
			addrs = append(addrs, l.peer(c, rated(mebibyte), script{
				plain: i%2 == 0,
				has:   func(piece int) bool { return piece%7 == i || piece%5 == i },
			}).addr())
		}
		n := l.node(nodeOptions{})
		n.open(n.add(c, addrs...), c).copyOut(0)
	})
}

func addrsOf(nodes ...*node) []netip.AddrPort {
	var list []netip.AddrPort
	for _, n := range nodes {
		list = append(list, n.addr())
	}
	return list
}
