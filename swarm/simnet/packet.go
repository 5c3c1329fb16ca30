package simnet

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// packetConn is a datagram socket. It implements net.PacketConn.
type packetConn struct {
	// Set at start, read-only after.
	host *Host
	addr netip.AddrPort

	// Guarded by host.net.mu.
	unsent  []datagram
	waiting bool // in the uplink's round
	recv    []datagram
	ways    map[netip.AddrPort]*way // by who is sent to
	closed  bool
	changed *sync.Cond
	rd      deadline
}

// way is one direction of datagrams.
type way struct {
	key uint64
	rng *rand.Rand
}

type datagram struct {
	from, to netip.AddrPort
	data     []byte
}

const (
	// Datagrams that wait for the uplink, and to be read, of one socket. What
	// comes beyond is lost, as in a router with small buffers.
	maxDatagrams = 128
	// maxDatagram is the longest payload of UDP over IPv4, in bytes.
	maxDatagram = 65507
)

var _ net.PacketConn = (*packetConn)(nil)

// ListenPacket opens a datagram socket on HOST:PORT, under the rules of Listen,
// for the network "udp", "udp4" or "udp6".
func (h *Host) ListenPacket(_ context.Context, network, addr string) (net.PacketConn, error) {
	if network == "udp4" && h.addr.Is6() || network == "udp6" && h.addr.Is4() {
		return nil, &net.OpError{Op: "listen", Net: network, Err: syscall.EAFNOSUPPORT}
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	at, err := h.bind("udp", addr, func(p uint16) bool { return h.sockets[p] != nil })
	if err != nil {
		return nil, err
	}
	c := &packetConn{host: h, addr: at, ways: map[netip.AddrPort]*way{}, changed: sync.NewCond(&h.net.mu)}
	h.sockets[at.Port()] = c
	return c, nil
}

// ReadFrom implements net.PacketConn. What does not fit into p is cut off.
func (c *packetConn) ReadFrom(p []byte) (int, net.Addr, error) {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, nil, c.fail("read", net.ErrClosed)
		case c.rd.passed():
			return 0, nil, c.fail("read", os.ErrDeadlineExceeded)
		case len(c.recv) > 0:
			d := c.recv[0]
			c.recv = c.recv[1:]
			return copy(p, d.data), net.UDPAddrFromAddrPort(d.from), nil
		}
		c.changed.Wait()
	}
}

// WriteTo implements net.PacketConn. It never blocks; what is lost on the way is
// no error.
func (c *packetConn) WriteTo(p []byte, to net.Addr) (int, error) {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	if c.closed {
		return 0, c.fail("write", net.ErrClosed)
	}
	udp, ok := to.(*net.UDPAddr)
	if !ok || len(p) > maxDatagram {
		return 0, c.fail("write", &net.AddrError{Err: "no datagram to that address", Addr: to.String()})
	}
	at := udp.AddrPort()
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if len(c.unsent) < maxDatagrams {
		c.unsent = append(c.unsent, datagram{c.addr, at, append([]byte(nil), p...)})
		c.offer()
	}
	return len(p), nil
}

func (c *packetConn) offer() {
	if !c.waiting && len(c.unsent) > 0 {
		c.waiting = true
		c.host.offer(c)
	}
}

func (c *packetConn) name() uint64 { return direction(c.addr, netip.AddrPort{}) }

// take implements source: one datagram at a time, whatever the limit.
func (c *packetConn) take(int) (int, func(), bool) {
	c.waiting = false
	if len(c.unsent) == 0 {
		return 0, nil, false
	}
	d := c.unsent[0]
	c.unsent = c.unsent[1:]
	return len(d.data), func() {
		c.leave(d)
		c.offer()
	}, true
}

// leave sends a datagram over the path, if it is not lost.
func (c *packetConn) leave(d datagram) {
	n := c.host.net
	to := n.hosts[d.to.Addr()]
	if to == nil {
		return
	}
	dir := c.ways[d.to]
	if dir == nil {
		key := direction(d.from, d.to)
		dir = &way{key, n.random(key)}
		c.ways[d.to] = dir
	}
	w := path{c.host, to}
	delay := w.delay(dir.rng) // drawn for lost ones too, so that a loss changes nothing else
	if lost := dir.rng.Float64() < c.host.link.Loss; dir.rng.Float64() < to.link.Loss || lost {
		return
	}
	n.at(n.now()+delay, dir.key, func() {
		if _, cut := n.cut[w]; !cut {
			n.land(to, len(d.data), dir.key, func() { to.receive(d) })
		}
	})
}

func (h *Host) receive(d datagram) {
	if c := h.sockets[d.to.Port()]; c != nil && len(c.recv) < maxDatagrams {
		c.recv = append(c.recv, d)
		c.changed.Signal()
	}
}

// Close implements net.PacketConn.
func (c *packetConn) Close() error {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	if c.closed {
		return c.fail("close", net.ErrClosed)
	}
	c.closed = true
	c.unsent, c.recv = nil, nil
	c.rd.stop()
	delete(c.host.sockets, c.addr.Port())
	c.changed.Broadcast()
	return nil
}

// LocalAddr implements net.PacketConn; it is a *net.UDPAddr.
func (c *packetConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.addr) }

// SetDeadline implements net.PacketConn.
func (c *packetConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	if c.closed {
		return c.fail("set", net.ErrClosed)
	}
	c.rd.set(c.changed, t)
	return nil
}

// SetWriteDeadline implements net.PacketConn. Writes never block.
func (c *packetConn) SetWriteDeadline(time.Time) error { return nil }

func (c *packetConn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: c.LocalAddr(), Err: err}
}
