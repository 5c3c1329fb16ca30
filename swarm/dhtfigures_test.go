package swarm

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/dht"
	"swarmfs/swarm/simnet"
)

// homes is the link of hosts that are 40 ms from each other, with a jitter.
var homes = simnet.Link{Latency: 20 * time.Millisecond, Jitter: 3 * time.Millisecond}

// dhtNode runs a node of the DHT alone on a host.
func (l *lab) dhtNode(bootstrap string) (addr string, stop func()) {
	l.t.Helper()
	h := l.host(homes)
	at := netip.AddrPortFrom(h.Addr(), 6881)
	o := dht.Options{
		Addrs:        []netip.AddrPort{at},
		ListenPacket: h.ListenPacket,
	}
	if bootstrap != "" {
		o.Bootstrap = []string{bootstrap}
	}
	s := dht.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() {
		if err := s.Serve(ctx); !errors.Is(err, context.Canceled) {
			l.t.Errorf("got %v, want the end of the context", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); g.Wait() })
	l.atEnd(stop)
	return at.String(), stop
}

// firstByte follows a link that is an infohash alone, and reads.
func (n *node) firstByte(c *content) time.Duration {
	n.lab.t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got, err := n.Resolve(ctx, Link{Hash: c.meta.Info.Hash})
	if err != nil {
		n.lab.t.Fatal(err)
	}
	tor, err := n.Add(&metainfo.Torrent{Info: got.Info}, AddOptions{Peers: got.Peers})
	if err != nil {
		n.lab.t.Fatal(err)
	}
	if err := n.open(tor, c).read(0, 1); err != nil {
		n.lab.t.Fatal(err)
	}
	return time.Since(start)
}

// Figure 1 of issue 5: from a link that is an infohash alone to the first byte,
// in a DHT of 50 nodes.
func TestFirstByteThroughTheDHT(t *testing.T) {
	c := makeContent(t, 4*mebibyte)
	for _, tc := range []struct {
		name              string
		dead              bool // a third of the nodes, since the seed was announced
		saved, blackHoled bool
		limit             time.Duration
	}{
		{"50 nodes", false, false, false, 5 * time.Second},
		{"a third of them dead", true, false, false, 8 * time.Second},
		{"from a saved table", false, true, false, 2 * time.Second},
		{"from a saved table, a third of it dead", true, true, false, 8 * time.Second},
		{"first bootstrap node black-holed", false, false, true, 10 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			simulate(t, func(l *lab) {
				entry, _ := l.dhtNode("")
				var stops []func()
				for range 48 {
					_, stop := l.dhtNode(entry)
					stops = append(stops, stop)
				}
				seed := l.withNode(entry)
				seed.fill(c)
				seed.add(c)
				time.Sleep(time.Minute)
				var kept []byte
				if tc.saved {
					before := l.savingNode(&kept, entry)
					time.Sleep(30 * time.Second)
					before.stop()
					if len(kept) == 0 {
						t.Fatal("nothing was saved")
					}
				}
				if tc.dead {
					for _, stop := range stops[16:32] {
						stop()
					}
				}
				var bootstrap []string
				switch {
				case tc.blackHoled:
					bootstrap = []string{netip.AddrPortFrom(l.host(homes).Addr(), 9).String(), entry}
				case !tc.saved:
					bootstrap = []string{entry}
				}
				took := l.savingNode(&kept, bootstrap...).firstByte(c)
				if took > tc.limit {
					t.Errorf("the first byte took %v, want at most %v", took, tc.limit)
				}
				t.Logf("first byte after %v", took.Round(time.Millisecond))
			})
		})
	}
}

// savingNode is withNode that keeps its nodes.
func (l *lab) savingNode(kept *[]byte, bootstrap ...string) *node {
	l.t.Helper()
	return l.nodeWith(func(o *dht.Options) {
		o.Load = func() ([]byte, error) { return *kept, nil }
		o.Save = func(b []byte) error { *kept = append([]byte(nil), b...); return nil }
	}, bootstrap...)
}
