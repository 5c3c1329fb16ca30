package dht

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// family is our node in one address family. It outlives its sockets and the lives
// of its server.
type family struct {
	// Set at start, read-only after.
	s    *Service
	addr netip.AddrPort // wanted
	v6   bool

	pings chan netip.AddrPort // to look at

	mu   sync.Mutex
	life *life // nil: none
	port uint16
	last half // of the life before
}

// Hints that wait for being looked at; what comes beyond is dropped.
const maxPings = 64

func newFamily(s *Service, addr netip.AddrPort) *family {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	return &family{s: s, addr: addr, v6: addr.Addr().Is6(), pings: make(chan netip.AddrPort, maxPings)}
}

func (f *family) network() string {
	if f.v6 {
		return "udp6"
	}
	return "udp4"
}

// How long to wait before a socket is opened again.
const (
	firstReopen = time.Second
	maxReopen   = time.Minute
)

// serve keeps a node running until ctx ends.
func (f *family) serve(ctx context.Context) {
	f.mu.Lock()
	f.last = f.s.savedFor(f.v6)
	f.mu.Unlock()
	for pause := firstReopen; ctx.Err() == nil; pause = min(2*pause, maxReopen) {
		opened := time.Now()
		err := f.serveSocket(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(opened) > maxReopen {
			pause = firstReopen
		}
		f.s.log.Info("no DHT node for now", "network", f.network(), "err", err, "again in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// serveSocket opens a socket and runs lives on it until it is of no use, or ctx
// ends.
func (f *family) serveSocket(ctx context.Context) error {
	socket, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer socket.Close()
	for {
		l, err := newLife(f, socket)
		if err != nil {
			return err
		}
		f.begin(l)
		err = l.run(ctx)
		f.end(l)
		if !errors.Is(err, errNewID) {
			return err
		}
	}
}

// open takes the wanted port, or another if that is taken.
func (f *family) open(ctx context.Context) (net.PacketConn, error) {
	socket, err := f.s.o.ListenPacket(ctx, f.network(), f.addr.String())
	if errors.Is(err, syscall.EADDRINUSE) && f.addr.Port() != 0 {
		socket, err = f.s.o.ListenPacket(ctx, f.network(), netip.AddrPortFrom(f.addr.Addr(), 0).String())
		if err == nil {
			f.s.log.Info("the DHT's port is taken, using another", "wanted", f.addr, "address", socket.LocalAddr())
		}
	}
	return socket, err
}

func (f *family) begin(l *life) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.life = l
	if a, ok := addrPort(l.link.LocalAddr()); ok {
		f.port = a.Port()
	}
}

func (f *family) end(l *life) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.life = nil
	f.port = 0
	if h := l.leaves; len(h.nodes) > 0 {
		f.last = h
	} else {
		f.last.id = h.id
	}
}

func (f *family) current() *life {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.life
}

// remembered is what is to be saved.
func (f *family) remembered() half {
	f.mu.Lock()
	l, last := f.life, f.last
	f.mu.Unlock()
	if l != nil {
		return l.knows()
	}
	return last
}

func (f *family) localPort() uint16 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.port
}

func (f *family) status() (state State, nodes, good int, addr netip.AddrPort) {
	l := f.current()
	if l == nil {
		return Offline, 0, 0, addr
	}
	st := l.server.Stats()
	addr, _ = addrPort(l.link.LocalAddr())
	return State(l.state.Load()), st.Nodes, st.GoodNodes, addr
}

// do does something on the present life, and once more when that ends meanwhile.
func (f *family) do(ctx context.Context, do func(context.Context, *life) error) error {
	for range 2 {
		l := f.current()
		if l == nil {
			break
		}
		err := do(ctx, l)
		if !errors.Is(err, errLinkClosed) || ctx.Err() != nil {
			return err
		}
	}
	return ErrNoNodes
}

func (f *family) ping(addr netip.AddrPort) {
	select {
	case f.pings <- addr:
	default:
	}
}
