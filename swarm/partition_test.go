package swarm

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"swarmfs/swarm/simnet"
)

// FA-09 to FA-11: what happens to the network in the middle of a read.

func TestReadsSurviveAPartition(t *testing.T) {
	c := makeContent(t, 4*mebibyte)
	for _, tc := range []struct {
		name        string
		break_, fix func(l *lab, n *node, seeds []*fakePeer)
	}{
		{
			"all cut off",
			func(l *lab, n *node, _ []*fakePeer) { n.host.Isolate() },
			func(l *lab, n *node, _ []*fakePeer) { n.host.Rejoin() },
		},
		{
			"what we send is lost",
			func(l *lab, n *node, seeds []*fakePeer) {
				for _, s := range seeds {
					l.net.Cut(n.host, s.host)
				}
			},
			func(l *lab, n *node, seeds []*fakePeer) {
				for _, s := range seeds {
					l.net.Heal(n.host, s.host)
				}
			},
		},
		{
			"what they send is lost",
			func(l *lab, n *node, seeds []*fakePeer) {
				for _, s := range seeds {
					l.net.Cut(s.host, n.host)
				}
			},
			func(l *lab, n *node, seeds []*fakePeer) {
				for _, s := range seeds {
					l.net.Heal(s.host, n.host)
				}
			},
		},
		{
			"all become slow",
			func(l *lab, _ *node, seeds []*fakePeer) {
				for _, s := range seeds {
					s.host.SetLink(simnet.Link{Latency: 5 * time.Second, Up: 1000})
				}
			},
			func(l *lab, _ *node, seeds []*fakePeer) {
				for _, s := range seeds {
					s.host.SetLink(rated(512 << 10))
				}
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			simulate(t, func(l *lab) {
				var seeds []*fakePeer
				var addrs []netip.AddrPort
				for range 3 {
					s := l.peer(c, rated(512<<10), script{})
					seeds, addrs = append(seeds, s), append(addrs, s.addr())
				}
				n := l.node(nodeOptions{Options: Options{ReadTimeout: 2 * time.Minute}})
				r := n.open(n.add(c, addrs...), c)
				var g sync.WaitGroup
				g.Go(func() { r.copyOut(0) })
				time.Sleep(time.Second)
				tc.break_(l, n, seeds)
				time.Sleep(time.Minute)
				tc.fix(l, n, seeds)
				healed := time.Now()
				g.Wait()
				// 2.5 MiB are left at most, from 1.5 MiB/s; a connection that was
				// given up is made again within 5 s or so.
				if d := time.Since(healed); d > 12*time.Second {
					t.Errorf("the rest took %v after the network healed", d)
				}
			})
		})
	}
}

func TestPeersThatVanishEndTheReadAtItsLimitAndLaterOnesServeIt(t *testing.T) {
	c := makeContent(t, 2*mebibyte)
	simulate(t, func(l *lab) {
		seed := l.peer(c, rated(256<<10), script{})
		n := l.node(nodeOptions{})
		r := n.open(n.add(c, seed.addr()), c)
		if err := r.read(0, readChunk); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		seed.host.Isolate()
		start := time.Now()
		if err := r.read(20*pieceLen, 1000); !errors.Is(err, ErrTimeout) {
			t.Fatalf("got %v, want a time-out", err)
		}
		if d := time.Since(start); d < 59*time.Second || d > 61*time.Second {
			t.Errorf("timed out after %v, want 60 s", d)
		}
		seed.host.Rejoin()
		time.Sleep(1100 * time.Millisecond)
		start = time.Now()
		if err := r.read(20*pieceLen, 1000); err != nil {
			t.Errorf("got %v after the peer came back", err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("took %v after the peer came back", d)
		}
	})
}

func TestPeersThatComeBackJustBeforeTheLimitServeTheRead(t *testing.T) {
	c := makeContent(t, 2*mebibyte)
	simulate(t, func(l *lab) {
		seed := l.peer(c, rated(256<<10), script{})
		n := l.node(nodeOptions{})
		r := n.open(n.add(c, seed.addr()), c)
		if err := r.read(0, readChunk); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		seed.host.Isolate()
		l.peers.Go(func() {
			time.Sleep(59 * time.Second)
			seed.host.Rejoin()
		})
		if err := r.read(20*pieceLen, 1000); err != nil {
			t.Errorf("got %v although the peer came back in time", err)
		}
	})
}

func TestASeederThatStartsLateIsFound(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		seed := l.silentPeer(c, near, script{})
		n := l.node(nodeOptions{})
		r := n.open(n.add(c, seed.addr()), c)
		l.peers.Go(func() {
			time.Sleep(20 * time.Second)
			seed.listen()
		})
		if err := r.read(0, 1000); err != nil {
			t.Errorf("got %v; refused dials are to be tried again", err)
		}
	})
}
