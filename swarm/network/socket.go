package network

import (
	"net"
	"net/netip"
	"sync"
)

// socket is one that is open, so that it can be shut when its address or its
// device goes.
type socket struct {
	from  netip.Addr // its address; zero: any
	bound bool       // to a device
	shut  func()
}

// remember has a socket that was bound to a place shut when what it hangs on
// goes; at once, if it has gone by now. forget ends that.
func (n *Network) remember(local net.Addr, at place, shut func()) (forget func()) {
	s := &socket{bound: n.device != nil, shut: shut}
	if a, err := netip.ParseAddrPort(local.String()); err == nil && !a.Addr().IsUnspecified() {
		s.from = a.Addr().Unmap()
	}
	n.mu.Lock()
	late := s.bound && (at != n.where || n.missing != nil)
	if !late {
		n.open[s] = struct{}{}
	}
	n.mu.Unlock()
	if late {
		shut()
	}
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.open, s)
	}
}

// conn is a TCP connection that is remembered.
type conn struct {
	*net.TCPConn
	forget func()
	once   sync.Once
}

func (n *Network) track(c net.Conn, at place) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	return &conn{TCPConn: tcp, forget: n.remember(tcp.LocalAddr(), at, func() { tcp.Close() })}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(c.forget)
	return c.TCPConn.Close()
}
