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
		if r.addrs.complete {
			r.t.search.beFound()
			return
		}
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
// Who refuses one way of beginning is at once dialled again in the other.
func (s *Session) dial(ctx context.Context, addr netip.AddrPort, hash metainfo.Hash) (conn net.Conn, hs wire.Handshake, err error) {
	for _, w := range s.manners.of(addr, s.opts.Encryption) {
		var refused bool
		conn, hs, refused, err = s.dialIn(ctx, addr, hash, w)
		if err == nil {
			s.manners.learn(addr, w)
		}
		if !refused || ctx.Err() != nil {
			break
		}
	}
	return conn, hs, err
}

// dialIn dials in one way. Refused says that it may be the way that did not please.
func (s *Session) dialIn(ctx context.Context, addr netip.AddrPort, hash metainfo.Hash, w manner) (conn net.Conn, hs wire.Handshake, refused bool, err error) {
	dialling, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	socket, err := s.opts.Network.Dial(dialling, addr)
	if err != nil {
		return nil, hs, false, err
	}
	err = guard(func() error { // the address and its place among the dials are given back even then
		if w == encryptedManner {
			conn, hs, err = s.initiate(ctx, socket, hash)
		} else {
			conn, hs, err = s.shake(ctx, socket, hash)
		}
		return err
	})
	refused = err != nil
	if err == nil && hs.InfoHash != [20]byte(hash) {
		err = errStranger
	}
	if err == nil && hs.PeerID == s.peerID {
		err = errSelf
	}
	if err != nil {
		socket.Close()
		return nil, hs, refused, err
	}
	return conn, hs, false, nil
}

// shake sends our handshake and reads a peer's, within a time for the whole of it.
func (s *Session) shake(ctx context.Context, conn net.Conn, hash metainfo.Hash) (net.Conn, wire.Handshake, error) {
	stop, err := boundShake(ctx, conn, handshakeTimeout)
	if err != nil {
		return conn, wire.Handshake{}, err
	}
	defer stop()
	if _, err := conn.Write(s.handshake(hash)); err != nil {
		return conn, wire.Handshake{}, err
	}
	hs, _, err := readHandshake(conn)
	if err != nil {
		return conn, wire.Handshake{}, err
	}
	return conn, hs, conn.SetDeadline(time.Time{})
}

// boundShake sets an end to the handshakes of a connection: that of ctx, until
// stop is called, and a time.
func boundShake(ctx context.Context, conn net.Conn, limit time.Duration) (stop func() bool, err error) {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	return context.AfterFunc(ctx, func() { conn.Close() }), nil
}

// readHandshake reads a peer's handshake and no more. When it is none, it is a
// *wire.ProtocolError, and read is what was read of it.
func readHandshake(r io.Reader) (hs wire.Handshake, read []byte, err error) {
	buf := make([]byte, wire.HandshakeLen)
	for n := 0; ; {
		hs, perr := wire.ParseHandshake(buf[:n])
		if !errors.Is(perr, io.ErrUnexpectedEOF) {
			return hs, buf[:n], perr
		}
		if err != nil {
			return hs, buf[:n], err
		}
		var k int
		k, err = r.Read(buf[n:])
		n += k
	}
}

func (s *Session) handshake(hash [20]byte) []byte {
	h := wire.Handshake{InfoHash: hash, PeerID: s.peerID}
	if s.dht != nil {
		h.Set(wire.FeatureDHT)
	}
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
