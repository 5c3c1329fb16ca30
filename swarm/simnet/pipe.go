package simnet

import (
	"math/rand/v2"
	"net"
	"syscall"
	"time"
)

const (
	// sendBuffer is what a writer may be ahead of its uplink, in bytes. It is
	// small: what is in it can neither be cancelled nor overtaken.
	sendBuffer = 64 << 10
	// window is what a stream may have under way and unread, in bytes.
	window = 256 << 10
)

// pipe is one direction of a stream. It is a source. Guarded by the net's lock.
type pipe struct {
	net      *Net
	path     path
	src, dst *Conn
	key      uint64 // its name among all others
	rng      *rand.Rand

	unsent  queue
	flight  int  // bytes on the links and the path
	waiting bool // in the uplink's round
	fin     bool // to be sent behind unsent
	finSent bool
	last    time.Duration // when the newest thing under way gets there
	left    int64         // bytes until it is reset; negative: never
}

func newPipe(src, dst *Conn) *pipe {
	n := src.host.net
	key := direction(src.local, src.remote)
	p := &pipe{
		net: n, path: path{src.host, dst.host}, src: src, dst: dst,
		key: key, rng: n.random(key), left: -1,
	}
	if every := src.host.link.ResetEvery; every > 0 {
		p.left = int64(p.rng.ExpFloat64() * float64(every))
	}
	return p
}

// offer has the uplink look at the pipe if there is something to send.
func (p *pipe) offer() {
	if !p.waiting && p.sendable() {
		p.waiting = true
		p.src.host.offer(p)
	}
}

func (p *pipe) sendable() bool {
	if p.src.err != nil {
		return false
	}
	if p.unsent.len() > 0 {
		return p.room() > 0
	}
	return p.fin && !p.finSent
}

func (p *pipe) room() int { return window - p.flight - p.dst.recv.len() }

func (p *pipe) name() uint64 { return p.key }

// take implements source.
func (p *pipe) take(limit int) (int, func(), bool) {
	p.waiting = false
	if !p.sendable() {
		return 0, nil, false
	}
	n := min(limit, p.room(), p.unsent.len())
	if n <= 0 {
		return 0, func() {
			p.finSent = true
			p.travel(0, p.dst.receiveFIN)
			p.src.done()
		}, true
	}
	b := make([]byte, n)
	p.unsent.read(b)
	p.flight += n
	p.src.changed.Broadcast() // there is room in the send buffer
	return n, func() { p.leave(b) }, true
}

// leave happens when b has left the uplink.
func (p *pipe) leave(b []byte) {
	if p.left >= 0 {
		if p.left -= int64(len(b)); p.left < 0 {
			p.flight -= len(b)
			p.src.abort(syscall.ECONNRESET)
			return
		}
	}
	p.travel(len(b), func() {
		p.flight -= len(b)
		p.dst.receive(b)
		p.offer()
	})
	p.offer()
}

// travel takes something over the path, in order with all that the pipe carries.
func (p *pipe) travel(size int, arrive func()) {
	at := max(p.net.now()+p.path.delay(p.rng), p.last+1)
	p.last = p.net.at(at, p.key, func() { p.arrived(size, arrive) })
}

func (p *pipe) arrived(size int, arrive func()) {
	held, cut := p.net.cut[p.path]
	if !cut {
		p.net.land(p.path.to, size, p.key, arrive)
		return
	}
	p.net.cut[p.path] = append(held, func() {
		at := p.net.at(p.net.now(), p.key, func() { p.arrived(size, arrive) })
		p.last = max(p.last, at)
	})
}

var _ net.Conn = (*Conn)(nil)

// queue holds bytes in order. The zero value is empty.
type queue struct {
	buf  []byte
	head int
}

func (q *queue) len() int { return len(q.buf) - q.head }

func (q *queue) write(p []byte) {
	if q.head > 0 && len(q.buf)+len(p) > cap(q.buf) {
		q.buf, q.head = q.buf[:copy(q.buf, q.buf[q.head:])], 0
	}
	q.buf = append(q.buf, p...)
}

func (q *queue) read(p []byte) int {
	n := copy(p, q.buf[q.head:])
	if q.head += n; q.head == len(q.buf) {
		q.buf, q.head = q.buf[:0], 0
	}
	return n
}
