package dht

import (
	"net"
	"net/netip"

	"github.com/anacrolix/dht/v2/krpc"
)

// addrPort returns where a packet comes from or goes to.
func addrPort(a net.Addr) (netip.AddrPort, bool) {
	udp, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	addr := udp.AddrPort()
	addr = netip.AddrPortFrom(addr.Addr().Unmap().WithZone(""), addr.Port())
	return addr, addr.IsValid() && addr.Port() != 0
}

// reachable says whether a node can be at an address at all.
func reachable(a netip.AddrPort) bool {
	ip := a.Addr()
	return a.IsValid() && a.Port() != 0 && !ip.IsUnspecified() && !ip.IsMulticast() &&
		ip != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// global says whether an address means the same to everybody.
func global(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate()
}

// fromNodeAddr checks what the library took from a packet.
func fromNodeAddr(a krpc.NodeAddr) (netip.AddrPort, bool) {
	ip, ok := netip.AddrFromSlice(a.IP)
	if !ok || a.Port < 1 || a.Port > 65535 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(a.Port)), true
}

func toNodeAddr(a netip.AddrPort) krpc.NodeAddr {
	return krpc.NodeAddr{IP: a.Addr().AsSlice(), Port: int(a.Port())}
}

func nodeInfo(c contact) krpc.NodeInfo {
	return krpc.NodeInfo{ID: c.id, Addr: toNodeAddr(c.addr)}
}
