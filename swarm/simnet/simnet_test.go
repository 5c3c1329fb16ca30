package simnet

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func ip(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

// pair is two hosts with a connection between them.
type pair struct {
	net    *Net
	ha, hb *Host
	l      net.Listener
	a, b   *Conn // a dialled b
}

func newPair(t *testing.T, la, lb Link) *pair {
	t.Helper()
	n := New(1)
	p := &pair{net: n, ha: n.Host(ip(1), la), hb: n.Host(ip(2), lb)}
	var err error
	if p.l, err = p.hb.Listen(":6881"); err != nil {
		t.Fatal(err)
	}
	p.a, p.b = p.connect(t)
	return p
}

func (p *pair) connect(t *testing.T) (a, b *Conn) {
	t.Helper()
	var g sync.WaitGroup
	g.Go(func() {
		c, err := p.l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		b = c.(*Conn)
	})
	c, err := p.ha.Dial(t.Context(), netip.AddrPortFrom(p.hb.Addr(), 6881))
	if err != nil {
		t.Fatal(err)
	}
	g.Wait()
	return c.(*Conn), b
}

// inBubble is synctest.Test with fewer words.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func write(t *testing.T, c net.Conn, size int) {
	t.Helper()
	if n, err := c.Write(make([]byte, size)); n != size || err != nil {
		t.Errorf("write %d bytes: %d, %v", size, n, err)
	}
}

func readN(t *testing.T, c net.Conn, size int) {
	t.Helper()
	if n, err := io.ReadFull(c, make([]byte, size)); err != nil {
		t.Errorf("read %d bytes: got %d, %v", size, n, err)
	}
}

func between(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s took %v, want %v to %v", what, got, low, high)
	}
}

func TestOneByteTakesTheLatencyAndAtMostTheJitter(t *testing.T) {
	for _, tc := range []struct{ latency, jitter time.Duration }{
		{0, 0},
		{20 * time.Millisecond, 0},
		{20 * time.Millisecond, 5 * time.Millisecond},
		{3 * time.Second, time.Second},
	} {
		inBubble(t, func(t *testing.T) {
			l := Link{Latency: tc.latency, Jitter: tc.jitter}
			p := newPair(t, l, l)
			for range 20 {
				start := time.Now()
				write(t, p.a, 1)
				readN(t, p.b, 1)
				between(t, "one byte", time.Since(start), 2*tc.latency, 2*tc.latency+max(2*tc.jitter, time.Microsecond))
			}
		})
	}
}

func TestDialTakesOneRoundTrip(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := Link{Latency: 25 * time.Millisecond}
		start := time.Now()
		p := newPair(t, l, l)
		// Back comes the answer after two ways; the other end has the connection
		// after a third.
		between(t, "dial and accept", time.Since(start), 150*time.Millisecond, 150*time.Millisecond+3*time.Microsecond)
		start = time.Now()
		c, err := p.ha.Dial(t.Context(), netip.AddrPortFrom(p.hb.Addr(), 6881))
		if err != nil {
			t.Fatal(err)
		}
		between(t, "dial", time.Since(start), 100*time.Millisecond, 100*time.Millisecond+2*time.Microsecond)
		if got, want := c.RemoteAddr().String(), "10.0.0.2:6881"; got != want {
			t.Errorf("remote address is %s, want %s", got, want)
		}
		if _, ok := c.LocalAddr().(*net.TCPAddr); !ok {
			t.Errorf("local address is a %T", c.LocalAddr())
		}
	})
}

func TestStreamsRunAtTheRateOfTheirSlowestLink(t *testing.T) {
	const size = 4 << 20
	for _, tc := range []struct {
		name   string
		la, lb Link
		want   time.Duration
	}{
		{"uplink", Link{Up: 1 << 20}, Link{}, 4 * time.Second},
		{"downlink", Link{}, Link{Down: 1 << 20}, 4 * time.Second},
		{"both", Link{Up: 2 << 20}, Link{Down: 1 << 20}, 4 * time.Second},
		{"slow", Link{Up: 16 << 10}, Link{}, 256 * time.Second},
		// Nothing but the window: 256 KiB for each 50 ms that they are under way.
		{"window", Link{Latency: 50 * time.Millisecond}, Link{}, 16 * 50 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				p := newPair(t, tc.la, tc.lb)
				start := time.Now()
				var g sync.WaitGroup
				g.Go(func() { write(t, p.a, size) })
				readN(t, p.b, size)
				g.Wait()
				between(t, "4 MiB", time.Since(start), tc.want*98/100, tc.want*102/100)
			})
		})
	}
}

func TestStreamsShareAnUplinkEvenly(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPair(t, Link{Up: 1 << 20}, Link{})
		a2, b2 := p.connect(t)
		start := time.Now()
		var g sync.WaitGroup
		for _, c := range []*Conn{p.a, a2} {
			g.Go(func() { write(t, c, 1<<20) })
		}
		for _, c := range []*Conn{p.b, b2} {
			g.Go(func() {
				readN(t, c, 1<<20)
				between(t, "1 MiB of 2", time.Since(start), 1950*time.Millisecond, 2010*time.Millisecond)
			})
		}
		g.Wait()
		if sent, _ := p.ha.Traffic(); sent != 2<<20 {
			t.Errorf("%d bytes were sent, want %d", sent, 2<<20)
		}
	})
}

func TestAWriterBlocksOnAReaderThatDoesNotRead(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPair(t, Link{}, Link{})
		p.a.SetWriteDeadline(time.Now().Add(time.Minute))
		n, err := p.a.Write(make([]byte, 1<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n != window+sendBuffer {
			t.Errorf("write ended after %d bytes with %v, want %d and a deadline", n, err, window+sendBuffer)
		}
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("%v is no timeout", err)
		}
		p.a.SetWriteDeadline(time.Time{})
		var g sync.WaitGroup
		g.Go(func() { write(t, p.a, 1<<20) })
		readN(t, p.b, n+1<<20)
		g.Wait()
	})
}

func TestDeadlinesWakeReadersAndCanBeMoved(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPair(t, Link{}, Link{})
		start := time.Now()
		p.a.SetReadDeadline(start.Add(time.Second))
		_, err := p.a.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want a deadline", err)
		}
		between(t, "deadline", time.Since(start), time.Second, time.Second)

		// A deadline that has passed fails even what could be read.
		write(t, p.b, 1)
		time.Sleep(time.Second)
		if _, err := p.a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want a deadline", err)
		}
		p.a.SetReadDeadline(time.Time{})
		readN(t, p.a, 1)

		// Moved while somebody waits: later, then into the past.
		var g sync.WaitGroup
		start = time.Now()
		p.a.SetReadDeadline(start.Add(time.Second))
		g.Go(func() {
			if _, err := p.a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v, want a deadline", err)
			}
			between(t, "moved deadline", time.Since(start), 5*time.Second, 5*time.Second)
		})
		synctest.Wait()
		p.a.SetReadDeadline(start.Add(time.Hour))
		time.Sleep(5 * time.Second)
		p.a.SetReadDeadline(start)
		g.Wait()
	})
}

func TestCloseSendsWhatWasWrittenThenEOF(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPair(t, Link{Up: 64 << 10}, Link{})
		write(t, p.a, 60<<10)
		if err := p.a.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := p.a.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
		if _, err := p.a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
		if err := p.a.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
		readN(t, p.b, 60<<10)
		if _, err := p.b.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %v, want EOF", err)
		}
		// Half closed still: what is sent now meets nobody, and a reset says so.
		write(t, p.b, 1)
		time.Sleep(time.Second)
		if _, err := p.b.Write([]byte{1}); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write to who is gone: %v, want EPIPE", err)
		}
		if _, err := p.b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read from who is gone: %v, want ECONNRESET", err)
		}
	})
}

func TestCloseWakesWhoWaits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPair(t, Link{}, Link{})
		var g sync.WaitGroup
		g.Go(func() {
			if _, err := p.a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("reader got %v", err)
			}
		})
		g.Go(func() {
			if _, err := p.a.Write(make([]byte, 1<<20)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("writer got %v", err)
			}
		})
		g.Go(func() {
			if _, err := p.l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("acceptor got %v", err)
			}
		})
		synctest.Wait()
		p.a.Close()
		p.l.Close()
		g.Wait()
	})
}

func TestHalfClosedStreamsGoOnTheOtherWay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPair(t, Link{}, Link{})
		if err := p.a.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := p.b.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %v, want EOF", err)
		}
		var g sync.WaitGroup
		g.Go(func() {
			write(t, p.b, 1<<20)
			p.b.Close()
		})
		got, err := io.ReadAll(p.a)
		if len(got) != 1<<20 || err != nil {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		g.Wait()
		if n := len(p.ha.conns) + len(p.hb.conns); n != 0 {
			t.Errorf("%d ends of a closed connection are kept", n)
		}
	})
}

func TestCloseWithUnreadBytesResets(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPair(t, Link{}, Link{})
		write(t, p.b, 10)
		time.Sleep(time.Second)
		p.a.Close()
		time.Sleep(time.Second)
		if _, err := p.b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want ECONNRESET", err)
		}
	})
}

func TestResetsReachTheOtherEndBehindTheData(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPair(t, Link{Latency: 10 * time.Millisecond}, Link{})
		write(t, p.a, 1000)
		time.Sleep(time.Microsecond) // what was written leaves
		p.a.Reset()
		readN(t, p.b, 1000)
		if _, err := p.b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want ECONNRESET", err)
		}
		a2, b2 := p.connect(t)
		p.hb.ResetAll()
		for _, c := range []*Conn{a2, b2} {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %v, want ECONNRESET", err)
			}
		}
	})
}

func TestConnectionsAreResetAboutAsOftenAsAsked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPair(t, Link{ResetEvery: 100_000}, Link{})
		total := 0
		for range 200 {
			a, b := p.connect(t)
			var g sync.WaitGroup
			g.Go(func() { a.Write(make([]byte, 2_000_000)) })
			got, err := io.ReadAll(b)
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("got %v after %d bytes, want ECONNRESET", err, len(got))
			}
			total += len(got)
			g.Wait()
		}
		if mean := total / 200; mean < 70_000 || mean > 130_000 {
			t.Errorf("resets after %d bytes on average, want about 100000", mean)
		}
	})
}

func TestWhereNobodyListensIsRefusedAndNoHostIsSilent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := New(1)
		a, b := n.Host(ip(1), Link{Latency: 50 * time.Millisecond}), n.Host(ip(2), Link{})
		start := time.Now()
		_, err := a.Dial(t.Context(), netip.AddrPortFrom(b.Addr(), 1))
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v, want ECONNREFUSED", err)
		}
		between(t, "refusal", time.Since(start), 100*time.Millisecond, 100*time.Millisecond+2*time.Microsecond)

		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		start = time.Now()
		_, err = a.Dial(ctx, netip.AddrPortFrom(ip(3), 1))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want a deadline", err)
		}
		between(t, "silence", time.Since(start), 7*time.Second, 7*time.Second)
	})
}

func TestPortsAreGivenOutOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := New(1).Host(ip(1), Link{})
		l, err := h.Listen("0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Listen(l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("got %v, want EADDRINUSE", err)
		}
		if _, err := h.Listen("10.0.0.9:1"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("got %v, want EADDRNOTAVAIL", err)
		}
		for _, bad := range []string{"", "10.0.0.1", "x:1", ":70000"} {
			if _, err := h.Listen(bad); err == nil {
				t.Errorf("listens on %q", bad)
			}
		}
		l.Close()
		if _, err := h.Listen(l.Addr().String()); err != nil {
			t.Errorf("port is not free after close: %v", err)
		}
	})
}

func TestAFullBacklogDelaysTheDialUntilThereIsRoom(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPair(t, Link{}, Link{})
		addr := netip.AddrPortFrom(p.hb.Addr(), 6881)
		for range backlog {
			if _, err := p.ha.Dial(t.Context(), addr); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		time.Sleep(time.Second)
		start := time.Now()
		var g sync.WaitGroup
		g.Go(func() {
			if _, err := p.ha.Dial(t.Context(), addr); err != nil {
				t.Error(err)
			}
			// Its second try, after 1 + 2 s, is answered.
			between(t, "dial", time.Since(start), 3*time.Second, 3*time.Second+time.Millisecond)
		})
		time.Sleep(2 * time.Second)
		if _, err := p.l.Accept(); err != nil {
			t.Fatal(err)
		}
		g.Wait()
	})
}

func TestACutPathHoldsStreamsUntilItHeals(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPair(t, Link{Latency: 10 * time.Millisecond}, Link{})
		p.net.Cut(p.ha, p.hb)
		start := time.Now()
		write(t, p.a, 100_000)
		p.a.CloseWrite()
		// The other way is open.
		write(t, p.b, 1)
		readN(t, p.a, 1)
		between(t, "the open way", time.Since(start), 10*time.Millisecond, 11*time.Millisecond)

		p.b.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := p.b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a cut path let %d bytes through: %v", n, err)
		}
		p.b.SetReadDeadline(time.Time{})
		p.net.Heal(p.ha, p.hb)
		got, err := io.ReadAll(p.b)
		if len(got) != 100_000 || err != nil {
			t.Errorf("got %d bytes, %v after healing", len(got), err)
		}
		between(t, "all", time.Since(start), time.Minute, time.Minute+20*time.Millisecond)
	})
}

func TestDialsWaitForAnIsolatedHost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPair(t, Link{}, Link{})
		p.hb.Isolate()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.ha.Dial(ctx, netip.AddrPortFrom(p.hb.Addr(), 6881)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want a deadline", err)
		}
		var g sync.WaitGroup
		g.Go(func() {
			if _, err := p.ha.Dial(t.Context(), netip.AddrPortFrom(p.hb.Addr(), 6881)); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(10 * time.Second)
		p.hb.Rejoin()
		g.Wait()
		if _, err := p.l.Accept(); err != nil {
			t.Error(err)
		}
		// The attempt that was given up leaves nothing to accept.
		time.Sleep(time.Minute)
		if n := len(p.l.(*listener).queue); n != 0 {
			t.Errorf("%d connections nobody wants are in the backlog", n)
		}
	})
}

func TestDatagramsArriveWholeOrNotAtAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := New(1)
		ha := n.Host(ip(1), Link{Latency: 20 * time.Millisecond, Loss: 0.25})
		hb := n.Host(ip(2), Link{})
		a, err := ha.ListenPacket(t.Context(), "udp", ":1000")
		if err != nil {
			t.Fatal(err)
		}
		b, err := hb.ListenPacket(t.Context(), "udp", ":2000")
		if err != nil {
			t.Fatal(err)
		}
		const count = 1000
		got := 0
		for i := range count {
			msg := fmt.Appendf(nil, "datagram %d", i)
			start := time.Now()
			if _, err := a.WriteTo(msg, b.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			b.SetReadDeadline(time.Now().Add(time.Second))
			buf := make([]byte, 100)
			k, from, err := b.ReadFrom(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			if err != nil || !bytes.Equal(buf[:k], msg) || from.String() != "10.0.0.1:1000" {
				t.Fatalf("got %q from %v, %v", buf[:k], from, err)
			}
			between(t, "datagram", time.Since(start), 20*time.Millisecond, 20*time.Millisecond+time.Microsecond)
			got++
		}
		if got < count*70/100 || got > count*80/100 {
			t.Errorf("%d of %d arrived, want about 750", got, count)
		}
		n.Cut(ha, hb)
		for range 20 {
			a.WriteTo([]byte("x"), b.LocalAddr())
		}
		time.Sleep(time.Second)
		n.Heal(ha, hb)
		b.SetReadDeadline(time.Now().Add(time.Second))
		if _, _, err := b.ReadFrom(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a datagram outlived the cut: %v", err)
		}
		a.Close()
		b.Close()
		if _, _, err := b.ReadFrom(nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
	})
}

func TestDatagramsBeyondTheQueueAreLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := New(1)
		a, err := n.Host(ip(1), Link{Up: 1000}).ListenPacket(t.Context(), "udp", ":1")
		if err != nil {
			t.Fatal(err)
		}
		b, err := n.Host(ip(2), Link{}).ListenPacket(t.Context(), "udp", ":2")
		if err != nil {
			t.Fatal(err)
		}
		a.WriteTo(make([]byte, 100), b.LocalAddr())
		start := time.Now()
		time.Sleep(time.Millisecond) // it is on the link
		for range 3 * maxDatagrams {
			a.WriteTo(make([]byte, 100), b.LocalAddr())
		}
		got := 0
		for {
			b.SetReadDeadline(time.Now().Add(time.Minute))
			if _, _, err := b.ReadFrom(make([]byte, 100)); err != nil {
				break
			}
			got++
			between(t, "datagram", time.Since(start), 0, time.Duration(maxDatagrams+1)*100*time.Millisecond+time.Millisecond)
		}
		if got != maxDatagrams+1 { // one was on the link
			t.Errorf("%d arrived, want %d", got, maxDatagrams+1)
		}
	})
}

// trace runs a little network of chatting hosts and returns a sum of all that
// they saw and when.
func trace(t *testing.T, seed uint64) (sum [20]byte) {
	synctest.Test(t, func(t *testing.T) {
		n := New(seed)
		const hosts = 6
		var hs [hosts]*Host
		var ls [hosts]net.Listener
		logs := make([][]byte, hosts*hosts*2) // one for each end, so that they need no order among them
		start := time.Now()
		for i := range hs {
			hs[i] = n.Host(ip(i+1), Link{
				// All alike, so that nothing but the network keeps them apart.
				Latency: 10 * time.Millisecond, Up: 100_000, Down: 300_000, ResetEvery: 100_000,
			})
			ls[i], _ = hs[i].Listen(":1")
		}
		var g sync.WaitGroup
		chat := func(i int, c net.Conn, first bool) {
			defer c.Close()
			buf := make([]byte, 3000)
			for k := range 20 {
				if first {
					if _, err := c.Write(buf[:500*(1+k%5)]); err != nil {
						break
					}
				}
				k, err := c.Read(buf)
				logs[i] = fmt.Appendf(logs[i], "%d %d %v\n", time.Since(start), k, err)
				if err != nil {
					break
				}
				first = true
			}
		}
		for i := range hs {
			g.Go(func() {
				for {
					c, err := ls[i].Accept()
					if err != nil {
						return
					}
					from := netip.MustParseAddrPort(c.RemoteAddr().String()).Addr().As4()[3]
					g.Go(func() { chat(hosts*hosts+i*hosts+int(from)-1, c, false) })
				}
			})
			g.Go(func() {
				for j := range hs { // all at one moment, in any order
					if j == i {
						continue
					}
					g.Go(func() {
						if c, err := hs[i].Dial(t.Context(), netip.AddrPortFrom(ip(j+1), 1)); err == nil {
							chat(i*hosts+j, c, true)
						}
					})
				}
			})
		}
		time.Sleep(time.Second)
		hs[3].Isolate()
		time.Sleep(time.Second)
		hs[3].Rejoin()
		time.Sleep(time.Hour)
		for _, l := range ls {
			l.Close()
		}
		for _, h := range hs {
			h.ResetAll()
		}
		g.Wait()
		sum = sha1.Sum(bytes.Join(logs, nil))
	})
	return sum
}

func TestOneSeedGivesOneTrace(t *testing.T) {
	seen := map[[20]byte]uint64{}
	for seed := range uint64(3) {
		want := trace(t, seed)
		for range 3 {
			if got := trace(t, seed); got != want {
				t.Errorf("seed %d: two runs differ", seed)
			}
		}
		if other, ok := seen[want]; ok {
			t.Errorf("seeds %d and %d give the same trace", seed, other)
		}
		seen[want] = seed
	}
}

func TestWhoWritesAtOneMomentHasNoOrder(t *testing.T) {
	traces := map[uint64]bool{}
	for range 30 {
		inBubble(t, func(t *testing.T) {
			p := newPair(t, Link{Latency: time.Millisecond, Up: 100_000}, Link{})
			var g sync.WaitGroup
			for range 10 {
				a, b := p.connect(t)
				g.Go(func() {
					time.Sleep(time.Until(time.Date(2000, 1, 1, 0, 1, 0, 0, time.UTC)))
					write(t, a, 5000)
				})
				g.Go(func() { readN(t, b, 5000) })
			}
			g.Wait()
			traces[p.net.Trace()] = true
			p.ha.ResetAll()
		})
	}
	if len(traces) != 1 {
		t.Errorf("%d traces of one seed", len(traces))
	}
}

func TestTheNetworkRunsInRealTimeToo(t *testing.T) {
	p := newPair(t, Link{Latency: time.Millisecond, Up: 100 << 20}, Link{})
	var g sync.WaitGroup
	g.Go(func() {
		write(t, p.a, 1<<20)
		p.a.Close()
	})
	got, err := io.ReadAll(p.b)
	if len(got) != 1<<20 || err != nil {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	g.Wait()
}

func BenchmarkStream(b *testing.B) {
	n := New(1)
	ha, hb := n.Host(ip(1), Link{Latency: time.Microsecond}), n.Host(ip(2), Link{})
	l, err := hb.Listen(":1")
	if err != nil {
		b.Fatal(err)
	}
	var g sync.WaitGroup
	defer g.Wait()
	g.Go(func() {
		c, err := l.Accept()
		if err == nil {
			io.Copy(io.Discard, c)
		}
	})
	c, err := ha.Dial(b.Context(), netip.AddrPortFrom(hb.Addr(), 1))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 16<<10)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		c.Write(buf)
	}
}
