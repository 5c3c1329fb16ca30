package swarm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"swarmfs/metainfo"
)

// acceptor takes the connections of one listener. It is a service.
type acceptor struct {
	s *Session
	l net.Listener
}

// Connections that have not shaken hands yet, at a time, and accepted a second:
// what a flood may take of us.
const (
	maxGreeting  = 256
	acceptPerSec = 200
)

// String names the service for the supervisor's log.
func (a *acceptor) String() string { return "listener " + a.l.Addr().String() }

// Serve accepts until ctx ends.
func (a *acceptor) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { a.l.Close() })
	defer stop()
	var g group
	defer g.Wait()
	greeting := make(chan struct{}, maxGreeting)
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
		select {
		case greeting <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		g.Go(func() error {
			return a.greet(ctx, conn, func() { <-greeting })
		}, nil)
	}
}

// greet shakes hands and serves the peer until it leaves. After is called when
// the hands are shaken or will not be.
func (a *acceptor) greet(ctx context.Context, conn net.Conn, after func()) error {
	defer conn.Close()
	hs, err := a.s.shake(ctx, conn, nil)
	after()
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return err
	}
	a.s.mu.Lock()
	t := a.s.torrents[metainfo.Hash(hs.InfoHash)]
	a.s.mu.Unlock()
	if t == nil || hs.PeerID == a.s.peerID || a.s.isBanned(addr) {
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
	return r.servePeer(r.newPeer(conn, addr, hs, false))
}
