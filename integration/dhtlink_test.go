package integration

import (
	"context"
	"io"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"swarmfs/swarm/dht"
)

// dhtNode is a node of a DHT of the tests' own.
type dhtNode struct {
	addr netip.AddrPort
	stop func()
}

// startNodes starts a DHT of so many nodes, with addresses of their own on the hub:
// one at a time. All know the first.
func startNodes(t testing.TB, size int) []*dhtNode {
	t.Helper()
	requireNamespaces(t)
	var nodes []*dhtNode
	var services []*dht.Service
	for i := range size {
		ip := netip.AddrFrom4([4]byte{10, 77, 250, byte(i + 1)})
		if err := ipBatch("", "addr add "+ip.String()+"/32 dev br0"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := ipBatch("", "addr del "+ip.String()+"/32 dev br0"); err != nil {
				t.Error(err)
			}
		})
		n := &dhtNode{addr: netip.AddrPortFrom(ip, 6881)}
		o := dht.Options{Addrs: []netip.AddrPort{n.addr}}
		if i > 0 {
			o.Bootstrap = []string{nodes[0].addr.String()}
		}
		s := dht.New(o)
		ctx, cancel := context.WithCancel(context.Background())
		var g sync.WaitGroup
		g.Go(func() { _ = s.Serve(ctx) })
		n.stop = func() { cancel(); g.Wait() }
		t.Cleanup(n.stop)
		nodes, services = append(nodes, n), append(services, s)
	}
	eventually(t, 60*time.Second, "the nodes of the DHT know each other", func() bool {
		for _, s := range services[1:] {
			if s.Status().State != dht.Good {
				return false
			}
		}
		return true
	})
	return nodes
}

// throughNodes are flags that undo onlyGivenPeers for the DHT.
func throughNodes(bootstrap ...string) []string {
	flags := []string{"--no-dht=false"}
	for _, b := range bootstrap {
		flags = append(flags, "--dht-bootstrap", b)
	}
	return flags
}

// A magnet link without trackers, and a DHT: the content can be read. So it can
// when a third of the nodes are gone, when the node that is asked first is, and
// after a restart with the saved table alone. The log says how soon.
func TestTheDHTLeadsFromALinkToItsContent(t *testing.T) {
	t.Parallel()
	nodes := startNodes(t, 50)
	c := single(t, "dht.bin", 4<<20, 256<<10)
	first, blackHole := nodes[0].addr.String(), "10.77.249.9:6881"
	seeder := seed(t, newNode(t), c, throughNodes(first)...)

	read := func(what string, n *node, opts mountOptions) *mounted {
		t.Helper()
		began := time.Now()
		m := mount(t, n, opts, c.magnet())
		m.shown(c, 60*time.Second)
		f, err := os.Open(m.path(c, c.files[0]))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := io.ReadFull(f, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: first byte after %.1f s", what, time.Since(began).Seconds())
		return m
	}
	// The seeder's own announce takes a moment: the first mount may wait for it.
	read("seeder just started", newNode(t), mountOptions{flags: throughNodes(first)}).unmount()
	kept := mountOptions{flags: throughNodes(first), data: t.TempDir()}
	read("new node", newNode(t), kept).unmount()
	read("first of the nodes to ask is a black hole", newNode(t), mountOptions{flags: throughNodes(blackHole, first)}).unmount()
	for i := 2; i < len(nodes); i += 3 {
		nodes[i].stop()
	}
	read("a third of the nodes gone", newNode(t), mountOptions{flags: throughNodes(first)}).unmount()

	// Only the table of before is left: the metadata is forgotten, and nobody is
	// named that could be asked.
	if err := os.RemoveAll(kept.data + "/torrents"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(kept.data + "/pieces"); err != nil {
		t.Fatal(err)
	}
	kept.flags = throughNodes()
	m := read("saved table after a restart", newNode(t), kept)
	c.copyOut(t, m.point)
	m.unmount()
	stopSeed(t, seeder)
}
