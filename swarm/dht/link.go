package dht

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anacrolix/dht/v2"
	"golang.org/x/time/rate"
)

// link stands between a socket and one life of the library's server. It lets
// nothing through that could hurt: neither what the server dies of, nor answers
// to questions that were not asked, nor floods. The server never sees an error of
// the socket, for it panics on one. A link does not own its socket.
type link struct {
	// Set at start, read-only after.
	socket net.PacketConn
	allow  func(netip.Addr) error
	quit   chan struct{} // closed by Close
	failed chan struct{} // closed when the server has read all that fail told it
	ended  chan struct{} // closed when the server reads no more
	broken chan error    // 1 deep: the socket is of no use any more

	closing  sync.Once
	failing  atomic.Bool
	replies  *rate.Limiter // in bytes
	incoming *rate.Limiter // queries, of all sources together
	dropped  atomic.Int64

	mu       sync.Mutex
	asked    map[netip.AddrPort][]question
	count    int // questions in asked
	sources  sources
	contacts contacts
	refused  []refusal // owned by the reader once failing is set
}

// question is a query of ours that was not answered yet.
type question struct {
	transaction string
	at          time.Time
}

// refusal is an answer that we give ourselves, for the server to stop waiting.
type refusal struct {
	packet []byte
	from   net.Addr
}

const (
	// Packets of the DHT fit into one frame; a long one has something to hide.
	maxPacket = 1500
	// What we answer strangers with, in bytes a second: libtorrent's 8 kB/s
	// (dht_upload_rate_limit), so that we are no amplifier worth having.
	replyRate, replyBurst = 8000, 16 << 10
	// Queries looked at a second, from all together: each costs 20 µs.
	queryRate, queryBurst = 500, 500
	// How long an answer may take. The server itself waits two seconds a try.
	answerTime = 15 * time.Second
	// Questions remembered: the server sends 250 a second at most.
	maxQuestions = 8192
)

var errLinkClosed = errors.New("the DHT node is being closed")

func newLink(socket net.PacketConn, allow func(netip.Addr) error) *link {
	_ = socket.SetReadDeadline(time.Time{}) // the life before has left one; fails only if the socket is closed
	return &link{
		socket: socket, allow: allow,
		quit: make(chan struct{}), failed: make(chan struct{}), ended: make(chan struct{}), broken: make(chan error, 1),
		replies:  rate.NewLimiter(replyRate, replyBurst),
		incoming: rate.NewLimiter(queryRate, queryBurst),
		asked:    map[netip.AddrPort][]question{},
	}
}

// fail lets every question that waits, and all that are still asked, go wrong at
// once: what goes on in the server ends then, instead of after its time-outs. It
// returns when the server has heard of all; then it can be closed.
func (l *link) fail() {
	l.mu.Lock()
	for addr, list := range l.asked {
		for _, q := range list {
			l.refused = append(l.refused, refusal{refusalOf(q.transaction), net.UDPAddrFromAddrPort(addr)})
		}
	}
	clear(l.asked)
	l.count = 0
	l.failing.Store(true)
	l.mu.Unlock()
	_ = l.socket.SetReadDeadline(time.Unix(1, 0)) // fails only if it is closed, which wakes the reader too
	<-l.failed
}

// refusalOf is an error message (BEP 5) that ends a transaction.
func refusalOf(transaction string) []byte {
	b := []byte("d1:eli202e6:closede1:t")
	b = strconv.AppendInt(b, int64(len(transaction)), 10)
	return append(append(append(b, ':'), transaction...), "1:y1:ee"...)
}

// Close implements net.PacketConn for the server, which calls it when it is
// closed itself, after fail. The socket stays open.
func (l *link) Close() error {
	l.closing.Do(func() { close(l.quit) })
	return nil
}

// ReadFrom implements net.PacketConn. It returns nothing but packets that the
// server can bear, until the link is closed.
func (l *link) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		if l.failing.Load() {
			return l.readRefused(b)
		}
		n, from, err := l.socket.ReadFrom(b)
		switch {
		case l.failing.Load():
		case err != nil:
			l.endure(err)
		case l.admit(b[:n], from):
			return n, from, nil
		default:
			l.dropped.Add(1)
		}
	}
}

func (l *link) readRefused(b []byte) (int, net.Addr, error) {
	l.mu.Lock()
	if n := len(l.refused); n > 0 {
		r := l.refused[n-1]
		l.refused = l.refused[:n-1]
		l.mu.Unlock()
		return copy(b, r.packet), r.from, nil
	}
	l.mu.Unlock()
	close(l.failed)
	<-l.quit
	close(l.ended)
	return 0, nil, net.ErrClosed // the server's last read
}

// endure waits out an error of the socket. Many pass by themselves: a datagram
// that somebody refused, no buffers, an interface that is down.
func (l *link) endure(err error) {
	if errors.Is(err, net.ErrClosed) {
		select {
		case l.broken <- err:
		default:
		}
	}
	time.Sleep(20 * time.Millisecond)
}

// The last bytes of an honest message, whose keys are sorted, say what it is.
var (
	endOfQuery    = []byte("1:y1:qe")
	endOfResponse = []byte("1:y1:re")
	endOfError    = []byte("1:y1:ee")
)

// admit says whether a packet may reach the server. What is cheap to find out is
// looked at first.
func (l *link) admit(b []byte, from net.Addr) bool {
	addr, ok := addrPort(from)
	if !ok || len(b) > maxPacket || l.allow(addr.Addr()) != nil {
		return false
	}
	now := time.Now()
	if bytes.HasSuffix(b, endOfResponse) || bytes.HasSuffix(b, endOfError) {
		if !l.askedOf(addr) {
			return false
		}
	} else if !l.mayAsk(now, addr) {
		return false
	}
	m, ok := decode(b)
	if !ok {
		return false
	}
	if m.Y == "q" {
		return true
	}
	if !l.answered(now, addr, m.T) {
		return false
	}
	if m.Y == "r" && !m.ReadOnly && dht.NodeIdSecure(m.R.ID, addr.Addr().AsSlice()) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.contacts.answered(now, addr, m.R.ID)
	}
	return true
}

// closest returns up to n nodes that have answered lately, those closest to the
// target first.
func (l *link) closest(now time.Time, target [20]byte, n int) []contact {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.contacts.closest(now, target, n)
}

func (l *link) mayAsk(now time.Time, addr netip.AddrPort) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sources.allow(now, addr) && l.incoming.AllowN(now, 1)
}

// askedOf says whether any question to an address is open.
func (l *link) askedOf(addr netip.AddrPort) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.asked[addr]) > 0
}

// answered takes a question that is answered off the list, if it was asked.
func (l *link) answered(now time.Time, addr netip.AddrPort, transaction string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.asked[addr]
	for i, q := range list {
		if q.transaction == transaction {
			l.set(addr, append(list[:i:i], list[i+1:]...))
			return now.Sub(q.at) < answerTime
		}
	}
	return false
}

func (l *link) set(addr netip.AddrPort, list []question) {
	l.count += len(list) - len(l.asked[addr])
	if len(list) == 0 {
		delete(l.asked, addr)
	} else {
		l.asked[addr] = list
	}
}

// WriteTo implements net.PacketConn. What may not be sent is an error for
// queries, and silence for replies.
func (l *link) WriteTo(b []byte, to net.Addr) (int, error) {
	if l.failing.Load() {
		return 0, errLinkClosed
	}
	addr, ok := addrPort(to)
	if !ok || !reachable(addr) {
		return 0, &net.AddrError{Err: "no node can be there", Addr: to.String()}
	}
	if err := l.allow(addr.Addr()); err != nil {
		return 0, err
	}
	if !bytes.HasSuffix(b, endOfQuery) {
		if !l.replies.AllowN(time.Now(), len(b)) {
			l.dropped.Add(1)
			return len(b), nil
		}
		return l.socket.WriteTo(b, to)
	}
	m, ok := decode(b)
	if !ok {
		return 0, errors.New("a query that we would not read ourselves")
	}
	if err := l.ask(time.Now(), addr, m.T); err != nil {
		return 0, err
	}
	return l.socket.WriteTo(b, to)
}

// ask puts a question on the list.
func (l *link) ask(now time.Time, addr netip.AddrPort, transaction string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failing.Load() {
		return errLinkClosed
	}
	if l.count >= maxQuestions {
		l.forget(now)
		if l.count >= maxQuestions {
			return errors.New("too many questions are open")
		}
	}
	list := l.asked[addr]
	for len(list) > 0 && now.Sub(list[0].at) > answerTime {
		list = list[1:]
	}
	if len(list) > 0 && now.Sub(list[0].at) > 2*queryTime {
		l.contacts.silent(addr)
	}
	for _, q := range list {
		if q.transaction == transaction {
			return nil // asked again
		}
	}
	l.set(addr, append(list, question{transaction, now}))
	return nil
}

// forget drops the questions that nobody answers any more.
func (l *link) forget(now time.Time) {
	for addr, list := range l.asked {
		keep := list[:0]
		for _, q := range list {
			if now.Sub(q.at) <= answerTime {
				keep = append(keep, q)
			}
		}
		l.count += len(keep) - len(list)
		if len(keep) == 0 {
			delete(l.asked, addr)
		} else {
			l.asked[addr] = keep
		}
	}
}

// LocalAddr implements net.PacketConn.
func (l *link) LocalAddr() net.Addr { return l.socket.LocalAddr() }

// SetDeadline implements net.PacketConn; deadlines are the link's own.
func (l *link) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn; deadlines are the link's own.
func (l *link) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn; deadlines are the link's own.
func (l *link) SetWriteDeadline(time.Time) error { return nil }
