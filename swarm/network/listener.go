package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// Listen accepts TCP connections on HOST:PORT. Bound to a device, an empty or
// unspecified host is the device's addresses, and the listener follows the
// device: while it is away, Accept waits.
func (n *Network) Listen(addr string) (net.Listener, error) {
	l := &listener{n: n, addr: &net.TCPAddr{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	err := l.parse(addr)
	if err == nil && n.Down() == nil {
		err = l.reopen()
	}
	if err != nil {
		l.cancel()
		return nil, err
	}
	return l, nil
}

// listener is a TCP listener that comes again with its device.
type listener struct {
	// Set at start, read-only after.
	n      *Network
	host   string
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu    sync.Mutex
	addr  *net.TCPAddr // where it listens; before that, the port to be
	at    place        // of inner
	inner net.Listener // nil: not open
}

func (l *listener) parse(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	l.host = host
	l.addr.IP = net.ParseIP(host)
	if l.addr.IP == nil {
		l.addr.IP = net.IPv6unspecified
	}
	if l.addr.Port, err = strconv.Atoi(port); err != nil {
		return fmt.Errorf("port %q is not a number", port)
	}
	return nil
}

// reopen listens where the device is now. One caller at a time.
func (l *listener) reopen() error {
	p, err := l.n.place()
	if err != nil {
		return err
	}
	host, err := l.n.hostAt(p, l.host)
	if err != nil {
		return err
	}
	l.mu.Lock()
	port := l.addr.Port
	l.mu.Unlock()
	lc := net.ListenConfig{Control: binding{at: p}.control}
	inner, err := lc.Listen(l.ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		inner.Close()
		return net.ErrClosed
	}
	l.inner, l.at, l.addr = inner, p, inner.Addr().(*net.TCPAddr)
	return nil
}

// hostAt returns what to bind to at a place, of what was asked for.
func (n *Network) hostAt(p place, host string) (string, error) {
	if n.device == nil {
		return host, nil
	}
	a, err := netip.ParseAddr(host)
	if host != "" && err != nil {
		return "", fmt.Errorf("listen on %s: with --bind, give an address of it", host)
	}
	a = a.Unmap()
	switch {
	case (!a.IsValid() || a.IsUnspecified()) && n.device.name != "":
		return host, nil // the device is enough
	case !a.IsValid() || a.IsUnspecified():
		return n.device.addr.String(), nil
	case a != p.v4 && a != p.v6:
		return "", fmt.Errorf("listen on %v: it is not the address of %s", a, n.device)
	}
	return host, nil
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for l.ctx.Err() == nil {
		changed := l.n.changes()
		l.mu.Lock()
		inner, at := l.inner, l.at
		l.mu.Unlock()
		if inner == nil {
			if l.reopen() != nil {
				l.wait(changed)
			}
			continue
		}
		forget := l.n.remember(inner.Addr(), at, func() { inner.Close() })
		c, err := inner.Accept()
		forget()
		switch {
		case err == nil:
			return l.n.track(c, at), nil
		case l.ctx.Err() != nil:
		case errors.Is(err, net.ErrClosed): // its device went
			l.mu.Lock()
			l.inner = nil
			l.mu.Unlock()
		default:
			return nil, err
		}
	}
	return nil, net.ErrClosed
}

// wait returns when it is worth trying again. An address may be there some
// seconds before it can be used (RFC 4862, duplicate address detection).
func (l *listener) wait(changed <-chan struct{}) {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-l.ctx.Done():
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inner == nil {
		return nil
	}
	return l.inner.Close()
}

// Addr implements net.Listener. It is the newest; its address is unspecified
// before there was one.
func (l *listener) Addr() net.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addr
}
