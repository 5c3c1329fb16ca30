package lsd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket sends to, and hears, a group on one interface.
type socket struct {
	*net.UDPConn
	group netip.AddrPort
}

// open joins a group on an interface. Other programs may do so as well.
func open(ctx context.Context, ifi net.Interface, group netip.AddrPort) (*socket, error) {
	var failed error
	own := address4(ifi)
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		err := raw.Control(func(fd uintptr) { failed = configure(int(fd), ifi.Index, own, group.Addr()) })
		if err != nil {
			return err
		}
		return failed
	}}
	network := "udp4"
	if group.Addr().Is6() {
		network = "udp6"
	}
	// Bound to the group it hears nothing that is sent to us alone.
	c, err := lc.ListenPacket(ctx, network, group.String())
	if err != nil {
		return nil, fmt.Errorf("join %s on %s: %w", group.Addr(), ifi.Name, err)
	}
	return &socket{c.(*net.UDPConn), group}, nil
}

// configure lets packets go to, and come from, the interface alone, and no farther
// than its network; our own machine hears them too. Over IPv4 they come from own,
// an address of the interface: on loopback the kernel would choose another's.
func configure(fd, index int, own [4]byte, group netip.Addr) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if group.Is6() {
		join := &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(index)}
		if err := unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, join); err != nil {
			return err
		}
		return setInts(fd, unix.IPPROTO_IPV6, [][2]int{
			{unix.IPV6_MULTICAST_IF, index}, {unix.IPV6_MULTICAST_LOOP, 1}, {unix.IPV6_MULTICAST_HOPS, 1}, {unix.IPV6_MULTICAST_ALL, 0},
		})
	}
	at := &unix.IPMreqn{Multiaddr: group.As4(), Address: own, Ifindex: int32(index)}
	for _, option := range [...]int{unix.IP_ADD_MEMBERSHIP, unix.IP_MULTICAST_IF} {
		if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, option, at); err != nil {
			return err
		}
	}
	return setInts(fd, unix.IPPROTO_IP, [][2]int{
		{unix.IP_MULTICAST_LOOP, 1}, {unix.IP_MULTICAST_TTL, 1}, {unix.IP_MULTICAST_ALL, 0},
	})
}

// address4 returns the first IPv4 address of an interface, 0.0.0.0 if it has none.
func address4(ifi net.Interface) (own [4]byte) {
	addrs, err := ifi.Addrs()
	if err != nil {
		return own
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			return p.Addr().As4()
		}
	}
	return own
}

func setInts(fd, level int, options [][2]int) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, level, o[0], o[1]); err != nil {
			return err
		}
	}
	return nil
}

// send announces to the group.
func (s *socket) send(m message) error {
	_, err := s.WriteToUDPAddrPort(m.append(nil, s.group), s.group)
	return err
}
