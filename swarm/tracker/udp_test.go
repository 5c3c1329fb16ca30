package tracker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// udpPacket is one that a fake tracker got.
type udpPacket struct {
	p           []byte
	from, to    netip.AddrPort
	connection  uint64
	action      uint32
	transaction uint32
}

func readUDP(p []byte, from, to netip.AddrPort) udpPacket {
	be := binary.BigEndian
	return udpPacket{p, from, to, be.Uint64(p), be.Uint32(p[8:]), be.Uint32(p[12:])}
}

// reply makes an answer with any action.
func (q udpPacket) reply(action uint32, body string) []byte {
	p := binary.BigEndian.AppendUint32(nil, action)
	return append(binary.BigEndian.AppendUint32(p, q.transaction), body...)
}

// honest answers as a tracker should: the connection id is 8 times the byte c,
// and there is one peer.
func (q udpPacket) honest(c byte) []byte {
	if q.action == actionConnect {
		return q.reply(actionConnect, strings.Repeat(string(c), 8))
	}
	return q.reply(actionAnnounce, "\x00\x00\x00\x3c\x00\x00\x00\x01\x00\x00\x00\x02\x01\x02\x03\x04\x1a\xe1")
}

// serveUDP starts a tracker that answers each packet with those that handle
// returns, and returns its URL and socket.
func serveUDP(t *testing.T, network, addr string, handle func(q udpPacket) [][]byte) (string, net.PacketConn) {
	t.Helper()
	conn, err := net.ListenPacket(network, addr)
	if err != nil {
		t.Skip("this machine has no ", network)
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			q := readUDP(slices.Clone(buf[:n]), from.(*net.UDPAddr).AddrPort(), netip.AddrPort{})
			for _, p := range handle(q) {
				conn.WriteTo(p, from)
			}
		}
	})
	t.Cleanup(func() {
		conn.Close()
		reader.Wait()
	})
	return fmt.Sprintf("udp://%s/announce?x", conn.LocalAddr()), conn
}

func TestAnAnnounceGoesOverRealSocketsOfBothFamilies(t *testing.T) {
	for _, c := range []struct{ network, addr, peers string }{
		{"udp4", "127.0.0.1:0", "1.2.3.4:6881"},
		{"udp6", "[::1]:0", "[2001:db8::1]:6882"},
	} {
		t.Run(c.network, func(t *testing.T) {
			got := make(chan []byte, 1)
			rawURL, _ := serveUDP(t, c.network, c.addr, func(q udpPacket) [][]byte {
				if q.action == actionAnnounce {
					got <- q.p
					if c.network == "udp6" {
						return [][]byte{append(q.honest('c')[:udpPeersAt], "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe2"...)}
					}
				}
				return [][]byte{q.honest('c')}
			})
			r, err := newTestClient(t, Options{}).Announce(t.Context(), rawURL, testRequest)
			if err != nil {
				t.Fatal(err)
			}
			if r.Interval != time.Minute || r.Leechers != 1 || r.Seeders != 2 || !slices.Equal(r.Peers, addrPorts(c.peers)) {
				t.Errorf("got %+v", r)
			}
			announced := <-got
			want := appendAnnounce(nil, binary.BigEndian.Uint64([]byte("cccccccc")), binary.BigEndian.Uint32(announced[12:]), "/announce?x", testRequest)
			if !slices.Equal(announced, want) {
				t.Errorf("the tracker got\n%x, want\n%x", announced, want)
			}
		})
	}
}

func TestAnswersOfMoreThan2KiBAreNotCut(t *testing.T) {
	rawURL, _ := serveUDP(t, "udp4", "127.0.0.1:0", func(q udpPacket) [][]byte {
		p := q.honest('c')
		if q.action == actionAnnounce {
			for i := range 1900 {
				p = append(p, 9, 9, byte(i>>8), byte(i), 0, 1)
			}
		}
		return [][]byte{p}
	})
	r, err := newTestClient(t, Options{}).Announce(t.Context(), rawURL, testRequest)
	if err != nil || len(r.Peers) != 1901 {
		t.Errorf("got %d peers, %v; want 1901", len(r.Peers), err)
	}
}

func TestPacketsThatAnswerNothingAreIgnored(t *testing.T) {
	stranger, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	rawURL, _ := serveUDP(t, "udp4", "127.0.0.1:0", func(q udpPacket) [][]byte {
		// Right in all but its source.
		forged := append(q.honest('x')[:udpHeaderLen], "\x00\x00\x00\x01\x00\x00\x00\x09\x00\x00\x00\x09"...)
		client := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), q.from.Port()))
		stranger.WriteTo(forged, client)
		stranger.WriteTo(q.reply(actionError, "forged"), client)
		other := q
		other.transaction ^= 1
		wrong := q.honest('x')
		wrong[3] ^= 1 // connect for announce, announce for connect
		return [][]byte{
			nil, []byte("short"),
			other.honest('x'), other.reply(actionError, "other"),
			wrong, q.reply(2, "a scrape, for once"), q.reply(1<<31, ""),
			q.honest('x')[:udpConnectLen-1], // too short for either
			q.honest('c'),
			q.honest('y'), q.honest('y'), q.honest('y'), q.reply(actionError, "too late"),
		}
	})
	c := newTestClient(t, Options{})
	for range 3 {
		r, err := c.Announce(t.Context(), rawURL, testRequest)
		if err != nil || r.Leechers != 1 || len(r.Peers) != 1 {
			t.Fatalf("got %+v, %v", r, err)
		}
	}
}

func TestAnErrorOfAUDPTrackerIsARefusal(t *testing.T) {
	rawURL, _ := serveUDP(t, "udp4", "127.0.0.1:0", func(q udpPacket) [][]byte {
		if q.action == actionConnect {
			return [][]byte{q.honest('c')}
		}
		return [][]byte{q.reply(actionError, "go \x1b[1maway\x00")}
	})
	_, err := newTestClient(t, Options{}).Announce(t.Context(), rawURL, testRequest)
	if f := (*FailureError)(nil); !errors.As(err, &f) || f.Reason != "go [1maway" {
		t.Errorf("got %v", err)
	}
}

func TestAForgottenConnectionIsMadeAnew(t *testing.T) {
	valid := byte('a') // until the next announce
	rawURL, _ := serveUDP(t, "udp4", "127.0.0.1:0", func(q udpPacket) [][]byte {
		switch {
		case q.action == actionConnect:
			return [][]byte{q.honest(valid)}
		case q.p[0] != valid:
			return [][]byte{q.reply(actionError, "Connection ID missmatch.\x00")}
		}
		valid++
		return [][]byte{q.honest(0)}
	})
	c := newTestClient(t, Options{})
	for i := range 3 {
		if _, err := c.Announce(t.Context(), rawURL, testRequest); err != nil {
			t.Errorf("announce %d: %v", i, err)
		}
	}
}

func TestATrackerThatRefusesEachConnectionIsGivenUp(t *testing.T) {
	rawURL, _ := serveUDP(t, "udp4", "127.0.0.1:0", func(q udpPacket) [][]byte {
		if q.action == actionConnect {
			return [][]byte{q.honest('c')}
		}
		return [][]byte{q.reply(actionError, "connection id")}
	})
	c := newTestClient(t, Options{})
	for range 2 {
		_, err := c.Announce(t.Context(), rawURL, testRequest)
		if f := (*FailureError)(nil); !errors.As(err, &f) {
			t.Errorf("got %v", err)
		}
	}
}

// fakeConn is a socket whose other end is handle, for tests in virtual time.
type fakeConn struct {
	net.PacketConn
	in     chan udpPacket
	closed chan struct{}
	close  func()
	handle func(q udpPacket) [][]byte
}

func newFakeConn(handle func(q udpPacket) [][]byte) *fakeConn {
	f := &fakeConn{in: make(chan udpPacket, 100), closed: make(chan struct{}), handle: handle}
	f.close = sync.OnceFunc(func() { close(f.closed) })
	return f
}

func (f *fakeConn) ReadFrom(buf []byte) (int, net.Addr, error) {
	select {
	case q := <-f.in:
		return copy(buf, q.p), net.UDPAddrFromAddrPort(q.from), nil
	case <-f.closed:
		return 0, nil, net.ErrClosed
	}
}

func (f *fakeConn) WriteTo(p []byte, to net.Addr) (int, error) {
	addr := to.(*net.UDPAddr).AddrPort()
	q := readUDP(slices.Clone(p), netip.AddrPort{}, addr)
	replies := f.handle(q)
	if len(replies) == 1 && replies[0] == nil {
		return 0, errors.New("network is unreachable")
	}
	for _, r := range replies {
		f.in <- udpPacket{p: r, from: addr}
	}
	return len(p), nil
}

func (f *fakeConn) Close() error {
	f.close()
	return nil
}

// fakeTracker returns a client whose UDP trackers are all handle, at the given
// addresses.
func fakeTracker(addrs []string, handle func(q udpPacket) [][]byte) *Client {
	return NewClient(Options{Network: fakeNetwork{
		listen: func() net.PacketConn { return newFakeConn(handle) },
		resolve: func() ([]netip.Addr, error) {
			var out []netip.Addr
			for _, a := range addrs {
				out = append(out, netip.MustParseAddr(a))
			}
			return out, nil
		},
	}})
}

// fakeNetwork has sockets that are no sockets, and one answer for all names.
type fakeNetwork struct {
	listen  func() net.PacketConn
	resolve func() ([]netip.Addr, error)
}

func (f fakeNetwork) Dial(context.Context, netip.AddrPort) (net.Conn, error) { return nil, errDown }
func (f fakeNetwork) ListenPacket(context.Context, string, string) (net.PacketConn, error) {
	return f.listen(), nil
}
func (f fakeNetwork) Resolve(context.Context, string) ([]netip.Addr, error) { return f.resolve() }

func TestRetransmissionsWait15Times2ToTheNSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		seen := map[uint32]bool{}
		c := fakeTracker([]string{"1.2.3.4"}, func(q udpPacket) [][]byte {
			at = append(at, time.Since(start))
			if seen[q.transaction] {
				t.Errorf("transaction %x was used twice", q.transaction)
			}
			seen[q.transaction] = true
			return nil
		})
		defer c.Close()
		c.udpTimeout = 24 * time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), 16*time.Minute)
		defer cancel()
		_, err := c.Announce(ctx, "udp://t.example:1/announce", testRequest)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		want := []time.Duration{0, 15, 45, 105, 225, 465, 945}
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(at, want) {
			t.Errorf("sent at %v, want %v", at, want)
		}
	})
}

func TestADeadUDPTrackerTakesOneMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := fakeTracker([]string{"1.2.3.4"}, func(udpPacket) [][]byte { return nil })
		defer c.Close()
		_, err := c.Announce(t.Context(), "udp://t.example:1/0123456789/announce", testRequest)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "does not answer") || strings.Contains(err.Error(), "0123456789") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != time.Minute {
			t.Errorf("took %v", took)
		}
	})
}

func TestAConnectionIsUsedForAMinuteAndNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connects, used := byte(0), byte(0)
		c := fakeTracker([]string{"1.2.3.4"}, func(q udpPacket) [][]byte {
			if q.action == actionConnect {
				connects++
			} else {
				used = q.p[0]
			}
			return [][]byte{q.honest(connects)}
		})
		defer c.Close()
		for _, step := range []struct {
			wait time.Duration
			want byte
		}{{0, 1}, {30 * time.Second, 1}, {29 * time.Second, 1}, {time.Second, 2}, {59 * time.Second, 2}, {time.Hour, 3}} {
			time.Sleep(step.wait)
			if _, err := c.Announce(t.Context(), "udp://t.example:1/announce", testRequest); err != nil {
				t.Fatal(err)
			}
			if connects != step.want || used != step.want {
				t.Errorf("after %v more: connection %d of %d, want %d", step.wait, used, connects, step.want)
			}
		}
	})
}

func TestRetransmissionsTryTheOtherFamily(t *testing.T) {
	for name, silence := range map[string][][]byte{"dropped": nil, "unreachable": {nil}} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			c := fakeTracker([]string{"2001:db8::1", "2001:db8::2", "1.2.3.4", "1.2.3.5"}, func(q udpPacket) [][]byte {
				if q.to.Addr().Is6() {
					return silence
				}
				return [][]byte{q.honest('c')}
			})
			defer c.Close()
			r, err := c.Announce(t.Context(), "udp://t.example:1/announce", testRequest)
			if err != nil || len(r.Peers) != 1 {
				t.Errorf("%s: got %+v, %v", name, r, err)
			}
			want := 15 * time.Second
			if name == "unreachable" {
				want = 0
			}
			if took := time.Since(start); took != want {
				t.Errorf("%s: took %v, want %v", name, took, want)
			}
		})
	}
}

func TestATrackerThatCannotBeReachedFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := fakeTracker([]string{"2001:db8::1", "1.2.3.4"}, func(udpPacket) [][]byte { return [][]byte{nil} })
		defer c.Close()
		_, err := c.Announce(t.Context(), "udp://t.example:1/announce", testRequest)
		if err == nil || !strings.Contains(err.Error(), "network is unreachable") || time.Since(start) != 0 {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
	})
}

func TestABrokenSocketIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fakeTracker([]string{"1.2.3.4"}, func(q udpPacket) [][]byte { return [][]byte{q.honest('c')} })
		defer c.Close()
		for range 3 {
			if _, err := c.Announce(t.Context(), "udp://t.example:1/announce", testRequest); err != nil {
				t.Error(err)
			}
			c.udp.sockets["udp4"].conn.Close()
			synctest.Wait()
		}
	})
}

func TestATrackerThatWasRestartedIsConnectedToAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		valid := byte('a')
		c := fakeTracker([]string{"1.2.3.4"}, func(q udpPacket) [][]byte {
			if q.action == actionAnnounce && q.p[0] != valid {
				return nil // says nothing to strangers
			}
			return [][]byte{q.honest(valid)}
		})
		defer c.Close()
		for _, want := range []time.Duration{0, udpRetransmit} {
			start := time.Now()
			if _, err := c.Announce(t.Context(), "udp://t.example:1/announce", testRequest); err != nil || time.Since(start) != want {
				t.Errorf("%c: got %v after %v, want %v", valid, err, time.Since(start), want)
			}
			valid++
		}
	})
}

func TestCloseWaitsForAnnounces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c := NewClient(Options{Network: fakeNetwork{resolve: func() ([]netip.Addr, error) {
			<-release // a resolver that cannot be cancelled
			return nil, errDown
		}}})
		var work sync.WaitGroup
		work.Go(func() { c.Announce(t.Context(), "udp://t.example:1/announce", testRequest) })
		synctest.Wait()
		closed := false
		work.Go(func() {
			c.Close()
			closed = true
		})
		synctest.Wait()
		if closed {
			t.Error("Close returned while an announce ran")
		}
		close(release)
		work.Wait()
	})
}

func TestCloseEndsAUDPAnnounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fakeTracker([]string{"1.2.3.4"}, func(udpPacket) [][]byte { return nil })
		var announce sync.WaitGroup
		announce.Go(func() {
			if _, err := c.Announce(t.Context(), "udp://t.example:1/announce", testRequest); !errors.Is(err, ErrClosed) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		c.Close()
		announce.Wait()
	})
}

func TestAUDPTrackerIsNowhereButWhereItMayBe(t *testing.T) {
	sent := false
	c := fakeTracker([]string{"169.254.169.254", "0.0.0.0", "ff02::1"}, func(udpPacket) [][]byte {
		sent = true
		return nil
	})
	defer c.Close()
	if _, err := c.Announce(t.Context(), "udp://t.example:1/announce", testRequest); err == nil || sent {
		t.Errorf("got %v, sent: %v", err, sent)
	}
	for _, raw := range []string{"udp://t.example:0/announce", "udp://t.example:65536/announce"} {
		if _, err := c.Announce(t.Context(), raw, testRequest); err == nil || !strings.Contains(err.Error(), "port") {
			t.Errorf("%s: got %v", raw, err)
		}
	}
}

func TestRememberedConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fakeTracker(nil, func(q udpPacket) [][]byte { return [][]byte{q.honest('c')} })
		defer c.Close()
		for i := range 2 * maxConnections {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 1, byte(i >> 8), byte(i)}), 1)
			_, _, err := c.udp.request(t.Context(), []netip.AddrPort{addr}, &url.URL{}, actionAnnounce, func(id uint64, transaction uint32) []byte {
				return appendAnnounce(nil, id, transaction, "", testRequest)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if n := len(c.udp.connections); n > maxConnections {
			t.Errorf("%d connections are remembered", n)
		}
	})
}
