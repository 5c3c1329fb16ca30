package swarm

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/simnet"
	"swarmfs/swarm/wire"
)

// script is what a scripted peer does. The zero value is an honest seeder.
type script struct {
	// plain peers speak BEP 3 alone: no fast extension, nothing extended.
	plain bool
	// ext is the extended handshake that is sent; nil: none.
	ext *wire.ExtHandshake
	// has says which pieces it has; nil: all.
	has func(piece int) bool
	// raw has the connection to itself, instead of the handshake and the rest.
	raw func(p *fakePeer, conn net.Conn)
	// hello comes after the handshake, instead of telling what it has and
	// unchoking.
	hello func(c *fakeConn)
	// request answers a request, instead of sending the block.
	request func(c *fakeConn, m wire.Message)
	// message sees everything else.
	message func(c *fakeConn, m wire.Message)
	// unfollowed peers keep no messages for next and want.
	unfollowed bool
}

// fakePeer speaks the protocol from a script, on a host of its own.
type fakePeer struct {
	lab  *lab
	host *simnet.Host
	c    *content
	script
	id [20]byte

	conns    atomic.Int64 // that were made
	requests atomic.Int64 // that were received
	served   atomic.Int64 // blocks
}

// peer starts a scripted peer that listens on port 6881.
func (l *lab) peer(c *content, link simnet.Link, s script) *fakePeer {
	l.t.Helper()
	p := l.silentPeer(c, link, s)
	p.listen()
	return p
}

// silentPeer makes a scripted peer that does not listen.
func (l *lab) silentPeer(c *content, link simnet.Link, s script) *fakePeer {
	p := &fakePeer{lab: l, host: l.host(link), c: c, script: s}
	copy(p.id[:], "-FK0001-")
	copy(p.id[8:], p.host.Addr().String())
	return p
}

func (p *fakePeer) addr() netip.AddrPort { return netip.AddrPortFrom(p.host.Addr(), 6881) }

// listen serves until the end of the lab. The function returned ends it before.
func (p *fakePeer) listen() (stop func()) {
	p.lab.t.Helper()
	ln, err := p.host.Listen(":6881")
	if err != nil {
		p.lab.t.Fatal(err)
	}
	p.lab.peers.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			p.lab.peers.Go(func() { p.serve(conn, false) })
		}
	})
	stop = func() {
		ln.Close()
		p.host.ResetAll()
	}
	p.lab.atEnd(stop)
	return stop
}

// dial connects to a node and serves the connection in the background. A plain
// fakePeer that was never listening may be told what to send through the
// connection that is returned, once the handshakes are done.
func (p *fakePeer) dial(n *node) *fakeConn {
	p.lab.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := p.host.Dial(ctx, n.addr())
	if err != nil {
		p.lab.t.Fatal(err)
	}
	p.lab.atEnd(p.host.ResetAll)
	c := p.newConn(conn)
	up := make(chan struct{})
	p.lab.peers.Go(func() { p.run(c, true, func() { close(up) }) })
	select {
	case <-up:
	case <-c.ended:
	}
	return c
}

// fakeConn is one connection of a scripted peer.
type fakeConn struct {
	*fakePeer
	conn  net.Conn
	hs    wire.Handshake    // theirs
	inbox chan wire.Message // everything that came, for tests that follow it
	ended chan struct{}

	mu      sync.Mutex
	changed *sync.Cond
	control []byte
	blocks  []wire.Message
	closed  bool
	choking bool // of scenarios; send says so
	busy    bool // a batch of messages is being taken: nothing is sent meanwhile
}

func (p *fakePeer) newConn(conn net.Conn) *fakeConn {
	c := &fakeConn{fakePeer: p, conn: conn, ended: make(chan struct{})}
	if !p.unfollowed {
		c.inbox = make(chan wire.Message, 1<<14)
	}
	c.changed = sync.NewCond(&c.mu)
	return c
}

func (p *fakePeer) serve(conn net.Conn, first bool) {
	p.conns.Add(1)
	if p.raw != nil {
		defer conn.Close()
		p.raw(p, conn)
		return
	}
	p.run(p.newConn(conn), first, func() {})
}

// run shakes hands and follows the script until the connection ends.
func (p *fakePeer) run(c *fakeConn, first bool, up func()) {
	defer close(c.ended)
	defer c.conn.Close()
	if err := c.shake(first); err != nil {
		return
	}
	var g sync.WaitGroup
	defer g.Wait()
	g.Go(c.writeLoop)
	defer c.close()
	if p.ext != nil {
		c.send(wire.Message{Kind: wire.Extended, Ext: wire.ExtHandshakeID, Data: wire.AppendExtHandshake(nil, *p.ext)})
	}
	if p.hello != nil {
		p.hello(c)
	} else {
		c.tellPieces()
		c.send(wire.Message{Kind: wire.Unchoke})
	}
	up()
	c.readLoop()
}

func (c *fakeConn) shake(first bool) error {
	h := wire.Handshake{InfoHash: c.c.meta.Info.Hash, PeerID: c.id}
	if !c.plain {
		h.Set(wire.FeatureFast)
		h.Set(wire.FeatureExtended)
		h.Set(wire.FeatureDHT)
	}
	ours := wire.AppendHandshake(nil, h)
	if first {
		if _, err := c.conn.Write(ours); err != nil {
			return err
		}
	}
	buf := make([]byte, wire.HandshakeLen)
	if _, err := io.ReadFull(c.conn, buf); err != nil {
		return err
	}
	var err error
	if c.hs, err = wire.ParseHandshake(buf); err != nil {
		c.lab.t.Errorf("our handshake does not parse: %v", err)
		return err
	}
	if !first {
		_, err = c.conn.Write(ours)
	}
	return err
}

// tellPieces sends a bitfield, or the fast extension's short form.
func (c *fakeConn) tellPieces() {
	if c.has == nil && !c.plain {
		c.send(wire.Message{Kind: wire.HaveAll})
		return
	}
	c.send(wire.Message{Kind: wire.Bitfield, Data: c.bitfield()})
}

func (c *fakeConn) bitfield() []byte {
	b := make([]byte, (c.c.pieces()+7)/8)
	for i := range c.c.pieces() {
		if c.has == nil || c.has(i) {
			b[i/8] |= 0x80 >> (i % 8)
		}
	}
	return b
}

func (c *fakeConn) readLoop() {
	buf := make([]byte, 0, 64<<10)
	for {
		c.setBusy(true)
		off := 0
		for {
			m, n, err := wire.Parse(buf[off:], 1<<20)
			if errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
			if err != nil {
				c.lab.t.Errorf("our message does not parse: %v", err)
				return
			}
			off += n
			m.Data = append([]byte(nil), m.Data...)
			c.got(m)
		}
		c.setBusy(false)
		buf = buf[:copy(buf, buf[off:])]
		buf = slices.Grow(buf, 32<<10)
		n, err := c.conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil {
			return
		}
	}
}

// setBusy holds the writer back while what came at one moment is taken: what it
// sends first would be anybody's guess otherwise.
func (c *fakeConn) setBusy(busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = busy
	c.changed.Broadcast()
}

func (c *fakeConn) setChoking(choking bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.choking = choking
}

func (c *fakeConn) isChoking() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.choking
}

// got follows the script. It also checks that we only ask for proper blocks.
func (c *fakeConn) got(m wire.Message) {
	select {
	case c.inbox <- m:
	default: // nobody follows
	}
	switch m.Kind {
	case wire.Request:
		size := c.c.meta.Info.Layout().PieceSize(int(m.Index))
		if int(m.Index) >= c.c.pieces() || m.Begin%metainfo.BlockSize != 0 || int(m.Begin) >= size ||
			int(m.Length) != min(metainfo.BlockSize, size-int(m.Begin)) {
			c.lab.t.Errorf("we request %d:%d+%d, which is no block", m.Index, m.Begin, m.Length)
			return
		}
		c.requests.Add(1)
		if c.request != nil {
			c.request(c, m)
		} else {
			c.serveBlock(m)
		}
	case wire.Cancel:
		c.cancelBlock(m)
	}
	if m.Kind != wire.Request && c.message != nil {
		c.message(c, m)
	}
}

// send queues a message. It never waits.
func (c *fakeConn) send(m wire.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.control = wire.Append(c.control, m)
	c.changed.Broadcast()
}

// serveBlock queues the block that was asked for, wherever it is wrong.
func (c *fakeConn) serveBlock(m wire.Message) {
	c.queueBlock(m, c.c.block(int(m.Index), int(m.Begin), int(m.Length)))
}

// serveWrong queues a block with one bit turned.
func (c *fakeConn) serveWrong(m wire.Message) {
	data := append([]byte(nil), c.c.block(int(m.Index), int(m.Begin), int(m.Length))...)
	data[len(data)/2] ^= 1
	c.queueBlock(m, data)
}

func (c *fakeConn) queueBlock(m wire.Message, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocks = append(c.blocks, wire.Message{Kind: wire.Piece, Index: m.Index, Begin: m.Begin, Length: m.Length, Data: data})
	c.changed.Broadcast()
}

// cancelBlock drops a block that is not being sent yet.
func (c *fakeConn) cancelBlock(m wire.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, b := range c.blocks {
		if b.Index == m.Index && b.Begin == m.Begin {
			c.blocks = slices.Delete(c.blocks, i, i+1)
			if !c.plain {
				c.control = wire.Append(c.control, wire.Message{Kind: wire.Reject, Index: m.Index, Begin: m.Begin, Length: m.Length})
				c.changed.Broadcast()
			}
			return
		}
	}
}

// dropBlocks forgets what was asked for, with rejects or without a word.
func (c *fakeConn) dropBlocks() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.blocks {
		if !c.plain {
			c.control = wire.Append(c.control, wire.Message{Kind: wire.Reject, Index: m.Index, Begin: m.Begin, Length: m.Length})
		}
	}
	c.blocks = nil
	c.changed.Broadcast()
}

func (c *fakeConn) close() {
	c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.changed.Broadcast()
}

// writeLoop sends control messages first, then one block.
func (c *fakeConn) writeLoop() {
	for {
		c.mu.Lock()
		for !c.closed && (c.busy || len(c.control) == 0 && len(c.blocks) == 0) {
			c.changed.Wait()
		}
		if c.closed {
			c.mu.Unlock()
			return
		}
		out := c.control
		c.control = nil
		block := len(out) == 0
		if block {
			out = wire.Append(nil, c.blocks[0])
			c.blocks = c.blocks[1:]
		}
		c.mu.Unlock()
		if _, err := c.conn.Write(out); err != nil {
			return
		}
		if block {
			c.served.Add(1)
		}
	}
}

// next returns the next message of a kind, passing over others, within a time.
func (c *fakeConn) next(kind wire.Kind, limit time.Duration) (wire.Message, bool) {
	c.lab.t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case m := <-c.inbox:
			if m.Kind == kind {
				return m, true
			}
		case <-timer.C:
			return wire.Message{}, false
		}
	}
}

// want is next that must succeed.
func (c *fakeConn) want(kind wire.Kind) wire.Message {
	c.lab.t.Helper()
	m, ok := c.next(kind, 30*time.Second)
	if !ok {
		c.lab.t.Fatalf("no %s message came", kind)
	}
	return m
}

// isOver waits up to limit for the connection to end.
func (c *fakeConn) isOver(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.ended:
		return true
	case <-timer.C:
		return false
	}
}
