package simnet

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// listener implements net.Listener.
type listener struct {
	// Set at start, read-only after.
	host *Host
	addr netip.AddrPort

	// Guarded by host.net.mu.
	queue   []*Conn
	closed  bool
	changed *sync.Cond
}

// Connections that wait to be accepted, at most. A dial beyond is not answered,
// and tried again.
const backlog = 128

// Listen accepts streams on HOST:PORT. HOST is the host's address, unspecified
// or empty; port 0 takes a free one.
func (h *Host) Listen(addr string) (net.Listener, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	at, err := h.bind("tcp", addr, func(p uint16) bool { return h.listeners[p] != nil })
	if err != nil {
		return nil, err
	}
	l := &listener{host: h, addr: at, changed: sync.NewCond(&h.net.mu)}
	h.listeners[at.Port()] = l
	return l, nil
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	l.host.net.mu.Lock()
	defer l.host.net.mu.Unlock()
	for {
		switch {
		case l.closed:
			return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
		case len(l.queue) > 0:
			c := l.queue[0]
			l.queue = l.queue[1:]
			return c, nil
		}
		l.changed.Wait()
	}
}

// Close implements net.Listener. Connections that nobody has accepted are reset.
func (l *listener) Close() error {
	l.host.net.mu.Lock()
	defer l.host.net.mu.Unlock()
	if l.closed {
		return &net.OpError{Op: "close", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
	l.closed = true
	delete(l.host.listeners, l.addr.Port())
	for _, c := range l.queue {
		c.abort(net.ErrClosed)
	}
	l.queue = nil
	l.changed.Broadcast()
	return nil
}

// Addr implements net.Listener; it is a *net.TCPAddr.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// attempt is a dial under way.
type attempt struct {
	client, server *Conn
	done           chan error // one place: how it ended
	over           bool       // it has, or nobody waits for it any more
	reached        bool       // somebody has answered
}

// A dial that nobody answers is tried again after a second, two, four …, as
// Linux does.
const firstRetry = time.Second

// Dial opens a stream, one round trip later. An address that no host has does
// not answer; a host where nobody listens refuses.
func (h *Host) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(addr), Err: err}
	}
	if ctx.Err() != nil {
		return fail(context.Cause(ctx))
	}
	a := &attempt{done: make(chan error, 1)}
	h.net.mu.Lock()
	local := netip.AddrPortFrom(h.addr, h.clientPort(addr))
	if peer := h.net.hosts[addr.Addr().Unmap()]; peer != nil {
		a.client, a.server = connect(h, peer, local, addr)
		a.try(firstRetry)
	}
	h.net.mu.Unlock()
	select {
	case err := <-a.done:
		if err != nil {
			return fail(err)
		}
		return a.client, nil
	case <-ctx.Done():
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if a.over && len(a.done) > 0 && <-a.done == nil {
		a.client.abort(net.ErrClosed) // it came through at the last moment
	}
	a.over = true
	return fail(context.Cause(ctx))
}

func (a *attempt) end(err error) {
	if !a.over {
		a.over = true
		a.done <- err
	}
}

// try sends what asks for the connection, and again later if need be.
func (a *attempt) try(again time.Duration) {
	a.client.out.travel(0, a.asked)
	n := a.client.host.net
	n.at(n.now()+again, a.client.out.key, func() {
		if !a.over {
			a.try(2 * again)
		}
	})
}

// asked happens at the host that is dialled.
func (a *attempt) asked() {
	if a.reached {
		return
	}
	l := a.server.host.listeners[a.server.local.Port()]
	switch {
	case l == nil:
		a.reached = true
		a.server.out.travel(0, func() { a.end(syscall.ECONNREFUSED) })
	case len(l.queue) < backlog:
		a.reached = true
		a.server.out.travel(0, func() { a.answered(l) })
	}
}

// answered happens at the host that dials.
func (a *attempt) answered(l *listener) {
	if a.over { // nobody waits: the half-open connection is forgotten
		return
	}
	a.client.open()
	a.end(nil)
	// In order with what the client sends: nothing arrives before it.
	a.client.out.travel(0, func() {
		if a.server.err != nil {
			return // it was reset meanwhile
		}
		a.server.open()
		if l.closed {
			a.server.abort(net.ErrClosed)
			return
		}
		l.queue = append(l.queue, a.server)
		l.changed.Signal()
	})
}

// open lists a connection with its host.
func (c *Conn) open() { c.host.conns = append(c.host.conns, c) }

// forget takes it off the list.
func (c *Conn) forget() {
	c.host.conns = slices.DeleteFunc(c.host.conns, func(o *Conn) bool { return o == c })
}
