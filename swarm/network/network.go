package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options are the policy. The zero value is the operating system's network.
type Options struct {
	// Bind is the interface, or the address, that every socket is bound to. One
	// that is not there (yet) is no error: nothing is sent until it is.
	Bind string
	// Local confines everything to loopback addresses: nothing is sent elsewhere.
	Local bool
	// Logger gets when the device goes and comes; nil: nobody.
	Logger *slog.Logger
}

// Network opens sockets under one policy. It is safe for concurrent use.
type Network struct {
	// Set at start, read-only after.
	opts     Options
	log      *slog.Logger
	device   *device // nil: not bound
	resolver *net.Resolver

	mu      sync.Mutex
	where   place         // of the device
	missing error         // why there is no such place; nil also when not bound
	here    []netip.Addr  // all addresses of this machine; nil: not looked yet
	changed chan struct{} // closed and replaced with each change of where and missing
	open    map[*socket]struct{}
}

// Why something was not sent.
var (
	ErrNotLocal = errors.New("only loopback addresses are used, as every --listen is one")
	errNoServer = errors.New("no name server is asked, as every --listen is loopback")
)

// New returns a Network. Serve notices when addresses come and go.
func New(o Options) *Network {
	n := &Network{opts: o, log: o.Logger, changed: make(chan struct{}), open: map[*socket]struct{}{}}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if o.Bind != "" {
		n.device = parseDevice(o.Bind)
	}
	n.resolver = net.DefaultResolver
	if o.Local || n.device != nil {
		n.resolver = &net.Resolver{PreferGo: true, Dial: n.dialNameServer}
	}
	n.look()
	return n
}

// Resolver returns the resolver of the policy, for what asks by itself.
func (n *Network) Resolver() *net.Resolver { return n.resolver }

// place is where the device is, or why it is nowhere.
func (n *Network) place() (place, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.where, n.missing
}

// changes is closed when the device is somewhere else.
func (n *Network) changes() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

// Down says why nothing can be sent now, or nil.
func (n *Network) Down() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.missing
}

// MayReach says whether anything may be sent to an address.
func (n *Network) MayReach(a netip.Addr) error {
	if n.opts.Local && !a.Unmap().IsLoopback() {
		return ErrNotLocal
	}
	return nil
}

// Dial connects over TCP.
func (n *Network) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	if err := n.MayReach(addr.Addr()); err != nil {
		return nil, err
	}
	at, err := n.source(addr.Addr())
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Control: at.control}
	if at.addr.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(at.addr, 0))
	}
	c, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return n.track(c, at.at), nil
}

// source is what a socket to an address is bound to: nothing, or a device and
// its address of that family.
func (n *Network) source(to netip.Addr) (binding, error) {
	if n.device == nil {
		return binding{}, nil
	}
	p, err := n.place()
	if err != nil {
		return binding{}, err
	}
	if to.IsLoopback() && !p.loopback {
		// The kernel would send it to the device's router.
		return binding{}, fmt.Errorf("%v is not reached through %s", to, p.name)
	}
	b := binding{at: p, addr: p.v6}
	if to.Is4() {
		b.addr = p.v4
	}
	if !b.addr.IsValid() {
		return binding{}, fmt.Errorf("%s has no address to reach %v from", n.device, to)
	}
	return b, nil
}

// binding is what a socket is bound to; the zero value: nothing.
type binding struct {
	at   place
	addr netip.Addr
}

// control is a net.Dialer's and net.ListenConfig's. The kernel refuses when the
// device is not there: what cannot be bound is not opened.
func (b binding) control(_, _ string, c syscall.RawConn) error {
	if b.at.name == "" {
		return nil
	}
	var err error
	if cerr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), b.at.name) }); cerr != nil {
		return cerr
	}
	if err != nil {
		return fmt.Errorf("bind to device %s: %w", b.at.name, err)
	}
	return nil
}

// Resolve returns the addresses of a host. A literal address asks nobody, and
// so does localhost (RFC 6761).
func (n *Network) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	if strings.EqualFold(host, "localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	addrs, err := n.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, nil
}

// dialNameServer connects the Go resolver to a name server of resolv.conf.
func (n *Network) dialNameServer(ctx context.Context, network, address string) (net.Conn, error) {
	if n.opts.Local {
		// Not even one on this machine, which would pass the question on.
		return nil, errNoServer
	}
	server, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	at, err := n.source(server.Addr().Unmap())
	if err != nil {
		return nil, fmt.Errorf("ask name server: %w", err)
	}
	d := net.Dialer{Control: at.control}
	if strings.HasPrefix(network, "udp") {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.addr, 0))
	} else {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(at.addr, 0))
	}
	return d.DialContext(ctx, network, address)
}

// lookEvery is how often addresses are looked at: two system calls.
const lookEvery = time.Second

// Serve notices changes until ctx ends. It is a service of the session's.
func (n *Network) Serve(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	asleep := suspended()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		n.look()
		if now := suspended(); now > asleep+wokeAfter {
			n.woke()
			asleep = now
		}
	}
}

// String names the service for the supervisor's log.
func (n *Network) String() string { return "network" }

// wokeAfter is how long this machine must have slept for its connections to be
// given up: others have by then.
const wokeAfter = 30 * time.Second

// suspended is how long this machine has slept since it was started.
func suspended() time.Duration {
	var up, awake unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil {
		return 0
	}
	return time.Duration(up.Nano() - awake.Nano())
}
