package swarm

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"swarmfs/swarm/engine"
	"swarmfs/swarm/wire"
)

// peer is one connection: a reader and a writer goroutine that own the socket
// and share nothing else with the world but the outbox, the list of what was
// asked, and the run's inbox.
type peer struct {
	// Set before the goroutines start, read-only after.
	run    *run
	id     engine.PeerID
	conn   net.Conn
	addr   netip.AddrPort
	dialed bool
	hs     wire.Handshake
	ctx    context.Context
	cancel context.CancelCauseFunc

	// Shared; safe for concurrent use.
	out   outbox
	asked asked

	// Owned by the reader.
	metadata metadataService
	intake   pexIntake

	// Owned by the loop.
	ex       exchange
	joined   time.Time
	client   string // what it calls itself (BEP 10); "" until it has
	toldNode bool   // it knows our node of the DHT
	dirty    bool   // the writer is to be woken after this batch
	gone     bool
}

const (
	handshakeTimeout = 10 * time.Second
	// Idle connections send a keep-alive every two minutes (BEP 3).
	idleTimeout    = 150 * time.Second
	keepAliveEvery = 100 * time.Second
	writeTimeout   = 60 * time.Second

	minReadBuffer = 16 << 10
	maxReadBuffer = 256 << 10
	// What one message may take: a bitfield of two million pieces.
	maxMessage = 256<<10 - 4
)

func (p *peer) fast() bool { return p.hs.Has(wire.FeatureFast) }

// tell queues a message of the loop's own. A peer that does not read it goes.
func (p *peer) tell(m wire.Message) {
	if !p.out.append(m) {
		p.gone = true
		p.cancel(errDeaf)
	}
	p.out.signal()
}

// serve runs both goroutines until one of them ends, then the other.
func (p *peer) serve() error {
	stop := context.AfterFunc(p.ctx, func() { p.conn.Close() })
	defer stop()
	defer p.conn.Close()
	var g group
	g.Go(p.writeLoop, func(err error) { p.cancel(err) })
	err := guard(p.readLoop)
	p.cancel(err)
	g.Wait()
	return context.Cause(p.ctx)
}

// readLoop reads as much as there is at a time, since a read of one block each
// costs more than all that is done with it.
func (p *peer) readLoop() error {
	in := inbound{p: p, deliveries: deliveries{run: p.run, id: p.id}, buf: make([]byte, minReadBuffer)}
	// What is in a draft must be told, however this ends: the loop would ask for
	// it for ever, and the draft refuse it. Fails only when the run is over.
	defer func() { _ = in.flush() }()
	acks := newAcker(p.conn)
	var armed time.Time
	for {
		if now := time.Now(); now.Sub(armed) > idleTimeout/10 {
			armed = now
			if err := p.conn.SetReadDeadline(now.Add(idleTimeout)); err != nil {
				return err
			}
		}
		n, err := p.conn.Read(in.buf[in.n:])
		if n > 0 {
			in.n += n
			if in.n < len(in.buf) && p.asked.some() { // nothing more is there, and more is to come
				acks.ack()
			}
			if err := errors.Join(p.run.t.sharing.down.wait(p.ctx, n), p.run.t.session.down.wait(p.ctx, n)); err != nil {
				return err
			}
			if err := in.parse(); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// inbound is a peer's receive buffer.
type inbound struct {
	deliveries
	p    *peer
	buf  []byte
	n    int // bytes in buf
	full int // reads in a row that filled the buffer
	odd  int // unasked blocks
}

// A peer that sends blocks nobody asked for loses the connection after so many.
const maxOdd = 256

// parse handles all whole messages in the buffer.
func (in *inbound) parse() error {
	off := 0
	for {
		m, n, err := wire.Parse(in.buf[off:in.n], maxMessage)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
		off += n
		if err := in.handle(m); err != nil {
			return err
		}
	}
	if err := in.flush(); err != nil {
		return err
	}
	filled := in.n == len(in.buf)
	need := wire.Need(in.buf[off:in.n])
	rest := copy(in.buf, in.buf[off:in.n])
	in.n = rest
	in.resize(filled, need)
	return nil
}

// resize lets the buffer grow while reads fill it, or when a message needs it,
// and shrink again for a peer that went quiet.
func (in *inbound) resize(filled bool, need int) {
	size := len(in.buf)
	switch {
	case need > size:
		for size < need {
			size *= 2
		}
	case filled && size < maxReadBuffer:
		if in.full++; in.full >= 2 {
			size *= 2
			in.full = 0
		}
	case in.n == 0 && size > minReadBuffer && !filled:
		if in.full--; in.full < -256 {
			size = minReadBuffer
			in.full = 0
		}
	}
	if size != len(in.buf) {
		buf := make([]byte, size)
		copy(buf, in.buf[:in.n])
		in.buf = buf
	}
}

func (in *inbound) handle(m wire.Message) error {
	p := in.p
	switch m.Kind {
	case wire.Piece:
		return in.block(m)
	case wire.Port:
		p.nodeTold(m.Index)
		return nil
	case wire.KeepAlive, wire.Suggest, wire.Unknown:
		return nil
	}
	if err := in.flush(); err != nil { // keep the order
		return err
	}
	if m.Kind == wire.Extended {
		return p.extended(m)
	}
	if m.Data != nil {
		m.Data = append([]byte(nil), m.Data...)
	}
	return p.run.post(p.ctx, received{p.id, m})
}

func (p *peer) extended(m wire.Message) error {
	switch m.Ext {
	case wire.ExtHandshakeID:
		h, err := wire.ParseExtHandshake(m.Data)
		if err != nil {
			return err
		}
		if id, named := h.M[wire.ExtMetadata]; named {
			p.metadata.theirs = id
		}
		return p.run.post(p.ctx, extended{p.id, h})
	case extMetadata:
		return p.metadataWanted(m.Data)
	case extPex:
		return p.pexTold(m.Data)
	case extDontHave:
		piece, err := wire.ParseDontHave(m.Data)
		if err != nil {
			return err
		}
		return p.run.post(p.ctx, dontHave{p.id, piece})
	}
	return nil
}

// block puts a block into its draft. Only blocks that this connection was asked
// for get there.
func (in *inbound) block(m wire.Message) error {
	p := in.p
	if !p.asked.remove(m.Index, m.Begin) {
		p.run.t.unasked.Add(int64(len(m.Data)))
		if in.odd++; in.odd > maxOdd {
			return errors.New("sends blocks that were not asked for")
		}
		return nil
	}
	return in.take(m, m.Data)
}

// writeLoop sends what the loop has queued: control messages first, then blocks.
func (p *peer) writeLoop() error {
	var control, data []byte
	var list []wire.Message
	idle := time.NewTimer(keepAliveEvery)
	defer idle.Stop()
	for {
		control, list = p.out.take(control, list[:0], uploadBatch)
		if len(control) == 0 && len(list) == 0 {
			select {
			case <-p.out.wake:
			case <-idle.C:
				p.out.append(wire.Message{Kind: wire.KeepAlive})
				idle.Reset(keepAliveEvery)
			case <-p.ctx.Done():
				return context.Cause(p.ctx)
			}
			continue
		}
		if err := p.write(control); err != nil {
			return err
		}
		if len(list) > 0 {
			var err error
			if data, err = p.sendBlocks(data, list); err != nil {
				return err
			}
		}
	}
}

// How many blocks are read and written at a time.
const uploadBatch = 4

func (p *peer) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := p.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := p.conn.Write(b)
	return err
}

// awaitUpload returns when so many bytes may be uploaded. What the loop has to say
// meanwhile, requests above all, is sent at once: no reader waits for a limit of
// uploads.
func (p *peer) awaitUpload(n int) error {
	t := p.run.t
	s := t.session
	if t.sharing.up.perSec() == 0 && s.up.perSec() == 0 && s.yielding.limit.Load() == 0 {
		return nil
	}
	may := make(chan error, 1)
	var g group
	defer g.Wait()
	ctx, cancel := context.WithCancelCause(p.ctx)
	defer cancel(nil)
	g.Go(func() error {
		may <- errors.Join(t.sharing.up.wait(ctx, n), s.up.wait(ctx, n), s.yielding.wait(ctx, n))
		return nil
	}, nil)
	var control []byte
	for {
		select {
		case err := <-may:
			return err
		case <-p.out.wake:
			control, _ = p.out.take(control, nil, 0)
			if err := p.write(control); err != nil {
				return err
			}
		}
	}
}

// sendBlocks reads the blocks from the volume and sends them.
func (p *peer) sendBlocks(buf []byte, list []wire.Message) ([]byte, error) {
	done := uploaded{id: p.id}
	buf = buf[:0]
	for _, m := range list {
		start := len(buf)
		m.Kind = wire.Piece
		buf = wire.AppendPieceHeader(buf, m.Index, m.Begin, int(m.Length))
		body := len(buf)
		buf = append(buf, make([]byte, m.Length)...)
		if n, err := p.run.t.volume.Peek(int(m.Index), buf[body:], int(m.Begin)); err != nil || n != int(m.Length) {
			buf = buf[:start]
			done.unreadable = append(done.unreadable, m)
			continue
		}
		done.blocks++
		done.bytes += int(m.Length)
	}
	s := p.run.t.session
	if err := p.awaitUpload(done.bytes); err != nil {
		return buf, err
	}
	start := time.Now()
	if err := p.write(buf); err != nil {
		return buf, err
	}
	now := time.Now()
	s.yielding.wrote(s.clock(now), now.Sub(start))
	s.slots.sent.Add(int64(done.bytes))
	return buf, p.run.post(p.ctx, done)
}
