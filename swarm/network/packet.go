package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// ListenPacket opens a datagram socket for the network "udp", "udp4" or "udp6" on
// HOST:PORT. Bound to a device it follows that as a listener does: while the
// device is away nothing is received, and WriteTo returns an error. What may not
// be reached is not sent to.
func (n *Network) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	c := &packetConn{n: n, network: network, host: host, port: port}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if n.Down() == nil {
		if err := c.reopen(ctx); err != nil {
			c.cancel()
			return nil, err
		}
	}
	return c, nil
}

// packetConn is a datagram socket that comes again with its device.
type packetConn struct {
	// Set at start, read-only after.
	n             *Network
	network, host string
	ctx           context.Context // ends with Close
	cancel        context.CancelFunc

	mu       sync.Mutex
	port     string       // asked for, then the one that was got
	inner    *net.UDPConn // nil: not open
	forget   func()       // set with inner
	deadline time.Time    // of ReadFrom
}

var _ syscall.Conn = (*packetConn)(nil)

func (c *packetConn) reopen(ctx context.Context) error {
	p, err := c.n.place()
	if err != nil {
		return err
	}
	host, err := c.n.hostAt(p, c.host)
	if err != nil {
		return err
	}
	c.mu.Lock()
	port := c.port
	c.mu.Unlock()
	lc := net.ListenConfig{Control: binding{at: p}.control}
	inner, err := lc.ListenPacket(ctx, c.network, net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	udp, ok := inner.(*net.UDPConn)
	if !ok {
		inner.Close()
		return fmt.Errorf("network %q is not one of datagrams", c.network)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		udp.Close()
		return net.ErrClosed
	}
	if err := udp.SetReadDeadline(c.deadline); err != nil {
		udp.Close()
		return err
	}
	c.inner = udp
	_, c.port, _ = net.SplitHostPort(udp.LocalAddr().String())
	c.forget = c.n.remember(udp.LocalAddr(), p, func() { udp.Close() })
	return nil
}

// current returns the open socket, or nil.
func (c *packetConn) current() *net.UDPConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inner
}

// ReadFrom implements net.PacketConn.
func (c *packetConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for c.ctx.Err() == nil {
		changed := c.n.changes()
		inner := c.current()
		if inner == nil {
			if c.reopen(c.ctx) == nil {
				continue
			}
			if err := c.wait(changed); err != nil {
				return 0, nil, err
			}
			continue
		}
		n, from, err := inner.ReadFrom(p)
		switch {
		case err == nil:
			return n, from, nil
		case c.ctx.Err() != nil:
		case errors.Is(err, net.ErrClosed), c.n.device != nil && errors.Is(err, syscall.ENETDOWN):
			c.drop(inner)
		default:
			return n, from, err
		}
	}
	return 0, nil, net.ErrClosed
}

// drop gives up a socket whose device went.
func (c *packetConn) drop(inner *net.UDPConn) {
	inner.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == inner {
		c.inner = nil
		c.forget()
	}
}

// wait returns when it is worth trying again, as listener.wait, or with the
// error of the deadline.
func (c *packetConn) wait(changed <-chan struct{}) error {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-c.ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.deadline; !d.IsZero() && !time.Now().Before(d) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// WriteTo implements net.PacketConn.
func (c *packetConn) WriteTo(p []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, fmt.Errorf("%v is no address of a datagram", to)
	}
	a := udp.AddrPort().Addr().Unmap()
	if err := c.n.MayReach(a); err != nil {
		return 0, err
	}
	if _, err := c.n.source(a.WithZone("")); err != nil {
		return 0, err
	}
	inner := c.current()
	if inner == nil {
		return 0, errors.New("the socket is not open yet")
	}
	return inner.WriteTo(p, to)
}

// Close implements net.PacketConn.
func (c *packetConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return net.ErrClosed
	}
	c.cancel()
	if c.inner == nil {
		return nil
	}
	c.forget()
	return c.inner.Close()
}

// LocalAddr implements net.PacketConn; it is a *net.UDPAddr.
func (c *packetConn) LocalAddr() net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner != nil {
		return c.inner.LocalAddr()
	}
	a, err := netip.ParseAddrPort("[::]:" + c.port)
	if err != nil {
		return &net.UDPAddr{}
	}
	return net.UDPAddrFromAddrPort(a)
}

// SetDeadline implements net.PacketConn.
func (c *packetConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if c.inner == nil {
		return nil
	}
	return c.inner.SetReadDeadline(t)
}

// SetWriteDeadline implements net.PacketConn. Writes never wait for long.
func (c *packetConn) SetWriteDeadline(time.Time) error { return nil }

// SyscallConn implements syscall.Conn, for the options of the socket that is open
// now.
func (c *packetConn) SyscallConn() (syscall.RawConn, error) {
	inner := c.current()
	if inner == nil {
		return nil, net.ErrClosed
	}
	return inner.SyscallConn()
}
