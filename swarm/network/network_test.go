package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, s := range texts {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

func TestADeviceIsFoundByNameOrAddress(t *testing.T) {
	const up = net.FlagUp
	all := []iface{
		{net.Interface{Name: "lo", Index: 1, Flags: up | net.FlagLoopback}, addrs("127.0.0.1", "::1")},
		{net.Interface{Name: "eth0", Index: 2, Flags: up}, addrs("fe80::1", "192.0.2.1", "192.0.2.2", "2001:db8::1")},
		{net.Interface{Name: "tun0", Index: 3}, addrs("198.51.100.1")},
		{net.Interface{Name: "tun1", Index: 4, Flags: up}, addrs("fe80::2")},
	}
	for _, c := range []struct{ bind, v4, v6, err string }{
		{"eth0", "192.0.2.1", "2001:db8::1", ""},
		{"192.0.2.2", "192.0.2.2", "", ""},
		{"2001:db8::1", "", "2001:db8::1", ""},
		{"lo", "127.0.0.1", "::1", ""},
		{"tun0", "", "", "is down"},
		{"tun1", "", "", "has no address"},
		{"tun2", "", "", "no interface tun2"},
		{"192.0.2.9", "", "", "no interface has"},
		{"198.51.100.1", "", "", "is down"},
	} {
		p, err := parseDevice(c.bind).find(all)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got %v, want %q", c.bind, err, c.err)
			}
			continue
		}
		text := func(a netip.Addr) string {
			if a.IsValid() {
				return a.String()
			}
			return ""
		}
		if err != nil || text(p.v4) != c.v4 || text(p.v6) != c.v6 {
			t.Errorf("%s: got %v %v, %v, want %s %s", c.bind, p.v4, p.v6, err, c.v4, c.v6)
		}
	}
}

func TestALocalNetworkSendsNothingElsewhere(t *testing.T) {
	n := New(Options{Local: true})
	if _, err := n.Dial(t.Context(), netip.MustParseAddrPort("192.0.2.1:1")); !errors.Is(err, ErrNotLocal) {
		t.Errorf("dial: %v", err)
	}
	if _, err := n.Resolve(t.Context(), "name.example"); err == nil || !strings.Contains(err.Error(), errNoServer.Error()) {
		t.Errorf("resolve: %v", err)
	}
	c, err := n.ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}); !errors.Is(err, ErrNotLocal) {
		t.Errorf("send: %v", err)
	}
	if _, err := c.WriteTo([]byte("x"), c.LocalAddr()); err != nil {
		t.Errorf("send to loopback: %v", err)
	}
}

func TestNothingIsOpenedWithoutTheDevice(t *testing.T) {
	n := New(Options{Bind: "none0"})
	if n.Down() == nil {
		t.Fatal("an interface that does not exist is there")
	}
	if _, err := n.Dial(t.Context(), netip.MustParseAddrPort("127.0.0.1:1")); err == nil || !strings.Contains(err.Error(), "none0") {
		t.Errorf("dial: %v", err)
	}
	if _, err := n.Resolve(t.Context(), "name.example"); err == nil {
		t.Error("a name was resolved")
	}
	l, err := n.Listen(":0")
	if err != nil {
		t.Fatalf("listen: %v, want a listener that waits", err)
	}
	time.AfterFunc(10*time.Millisecond, func() { l.Close() })
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	c, err := n.ListenPacket(t.Context(), "udp", ":0")
	if err != nil {
		t.Fatalf("listen: %v, want a socket that waits", err)
	}
	if _, err := c.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}); err == nil {
		t.Error("something was sent")
	}
	c.Close()
	if _, _, err := c.ReadFrom(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
}

// bound returns a network on loopback's interface, whose comings and goings the
// test decides.
func bound(t *testing.T) (n *Network, gone, back func()) {
	t.Helper()
	n = New(Options{Bind: "lo"})
	p, err := n.place()
	if err != nil {
		t.Skip("loopback is not up")
	}
	here := n.here
	return n, func() { n.settle(place{}, errors.New("gone"), here) }, func() { n.settle(p, nil, here) }
}

func TestListenersAndSocketsComeAgainWithTheDevice(t *testing.T) {
	n, gone, back := bound(t)
	l, err := n.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	packets, err := n.ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	read := make(chan string)
	go func() {
		defer close(read)
		for buf := make([]byte, 10); ; {
			n, _, err := packets.ReadFrom(buf)
			if err != nil {
				return
			}
			read <- string(buf[:n])
		}
	}()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	works := func() {
		t.Helper()
		c, err := n.Dial(t.Context(), at)
		for deadline := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			c, err = n.Dial(t.Context(), at) // the listener may be a moment later
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		(<-accepted).Close()
		for {
			_, _ = packets.WriteTo([]byte("x"), packets.LocalAddr())
			select {
			case <-read:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	works()
	open, err := n.Dial(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	defer (<-accepted).Close()
	gone()
	if _, err := open.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlives its device")
	}
	if _, err := n.Dial(t.Context(), at); err == nil {
		t.Error("dialled without the device")
	}
	if c, err := net.Dial("tcp", at.String()); err == nil {
		c.Close()
		t.Error("the listener is open without the device")
	}
	back()
	works()
	if got := l.Addr().(*net.TCPAddr).AddrPort(); got != at {
		t.Errorf("listens on %v, was %v", got, at)
	}
	l.Close()
	packets.Close()
	<-accepted
	<-read
	if len(n.open) > 1 { // the one that open closes
		t.Errorf("%d sockets are remembered", len(n.open))
	}
}

func TestAConnectionEndsWithItsAddress(t *testing.T) {
	n := New(Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := n.Dial(t.Context(), l.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n.settle(place{}, nil, addrs("192.0.2.1"))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want a closed connection", err)
	}
}

// slow has names whose addresses answer late, or not at all.
type slow map[netip.Addr]time.Duration

func (s slow) Resolve(context.Context, string) ([]netip.Addr, error) {
	return addrs("2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"), nil
}

func (s slow) Dial(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	d, ok := s[a.Addr()]
	if !ok {
		return nil, errors.New("refused")
	}
	select {
	case <-time.After(d):
		c, _ := net.Pipe()
		return named{c, a.Addr()}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type named struct {
	net.Conn
	addr netip.Addr
}

func TestTheFirstAddressThatAnswersIsUsed(t *testing.T) {
	for _, c := range []struct {
		n    slow
		want string
	}{
		{slow{netip.MustParseAddr("2001:db8::1"): 0, netip.MustParseAddr("192.0.2.1"): 0}, "2001:db8::1"},
		{slow{netip.MustParseAddr("2001:db8::1"): time.Hour, netip.MustParseAddr("192.0.2.1"): 0}, "192.0.2.1"},
		{slow{netip.MustParseAddr("192.0.2.2"): 0}, "192.0.2.2"},
		{slow{}, ""},
	} {
		conn, err := DialName(t.Context(), c.n, "name.example:80", nil)
		if c.want == "" {
			if err == nil {
				t.Error("connected to nobody")
			}
			continue
		}
		if err != nil || conn.(named).addr.String() != c.want {
			t.Errorf("got %v, %v, want %s", conn, err, c.want)
		}
	}
}

func TestAddressesAreCheckedAfterTheLookUp(t *testing.T) {
	bad := errors.New("not there")
	got, err := permitted(addrs("2001:db8::1", "192.0.2.1", "192.0.2.2"), func(a netip.Addr) error {
		if a == netip.MustParseAddr("192.0.2.1") {
			return bad
		}
		return nil
	})
	if want := addrs("2001:db8::1", "192.0.2.2"); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := permitted(addrs("192.0.2.1"), func(netip.Addr) error { return bad }); !errors.Is(err, bad) {
		t.Errorf("got %v, want why none may be reached", err)
	}
}
