package dht

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// memConn is a socket whose packets come from the test and go to it.
type memConn struct {
	addr netip.AddrPort
	in   chan memPacket
	out  chan memPacket // nil: nobody looks

	mu     sync.Mutex
	past   bool
	closed bool
	wake   chan struct{}
}

type memPacket struct {
	data []byte
	peer netip.AddrPort
	err  error // what ReadFrom returns instead
}

func newMemConn() *memConn {
	return &memConn{
		addr: netip.MustParseAddrPort("20.0.0.1:6881"),
		in:   make(chan memPacket), out: make(chan memPacket, 1000), wake: make(chan struct{}),
	}
}

func (c *memConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		c.mu.Lock()
		past, closed, wake := c.past, c.closed, c.wake
		c.mu.Unlock()
		switch {
		case closed:
			return 0, nil, net.ErrClosed
		case past:
			return 0, nil, os.ErrDeadlineExceeded
		}
		select {
		case p := <-c.in:
			return copy(b, p.data), net.UDPAddrFromAddrPort(p.peer), p.err
		case <-wake:
		}
	}
}

func (c *memConn) WriteTo(b []byte, to net.Addr) (int, error) {
	p := memPacket{data: append([]byte(nil), b...), peer: to.(*net.UDPAddr).AddrPort()}
	select {
	case c.out <- p:
	default:
	}
	return len(b), nil
}

func (c *memConn) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.wake)
	c.wake = make(chan struct{})
}

func (c *memConn) Close() error { c.change(func() { c.closed = true }); return nil }

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.change(func() { c.past = !t.IsZero() })
	return nil
}
func (c *memConn) SetDeadline(time.Time) error      { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }
func (c *memConn) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(c.addr) }

// alive is a life on a memConn, without limits.
func alive(t testing.TB) (*life, *memConn) {
	t.Helper()
	conn := newMemConn()
	f := newFamily(New(Options{Addrs: []netip.AddrPort{conn.addr}}), conn.addr)
	l, err := newLife(f, conn)
	if err != nil {
		t.Fatal(err)
	}
	l.link.incoming.SetLimit(rate.Inf)
	l.link.replies.SetLimit(rate.Inf)
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() { _ = l.run(ctx) })
	t.Cleanup(func() { cancel(); g.Wait() })
	return l, conn
}

var stranger = netip.MustParseAddrPort("20.1.2.3:7000")

const testPing = "d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:zz1:y1:qe"

// pong fails the test unless the node still answers a ping from a new address.
func pong(t testing.TB, conn *memConn) {
	t.Helper()
	conn.in <- memPacket{data: []byte(testPing), peer: stranger}
	for limit := time.After(5 * time.Second); ; {
		select {
		case p := <-conn.out:
			if p.peer == stranger {
				return
			}
		case <-limit:
			t.Fatal("the node does not answer any more")
		}
	}
}
