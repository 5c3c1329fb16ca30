package swarm

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

const dialTimeout = 10 * time.Second

var (
	errSelf     = errors.New("that is ourselves")
	errStranger = errors.New("serves another torrent")
)

// connect dials candidates while more connections are wanted.
func (r *run) connect(now time.Time) {
	for {
		select {
		case r.t.session.dials <- struct{}{}:
		default:
			return // enough are half open
		}
		addr, ok := r.addrs.pick(now, len(r.peers) == 0 && len(r.waiting) > 0)
		if !ok {
			<-r.t.session.dials
			r.hunger(now)
			return
		}
		if r.t.session.mayReach(addr.Addr()) != nil {
			<-r.t.session.dials
			r.addrs.failed(now, addr, true)
			continue
		}
		r.group.Go(func() error {
			p, err := r.dial(addr)
			<-r.t.session.dials
			return errors.Join(r.post(r.ctx, dialled{addr, p, err}), r.servePeer(p))
		}, nil)
	}
}

// How often trackers are asked for more because nobody is left to talk to; they
// still keep to the interval that each of them allows.
const hungerEvery = 30 * time.Second

func (r *run) hunger(now time.Time) {
	if len(r.peers) == 0 && now.Sub(r.hungryAt) > hungerEvery {
		r.hungryAt = now
		r.t.search.needPeers()
	}
}

func (r *run) dialled(now time.Time, ev dialled) {
	if ev.p != nil {
		return // it tells of itself with joined
	}
	var pe *PanicError
	if errors.As(ev.err, &pe) {
		r.log.Error("panic in a peer", "peer", ev.addr, "panic", pe.Value, "stack", string(pe.Stack))
	} else {
		r.log.Debug("dial", "peer", ev.addr, "err", ev.err)
	}
	r.addrs.failed(now, ev.addr, errors.Is(ev.err, errSelf))
}

// dial connects and shakes hands.
func (r *run) dial(addr netip.AddrPort) (*peer, error) {
	conn, hs, err := r.t.session.dial(r.ctx, addr, r.t.info.Hash)
	if err != nil {
		return nil, err
	}
	return r.newPeer(conn, addr, hs, true), nil
}

// dial connects to somebody who serves the torrent of an infohash, and is not us.
func (s *Session) dial(ctx context.Context, addr netip.AddrPort, hash metainfo.Hash) (net.Conn, wire.Handshake, error) {
	dialling, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := s.opts.Network.Dial(dialling, addr)
	if err != nil {
		return nil, wire.Handshake{}, err
	}
	var hs wire.Handshake
	err = guard(func() error { // the address and its place among the dials are given back even then
		hs, err = s.shake(ctx, conn, func() error {
			_, err := conn.Write(s.handshake(hash))
			return err
		})
		return err
	})
	if err == nil && hs.InfoHash != [20]byte(hash) {
		err = errStranger
	}
	if err == nil && hs.PeerID == s.peerID {
		err = errSelf
	}
	if err != nil {
		conn.Close()
		return nil, wire.Handshake{}, err
	}
	return conn, hs, nil
}

// shake reads a peer's handshake within a time for the whole of it, after
// before has sent ours, if it is our turn first.
func (s *Session) shake(ctx context.Context, conn net.Conn, before func() error) (wire.Handshake, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return wire.Handshake{}, err
	}
	if before != nil {
		if err := before(); err != nil {
			return wire.Handshake{}, err
		}
	}
	buf := make([]byte, wire.HandshakeLen)
	for n := 0; ; {
		k, err := conn.Read(buf[n:])
		n += k
		hs, perr := wire.ParseHandshake(buf[:n])
		if perr == nil {
			return hs, conn.SetDeadline(time.Time{})
		}
		if !errors.Is(perr, io.ErrUnexpectedEOF) {
			return wire.Handshake{}, perr
		}
		if err != nil {
			return wire.Handshake{}, err
		}
	}
}

func (s *Session) handshake(hash [20]byte) []byte {
	h := wire.Handshake{InfoHash: hash, PeerID: s.peerID}
	h.Set(wire.FeatureFast)
	h.Set(wire.FeatureExtended)
	return wire.AppendHandshake(nil, h)
}

func (r *run) newPeer(conn net.Conn, addr netip.AddrPort, hs wire.Handshake, dialled bool) *peer {
	p := &peer{run: r, id: r.t.newPeerID(), conn: conn, addr: addr, dialed: dialled, hs: hs, out: newOutbox()}
	p.ctx, p.cancel = context.WithCancelCause(r.ctx)
	return p
}

// servePeer tells the loop of the peer, serves it, and tells of its end.
func (r *run) servePeer(p *peer) error {
	if p == nil {
		return nil
	}
	defer p.conn.Close()
	if err := r.post(r.ctx, joined{p}); err != nil {
		return err
	}
	err := p.serve()
	return r.post(context.WithoutCancel(r.ctx), left{p, err})
}
