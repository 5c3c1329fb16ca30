package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/metadata"
	"swarmfs/swarm/wire"
)

// Link is what is known of a torrent that is only a magnet link.
type Link struct {
	Hash     metainfo.Hash
	Trackers [][]string
	Peers    []netip.AddrPort // to try at once
	Private  bool             // peers are those above and of the trackers alone
}

// Resolved is what a link led to: the info dictionary, and addresses of those who
// have the torrent, the ones that answered first.
type Resolved struct {
	Info  *metainfo.Info
	Peers []netip.AddrPort
}

var (
	// ErrResolving means that the link is being resolved by somebody else.
	ErrResolving = errors.New("the link is being resolved already")
	errResolved  = errors.New("metadata is here")
)

// Resolve finds the info dictionary of a link among its peers (BEP 9), as long as
// ctx lasts. Peers that connect to us for it meanwhile are asked as well. A
// dictionary that is the link's and yet unusable is a *metainfo.InputError.
func (s *Session) Resolve(ctx context.Context, l Link) (*Resolved, error) {
	u := newResolving(s, l)
	s.mu.Lock()
	if s.links[l.Hash] != nil {
		s.mu.Unlock()
		return nil, ErrResolving
	}
	s.links[l.Hash] = u
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.links, l.Hash)
		s.mu.Unlock()
	}()
	raw, peers, err := u.run(ctx)
	if err != nil {
		return nil, err
	}
	info, err := metainfo.ParseInfo(raw)
	if err != nil {
		return nil, err
	}
	return &Resolved{Info: info, Peers: peers}, nil
}

// Resolving returns with how many peers a link is being resolved, and whether it
// is.
func (s *Session) Resolving(h metainfo.Hash) (peers int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.links[h]
	if u == nil {
		return 0, false
	}
	return int(u.connected.Load()), true
}

// Peers that a link keeps at a time: enough for one that has the dictionary to be
// among them, and few enough to leave places for torrents.
const maxInformants = 30

// eagerFor is how long somebody is thought to sit and wait for a link.
const eagerFor = time.Minute

// resolving is a link under way. Its loop owns what is not said to be shared.
type resolving struct {
	// Set at start, read-only after.
	session *Session
	log     *slog.Logger
	link    Link
	search  *search
	inbox   chan event
	ended   chan struct{}

	// Owned by loop.
	ctx             context.Context
	fetch           *metadata.Fetch
	peers           map[metadata.PeerID]*informant
	addrs           candidates
	useful          []netip.AddrPort // who had something to say, in that order
	began, hungryAt time.Time

	// Shared; safe for concurrent use.
	connected atomic.Int32
	ids       atomic.Uint32
	group     group
}

// informant is one connection of a link.
type informant struct {
	u      *resolving
	id     metadata.PeerID
	conn   net.Conn
	addr   netip.AddrPort
	dialed bool
	ctx    context.Context
	cancel context.CancelCauseFunc
	out    outbox
	theirs uint8     // owned by the loop: its identifier of ut_metadata
	intake pexIntake // owned by its reader
}

// What enters the loop of a link, besides found.
type (
	informed struct {
		i *informant
		h wire.ExtHandshake
	}
	informs struct {
		i *informant
		m wire.Metadata
	}
	silenced struct {
		i    *informant // nil: it never answered
		addr netip.AddrPort
		err  error
	}
)

func newResolving(s *Session, l Link) *resolving {
	u := &resolving{
		session: s, link: l, log: s.log.With("link", l.Hash.String()[:8]),
		inbox: make(chan event, inboxSize), ended: make(chan struct{}),
		fetch: metadata.New(l.Hash), peers: map[metadata.PeerID]*informant{},
	}
	u.addrs.init(maxInformants)
	// How much is left nobody knows; 0 would say that we seed.
	u.search = newSearch(s, u.log, l.Hash, l.Private, l.Trackers, func() account { return account{left: metainfo.BlockSize} })
	return u
}

// run resolves the link and waits for all that it has started.
func (u *resolving) run(ctx context.Context) ([]byte, []netip.AddrPort, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	u.ctx, u.began = ctx, time.Now()
	defer u.group.Wait()
	defer close(u.ended)
	defer cancel(errResolved)
	failed := func(what string) func(error) {
		return func(err error) {
			var pe *PanicError
			if errors.As(err, &pe) {
				u.log.Error("panic", "in", what, "panic", pe.Value, "stack", string(pe.Stack))
			}
		}
	}
	u.addrs.add(time.Now(), u.link.Peers, fromUser)
	u.search.open()
	u.search.start(ctx, &u.group, func(addrs []netip.AddrPort, src source) { _ = u.post(found{addrs, src}) }, failed)
	return u.loop()
}

func (u *resolving) loop() ([]byte, []netip.AddrPort, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var actions []metadata.Action
	for {
		select {
		case <-u.ctx.Done():
			return nil, nil, context.Cause(u.ctx)
		case ev := <-u.inbox:
			u.apply(time.Now(), ev)
		case <-timer.C:
		}
		now := time.Now()
		u.fetch.Tick(now)
		if raw := u.fetch.Result(); raw != nil {
			return raw, u.useful, nil
		}
		actions = u.fetch.Drain(actions[:0])
		for _, a := range actions {
			u.perform(a)
		}
		u.connect(now)
		wake := now.Add(maxSleep)
		if at := u.fetch.NextWake(now); !at.IsZero() && at.Before(wake) {
			wake = at
		}
		timer.Reset(max(wake.Sub(now), time.Millisecond))
	}
}

func (u *resolving) post(ev event) error {
	select {
	case u.inbox <- ev:
		return nil
	case <-u.ended:
		return ErrClosed
	}
}

func (u *resolving) apply(now time.Time, ev event) {
	switch ev := ev.(type) {
	case found:
		u.addrs.add(now, ev.addrs, ev.source)
	case informed:
		u.informed(now, ev)
	case informs:
		if ev.m.Type == wire.MetadataData {
			u.credit(ev.i)
		}
		u.fetch.Message(now, ev.i.id, ev.m)
	case silenced:
		u.silenced(now, ev)
	}
}

// informed takes a peer's extended handshake. Who does not have the dictionary has
// to make room for those who may.
func (u *resolving) informed(now time.Time, ev informed) {
	id, named := ev.h.M[wire.ExtMetadata]
	if named {
		ev.i.theirs = id
	}
	u.peers[ev.i.id] = ev.i
	if ev.i.theirs == 0 || ev.h.MetadataSize == 0 {
		ev.i.cancel(errors.New("has no metadata"))
		return
	}
	u.fetch.Joined(now, ev.i.id, ev.h.MetadataSize)
}

// credit remembers that an address has the torrent's metadata.
func (u *resolving) credit(i *informant) {
	if !i.dialed {
		return // the port that it dialled from is not one that it listens on
	}
	for _, a := range u.useful {
		if a == i.addr {
			return
		}
	}
	u.useful = append(u.useful, i.addr)
}

func (u *resolving) silenced(now time.Time, ev silenced) {
	if ev.i == nil {
		u.log.Debug("dial", "peer", ev.addr, "err", ev.err)
		u.addrs.failed(now, ev.addr, errors.Is(ev.err, errSelf))
		return
	}
	u.log.Debug("peer left", "peer", ev.addr, "err", ev.err)
	delete(u.peers, ev.i.id)
	if ev.i.dialed {
		// Nothing more to get, or nothing at all: it rests longer each time.
		u.addrs.failed(now, ev.addr, false)
	}
	u.fetch.Left(now, ev.i.id)
}

func (u *resolving) perform(a metadata.Action) {
	i := u.peers[a.Peer]
	switch {
	case i == nil:
	case a.Drop:
		u.log.Info("peer banned", "peer", i.addr, "reason", a.Reason)
		u.addrs.ban(i.addr)
		u.session.ban(i.addr)
		i.cancel(errors.New(a.Reason))
	default:
		data := wire.AppendMetadata(nil, wire.Metadata{Type: wire.MetadataRequest, Piece: a.Piece})
		if !i.out.append(wire.Message{Kind: wire.Extended, Ext: i.theirs, Data: data}) {
			i.cancel(errDeaf)
		}
		i.out.signal()
	}
}

// connect dials candidates while more connections are wanted.
func (u *resolving) connect(now time.Time) {
	for {
		select {
		case u.session.dials <- struct{}{}:
		default:
			return // enough are half open
		}
		addr, ok := u.addrs.pick(now, len(u.peers) == 0 && now.Sub(u.began) < eagerFor)
		if !ok {
			<-u.session.dials
			if len(u.peers) == 0 && now.Sub(u.hungryAt) > hungerEvery {
				u.hungryAt = now
				u.search.needPeers()
			}
			return
		}
		if err := u.session.mayReach(addr.Addr()); err != nil {
			<-u.session.dials
			u.addrs.failed(now, addr, true)
			continue
		}
		u.group.Go(func() error {
			conn, _, err := u.session.dial(u.ctx, addr, u.link.Hash)
			<-u.session.dials
			if err != nil {
				return u.post(silenced{addr: addr, err: err})
			}
			return u.serve(conn, addr, true)
		}, nil)
	}
}

// greeted serves a peer that has connected to us and shaken hands.
func (u *resolving) greeted(ctx context.Context, conn net.Conn, addr netip.AddrPort, hs wire.Handshake) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if u.connected.Load() >= 2*maxInformants || hs.PeerID == u.session.peerID {
		return nil
	}
	if err := conn.SetWriteDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	if _, err := conn.Write(u.session.handshake(u.link.Hash)); err != nil {
		return err
	}
	return u.serve(conn, addr, false)
}

// serve asks a peer what it has, hands on what it says, and sends it requests,
// until one side has enough.
func (u *resolving) serve(conn net.Conn, addr netip.AddrPort, dialed bool) error {
	defer conn.Close()
	u.connected.Add(1)
	defer u.connected.Add(-1)
	i := &informant{u: u, id: metadata.PeerID(u.ids.Add(1)), conn: conn, addr: addr, dialed: dialed, out: newOutbox()}
	i.ctx, i.cancel = context.WithCancelCause(context.Background())
	defer i.cancel(nil)
	var g group
	g.Go(func() error { // a connection that was accepted belongs to the listener: it outlives our context
		select {
		case <-u.ended:
			i.cancel(errResolved)
		case <-i.ctx.Done():
		}
		return nil
	}, nil)
	stop := context.AfterFunc(i.ctx, func() { conn.Close() })
	defer stop()
	hello := u.session.extHandshake(0)
	if u.exchanges() {
		hello.M[wire.ExtPex] = extPex
	}
	i.out.append(wire.Message{Kind: wire.Extended, Ext: wire.ExtHandshakeID, Data: wire.AppendExtHandshake(nil, hello)})
	g.Go(i.writeLoop, func(err error) { i.cancel(err) })
	i.cancel(guard(i.readLoop))
	g.Wait()
	return u.post(silenced{i: i, addr: addr, err: context.Cause(i.ctx)})
}

const (
	// informTimeout is how long a peer may take to say what it has.
	informTimeout = 30 * time.Second
	// informFor is how long it may go on talking: one that has said nothing of use
	// by then makes room.
	informFor = 10 * time.Minute
)

func (i *informant) readLoop() error {
	if err := i.conn.SetReadDeadline(time.Now().Add(informTimeout)); err != nil {
		return err
	}
	buf := make([]byte, minReadBuffer)
	for n := 0; ; {
		k, err := i.conn.Read(buf[n:])
		n += k
		off := 0
		for {
			m, size, err := wire.Parse(buf[off:n], maxMessage)
			if errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
			if err != nil {
				return err
			}
			off += size
			if err := i.handle(m); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		need := wire.Need(buf[off:n])
		n = copy(buf, buf[off:n])
		if need > len(buf) {
			buf = append(make([]byte, 0, need), buf[:n]...)[:need]
		}
	}
}

func (i *informant) handle(m wire.Message) error {
	if m.Kind != wire.Extended {
		return nil // what it has of the torrent is for later
	}
	switch m.Ext {
	case wire.ExtHandshakeID:
		h, err := wire.ParseExtHandshake(m.Data)
		if err != nil {
			return err
		}
		if err := i.conn.SetReadDeadline(time.Now().Add(informFor)); err != nil {
			return err
		}
		return i.u.post(informed{i, h})
	case extPex:
		return i.pexTold(m.Data)
	case extMetadata:
		md, err := wire.ParseMetadata(m.Data)
		if err != nil {
			return err
		}
		if md.Type == wire.MetadataRequest {
			return nil // it cannot have read what we said we have
		}
		md.Data = append([]byte(nil), md.Data...)
		return i.u.post(informs{i, md})
	}
	return nil
}

func (i *informant) writeLoop() error {
	var buf []byte
	for {
		buf, _ = i.out.take(buf, nil, 0)
		if len(buf) == 0 {
			select {
			case <-i.out.wake:
				continue
			case <-i.ctx.Done():
				return context.Cause(i.ctx)
			}
		}
		if err := i.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if _, err := i.conn.Write(buf); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
}
