package dht

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// From a saved table a peer is found within 2 s of a start, although a third of
// the nodes in it are gone; no bootstrap host is asked.
func TestSavedNodesReplaceBootstrap(t *testing.T) {
	nodes := network(t, 43, 50)
	peer := announceFrom(t, nodes[5], 7005)
	var kept memory
	o := Options{Addrs: []netip.AddrPort{loopback(43, 99)}, Bootstrap: []string{nodes[0].addr.String()}, Load: kept.load, Save: kept.save}
	first := run(t, o)
	wait(t, 5*time.Second, "good table", func() bool { return first.Status().State == Good })
	id := first.families[0].current().id
	first.stop()
	for _, n := range nodes {
		if i := n.addr.Addr().As4()[3]; i >= 20 && i < 37 {
			n.stop()
		}
	}
	o.Bootstrap = []string{"must.not.be.asked:1"}
	o.Resolve = func(context.Context, string) ([]netip.Addr, error) {
		t.Error("bootstrap hosts are looked up, although saved nodes answer")
		return nil, nil
	}
	again := run(t, o)
	if got := again.families[0].current().id; got != id {
		t.Errorf("a new id %x after a restart, want %x", got, id)
	}
	t.Logf("found after %s", peersOf(t, again, testHash, peer, 2*time.Second))
	wait(t, 10*time.Second, "good table", func() bool { return again.Status().State == Good })
}

// With the first bootstrap node black-holed and its neighbour's name server too,
// a peer is found within 10 s: all are asked at once.
func TestDeadBootstrapNodesDoNotDelay(t *testing.T) {
	nodes := network(t, 44, 50)
	peer := announceFrom(t, nodes[5], 7005)
	hole, err := net.ListenPacket("udp4", "127.0.44.98:0") // takes what it gets, and is silent
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	var asked sync.Map
	n := run(t, Options{
		Addrs:     []netip.AddrPort{loopback(44, 99)},
		Bootstrap: []string{hole.LocalAddr().String(), "dead.example:1", fmt.Sprintf("alive.example:%d", nodes[0].addr.Port())},
		Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
			asked.Store(host, true)
			if host == "dead.example" {
				<-ctx.Done() // as a name server that does not answer
				return nil, ctx.Err()
			}
			return []netip.Addr{nodes[0].addr.Addr()}, nil
		},
	})
	t.Logf("found after %s", peersOf(t, n, testHash, peer, 10*time.Second))
	if _, ok := asked.Load("dead.example"); !ok {
		t.Error("the second host was not looked up")
	}
}

// All saved nodes are dead: bootstrap hosts are asked when they had their time.
func TestBootstrapWhenSavedNodesAreDead(t *testing.T) {
	nodes := network(t, 45, 20)
	peer := announceFrom(t, nodes[5], 7005)
	var kept memory
	var s saved
	for i := range 100 {
		s.v4.nodes = append(s.v4.nodes, contact{[20]byte{byte(3 * i), 7}, netip.AddrPortFrom(loopback(46, i).Addr(), 9)})
	}
	kept.data = s.marshal()
	n := run(t, Options{Addrs: []netip.AddrPort{loopback(45, 99)}, Bootstrap: []string{nodes[0].addr.String()}, Load: kept.load, Save: kept.save})
	t.Logf("found after %s", peersOf(t, n, testHash, peer, 10*time.Second))
}

// A node that peers told of is enough to begin with.
func TestPingedNodeIsABeginning(t *testing.T) {
	nodes := network(t, 47, 10)
	peer := announceFrom(t, nodes[5], 7005)
	n := run(t, Options{Addrs: []netip.AddrPort{loopback(47, 99)}})
	if err := n.Lookup(t.Context(), testHash, 0, false, nil); err == nil {
		t.Fatal("found something without a node")
	}
	n.Ping(netip.AddrPortFrom(nodes[3].addr.Addr(), 9)) // nobody is there
	n.Ping(nodes[3].addr)
	t.Logf("found after %s", peersOf(t, n, testHash, peer, 5*time.Second))
}

func TestIPv6(t *testing.T) {
	any6 := netip.AddrPortFrom(netip.IPv6Loopback(), 0)
	first := run(t, Options{Addrs: []netip.AddrPort{any6}})
	var nodes []*testNode
	for range 8 {
		nodes = append(nodes, run(t, Options{Addrs: []netip.AddrPort{any6}, Bootstrap: []string{first.addr.String()}}))
	}
	for _, n := range nodes {
		wait(t, 10*time.Second, "good table", func() bool { return n.Status().State == Good })
	}
	peer := announceFrom(t, nodes[2], 7005)
	t.Logf("found after %s", peersOf(t, nodes[7], testHash, peer, 5*time.Second))
}

// A node of both families looks in both, and says that it is there in both.
func TestBothFamilies(t *testing.T) {
	v4, v6 := loopback(48, 1), netip.AddrPortFrom(netip.IPv6Loopback(), 0)
	one := run(t, Options{Addrs: []netip.AddrPort{v4, v6}})
	addrs := one.Status().Addrs
	if one.Port(addrs[0].Addr()) != addrs[0].Port() || one.Port(addrs[1].Addr()) != addrs[1].Port() {
		t.Errorf("ports %d and %d, want those of %v", one.Port(addrs[0].Addr()), one.Port(addrs[1].Addr()), addrs)
	}
	two := run(t, Options{Addrs: []netip.AddrPort{loopback(48, 2), v6}, Bootstrap: []string{addrs[0].String(), addrs[1].String()}})
	wait(t, 5*time.Second, "nodes of both", func() bool { return two.Status().Good == 2 })
	announceFrom(t, two, 7005)
	for _, a := range two.Status().Addrs {
		peersOf(t, one, testHash, netip.AddrPortFrom(a.Addr(), 7005), 5*time.Second)
	}
}

func TestLookupEndsWithItsContext(t *testing.T) {
	var s saved // nodes that answer nobody
	for i := range 100 {
		s.v4.nodes = append(s.v4.nodes, contact{[20]byte{byte(3 * i), 7}, netip.AddrPortFrom(loopback(46, i).Addr(), 9)})
	}
	kept := memory{data: s.marshal()}
	n := run(t, Options{Addrs: []netip.AddrPort{loopback(49, 1)}, Load: kept.load})
	wait(t, time.Second, "saved nodes", func() bool { return n.Status().Nodes > 8 })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	begin := time.Now()
	err := n.Lookup(ctx, testHash, 7005, true, func([]netip.AddrPort) {})
	if d := time.Since(begin); err == nil || d > time.Second {
		t.Errorf("got %v after %s, want the end of the context", err, d)
	}
	ended := make(chan error)
	var g sync.WaitGroup
	defer g.Wait()
	g.Go(func() { ended <- n.Lookup(t.Context(), testHash, 7005, true, func([]netip.AddrPort) {}) })
	time.Sleep(50 * time.Millisecond)
	begin = time.Now()
	n.stop()
	if err := <-ended; err == nil || time.Since(begin) > time.Second {
		t.Errorf("got %v after %s, want an error when the node ends", err, time.Since(begin))
	}
}
