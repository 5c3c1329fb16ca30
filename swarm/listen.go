package swarm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

// acceptor takes the connections of one listener. It is a service.
type acceptor struct {
	s *Session
	l net.Listener
}

// Connections that have not shaken hands yet, at a time, and accepted a second:
// what a flood may take of us.
const (
	maxGreeting     = 256
	maxGreetingFrom = 32 // from one address
	acceptPerSec    = 1000
)

// String names the service for the supervisor's log.
func (a *acceptor) String() string { return "listener " + a.l.Addr().String() }

// Serve accepts until ctx ends.
func (a *acceptor) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { a.l.Close() })
	defer stop()
	var g group
	defer g.Wait()
	greeting := greetings{from: map[netip.Prefix]int{}}
	lim := rate.NewLimiter(acceptPerSec, acceptPerSec)
	for {
		if err := lim.Wait(ctx); err != nil {
			return context.Cause(ctx)
		}
		conn, err := a.l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return ctx.Err()
			}
			// Out of files or memory: wait for some to be given back.
			a.s.log.Warn("accept", "err", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			continue
		}
		addr, err := netip.ParseAddrPort(conn.RemoteAddr().String())
		if err != nil {
			conn.Close()
			continue
		}
		loser, ok := greeting.begin(conn, addr.Addr())
		if loser != nil {
			loser.Close()
		}
		if !ok {
			continue
		}
		g.Go(func() error {
			return a.greet(ctx, conn, addr, func() { greeting.end(conn) })
		}, a.greeted)
	}
}

func (a *acceptor) greeted(err error) {
	var pe *PanicError
	if errors.As(err, &pe) {
		a.s.log.Error("panic in a peer", "panic", pe.Value, "stack", string(pe.Stack))
	}
}

// greet shakes hands and serves the peer until it leaves. After is called when
// the hands are shaken or will not be.
func (a *acceptor) greet(ctx context.Context, conn net.Conn, addr netip.AddrPort, after func()) error {
	defer conn.Close()
	conn, hs, err := a.shake(ctx, conn, after)
	if err != nil {
		return err
	}
	a.s.mu.Lock()
	t, link := a.s.torrents[metainfo.Hash(hs.InfoHash)], a.s.links[metainfo.Hash(hs.InfoHash)]
	a.s.mu.Unlock()
	if a.s.isBanned(addr) {
		return nil
	}
	if t == nil && link != nil {
		return link.greeted(ctx, conn, addr, hs)
	}
	if t == nil {
		return nil
	}
	t.mu.Lock()
	r := t.run
	t.mu.Unlock()
	if r == nil || t.Stats().Peers >= 2*a.s.opts.MaxPeers {
		return nil
	}
	if err := conn.SetWriteDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	if _, err := conn.Write(a.s.handshake(t.info.Hash)); err != nil {
		return err
	}
	if hs.PeerID == a.s.peerID {
		return nil // our own dial: it knows by our answer, and does not try again
	}
	return r.servePeer(r.newPeer(conn, addr, hs, false))
}

// shake calls after whatever happens, so that no flood or bug keeps the place.
func (a *acceptor) shake(ctx context.Context, conn net.Conn, after func()) (net.Conn, wire.Handshake, error) {
	defer after()
	return a.s.accept(ctx, conn)
}

var errPlain = errors.New("wants a plain connection")

// accept reads the handshake of somebody who has connected to us and begins in one
// way or the other, within a time for the whole of it.
func (s *Session) accept(ctx context.Context, conn net.Conn) (net.Conn, wire.Handshake, error) {
	stop, err := boundShake(ctx, conn, handshakeTimeout)
	if err != nil {
		return conn, wire.Handshake{}, err
	}
	defer stop()
	hs, read, err := readHandshake(conn)
	var other *wire.ProtocolError
	switch {
	case errors.As(err, &other) && s.opts.Encryption != EncryptionOff:
		conn, hs, err = s.receive(ctx, conn, read)
	case err == nil && s.opts.Encryption == EncryptionRequire:
		err = errPlain
	}
	if err != nil {
		return conn, wire.Handshake{}, err
	}
	return conn, hs, conn.SetDeadline(time.Time{})
}

// greetings are the connections of a listener that have not shaken hands yet.
// When there are too many, the one that takes longest makes room: an honest peer
// needs a round trip, and a thousand silent ones cannot keep it out.
type greetings struct {
	mu   sync.Mutex
	list []greeting // oldest first
	from map[netip.Prefix]int
}

type greeting struct {
	conn net.Conn
	from netip.Prefix
}

// begin says whether a connection from the address may greet. The loser, if any,
// is to be closed: the connection itself, or one that it takes the place of.
func (g *greetings) begin(conn net.Conn, addr netip.Addr) (loser net.Conn, ok bool) {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64 // one subscriber's network
	}
	from, err := addr.Prefix(bits)
	if err != nil {
		return conn, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.from[from] >= maxGreetingFrom {
		return conn, false
	}
	if len(g.list) >= maxGreeting {
		loser = g.list[0].conn
		g.remove(0)
	}
	g.list = append(g.list, greeting{conn, from})
	g.from[from]++
	return loser, true
}

// end says that the hands are shaken or will not be.
func (g *greetings) end(conn net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.list {
		if g.list[i].conn == conn {
			g.remove(i)
			return
		}
	}
}

func (g *greetings) remove(i int) {
	from := g.list[i].from
	if g.from[from]--; g.from[from] == 0 {
		delete(g.from, from)
	}
	g.list = append(g.list[:i], g.list[i+1:]...)
}
