package dht

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// testNode is a Service that runs until it is stopped or the test ends.
type testNode struct {
	*Service
	addr netip.AddrPort
	stop func()
}

// memory is what a node saves.
type memory struct {
	mu   sync.Mutex
	data []byte
}

func (m *memory) load() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data, nil
}

func (m *memory) save(b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = b
	return nil
}

func run(t testing.TB, o Options) *testNode {
	t.Helper()
	if os.Getenv("DHT_LOG") != "" {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", o.Addrs[0].Addr())
	}
	n := &testNode{Service: New(o)}
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() {
		if err := n.Serve(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the end of the context", err)
		}
	})
	n.stop = sync.OnceFunc(func() { cancel(); g.Wait() })
	t.Cleanup(n.stop)
	wait(t, time.Second, "a socket", func() bool { return len(n.Status().Addrs) == len(o.Addrs) })
	n.addr = n.Status().Addrs[0]
	return n
}

func wait(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s within %s", what, limit)
		}
	}
}

func loopback(net, host int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, byte(net), byte(host)}), 0)
}

// network is a DHT on loopback addresses of its own; all nodes know the first.
func network(t testing.TB, net, size int) []*testNode {
	t.Helper()
	first := run(t, Options{Addrs: []netip.AddrPort{loopback(net, 1)}})
	nodes := []*testNode{first}
	for i := 2; i <= size; i++ {
		nodes = append(nodes, run(t, Options{
			Addrs: []netip.AddrPort{loopback(net, i)}, Bootstrap: []string{first.addr.String()},
		}))
	}
	for i, n := range nodes[1:] {
		wait(t, 20*time.Second, fmt.Sprintf("good table of node %d", i), func() bool { return n.Status().State == Good })
	}
	return nodes
}

// peersOf looks for peers until one is found, as a search does, and returns how
// long that took.
func peersOf(t testing.TB, n *testNode, hash [20]byte, want netip.AddrPort, limit time.Duration) time.Duration {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	done := make(chan struct{})
	found := sync.OnceFunc(func() { close(done) })
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	g.Go(func() {
		for ctx.Err() == nil {
			better := n.Better()
			_ = n.Lookup(ctx, hash, 0, false, func(addrs []netip.AddrPort) {
				for _, a := range addrs {
					if a == want {
						found()
					}
				}
			})
			select {
			case <-better:
			case <-done:
				return
			case <-ctx.Done():
			}
		}
	})
	select {
	case <-done:
	case <-ctx.Done():
		t.Fatalf("no peer within %s: %+v", limit, n.Status())
	}
	return time.Since(begin)
}

var testHash = [20]byte{9, 9, 9}

// announceFrom tells the network of a peer at a node's address.
func announceFrom(t testing.TB, n *testNode, port uint16) netip.AddrPort {
	t.Helper()
	if err := n.Lookup(t.Context(), testHash, port, true, func([]netip.AddrPort) {}); err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(n.addr.Addr(), port)
}

func TestAnnouncedPeerIsFound(t *testing.T) {
	nodes := network(t, 41, 50)
	peer := announceFrom(t, nodes[5], 7005)
	t.Logf("found after %s", peersOf(t, nodes[40], testHash, peer, 5*time.Second))
	for _, n := range nodes { // a third is gone, and nobody was told
		if i := n.addr.Addr().As4()[3]; i >= 20 && i < 37 {
			n.stop()
		}
	}
	t.Logf("a third dead: found after %s", peersOf(t, nodes[41], testHash, peer, 8*time.Second))
	newcomer := run(t, Options{Addrs: []netip.AddrPort{loopback(41, 99)}, Bootstrap: []string{nodes[0].addr.String()}})
	t.Logf("newcomer, a third dead: found after %s", peersOf(t, newcomer, testHash, peer, 8*time.Second))
}
