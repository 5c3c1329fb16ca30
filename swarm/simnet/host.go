package simnet

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// Link is how a host hangs on the network. The zero value is a perfect one.
type Link struct {
	// Latency of one way between the host and the middle of the network. A path
	// has the sum of both ends'.
	Latency time.Duration
	// Jitter is what a delivery may be late on top, evenly distributed, of both
	// ends together. At least 1 µs is used.
	Jitter time.Duration
	// Up and Down are what the host sends and receives, in bytes/s; 0: no limit.
	// Streams take turns at the uplink.
	Up, Down int64
	// ResetEvery is how many bytes the host's connections send on average before
	// they are reset; 0: never. It is looked at when a connection is made.
	ResetEvery int64
	// Loss is the share of datagrams that the link loses, of each direction.
	Loss float64
}

// Host is a machine on a network. It implements swarm.Network. It is safe for
// concurrent use.
type Host struct {
	// Set at start, read-only after.
	net  *Net
	addr netip.Addr
	key  uint64 // its name among all that happens

	// Guarded by net.mu.
	link      Link
	round     []source // what waits for the uplink, in turn
	fresh     []source // what has come to wait since it was last looked at
	busy      bool     // the uplink is, or will be looked at
	downFree  time.Duration
	listeners map[uint16]*listener
	sockets   map[uint16]*packetConn
	conns     []*Conn // open ones, oldest first
	port      uint16  // the newest that was given out
	dialled   map[netip.AddrPort]uint16
	sent      int64
	received  int64
}

// source is what has something to send over an uplink.
type source interface {
	// name is the same in every run.
	name() uint64
	// take takes at most limit bytes, and says what happens when they have left
	// the uplink. False: there is nothing to send.
	take(limit int) (size int, leave func(), ok bool)
}

// Host adds a machine. It panics if the address is taken: that is a mistake in
// the test.
func (n *Net) Host(addr netip.Addr, l Link) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[addr] != nil {
		panic(fmt.Sprintf("simnet: two hosts at %s", addr))
	}
	h := &Host{
		net: n, addr: addr, key: direction(netip.AddrPortFrom(addr, 0), netip.AddrPort{}), link: l, port: 40000,
		listeners: map[uint16]*listener{}, sockets: map[uint16]*packetConn{}, dialled: map[netip.AddrPort]uint16{},
	}
	n.hosts[addr] = h
	return h
}

// Addr returns the host's address.
func (h *Host) Addr() netip.Addr { return h.addr }

// SetLink changes the link. What is under way is not affected.
func (h *Host) SetLink(l Link) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.link = l
}

// Traffic returns how many bytes of payload left the host, and reached it.
func (h *Host) Traffic() (sent, received int64) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.sent, h.received
}

// Isolate cuts the host off from all others, both ways. It stays so for hosts
// that are there by then, until Rejoin.
func (h *Host) Isolate() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	for _, o := range h.others() {
		h.net.jam(path{h, o})
		h.net.jam(path{o, h})
	}
}

// Rejoin ends Isolate.
func (h *Host) Rejoin() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	for _, o := range h.others() {
		h.net.clear(path{h, o})
		h.net.clear(path{o, h})
	}
}

// others returns all hosts but this, always in the same order.
func (h *Host) others() []*Host {
	var list []*Host
	for _, o := range h.net.hosts {
		if o != h {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b *Host) int { return a.addr.Compare(b.addr) })
	return list
}

// ResetAll resets every connection of the host, as when it was started anew.
func (h *Host) ResetAll() {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	for len(h.conns) > 0 {
		h.conns[0].abort(syscall.ECONNRESET)
	}
}

// The uplink sends so much of one stream at a time: 10 ms' worth, within these
// bounds, so that a slow link is shared finely and a fast one costs little.
const (
	minQuantum = 1460 // a segment on Ethernet
	maxQuantum = 16 << 10
)

func (l *Link) quantum() int {
	if l.Up == 0 {
		return maxQuantum
	}
	return int(min(max(l.Up/100, minQuantum), maxQuantum))
}

// offer puts a source into the round. It must not be in it. The uplink looks at
// it a moment later: what goroutines that run at one moment write is then there,
// whichever was first, and they come in the order of their names.
func (h *Host) offer(s source) {
	h.fresh = append(h.fresh, s)
	if !h.busy {
		h.busy = true
		h.net.at(h.net.now(), h.key, h.pump)
	}
}

// pump keeps the uplink busy.
func (h *Host) pump() {
	h.busy = false
	for !h.busy {
		slices.SortFunc(h.fresh, func(a, b source) int { return cmp.Compare(a.name(), b.name()) })
		h.round = append(h.round, h.fresh...)
		h.fresh = h.fresh[:0]
		if len(h.round) == 0 {
			return
		}
		s := h.round[0]
		h.round = h.round[1:]
		h.send(s)
	}
}

// send gives a source its turn.
func (h *Host) send(s source) {
	size, leave, ok := s.take(h.link.quantum())
	if !ok {
		return
	}
	h.sent += int64(size)
	if h.link.Up == 0 || size == 0 {
		leave()
		return
	}
	h.busy = true
	h.net.at(h.net.now()+serialise(size, h.link.Up), s.name(), func() {
		leave()
		h.pump()
	})
}

// clientPort returns the local port of a dial. It depends on how often that
// address was dialled, not on who else is dialled at the same moment.
func (h *Host) clientPort(to netip.AddrPort) uint16 {
	h.dialled[to]++
	return 40000 + h.dialled[to]%20000
}

// Resolve returns the addresses that Net.Name gave a host. A literal address is
// its own.
func (h *Host) Resolve(_ context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if addrs := h.net.names[host]; len(addrs) > 0 {
		return slices.Clone(addrs), nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// bind resolves what a program asks to listen on: HOST:PORT, where HOST may be
// empty or unspecified, and PORT 0. Used says whether a port is.
func (h *Host) bind(network, addr string, used func(uint16) bool) (netip.AddrPort, error) {
	fail := func(err error) (netip.AddrPort, error) {
		return netip.AddrPort{}, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	name, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fail(err)
	}
	if name == "" {
		name = h.addr.String()
	}
	at, err := netip.ParseAddrPort(net.JoinHostPort(name, port))
	if err != nil {
		return fail(err)
	}
	if ip := at.Addr(); ip != h.addr && !ip.IsUnspecified() {
		return fail(syscall.EADDRNOTAVAIL)
	}
	p := at.Port()
	if p == 0 {
		p = h.freePort(used)
	}
	if used(p) {
		return fail(syscall.EADDRINUSE)
	}
	return netip.AddrPortFrom(h.addr, p), nil
}

func (h *Host) freePort(used func(uint16) bool) uint16 {
	for {
		if h.port++; h.port < 40000 { // past the last one
			h.port = 40000
		}
		if !used(h.port) {
			return h.port
		}
	}
}
