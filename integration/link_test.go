package integration

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// link is the way between a seeder and everybody else: a TCP proxy that delays
// and shapes in user space, because not every kernel has netem. It differs from
// a real link in that nothing is lost, and in its queue: what waits for a slow
// link waits in the buffers of the two sockets before it (linkBuffer each).
type link struct {
	delay time.Duration // one way
	rate  int64         // bytes a second out of the seeder, all connections together; 0: no bound
}

var links atomic.Int32

// start opens the link to a seeder at target and returns where it is reached
// from then on: an address of its own, as if the seeder had moved. The link
// ends with the test.
func (l link) start(t testing.TB, target string) string {
	t.Helper()
	i := links.Add(1)
	ip := fmt.Sprintf("10.77.%d.%d", 240+i/250, i%250+1)
	if err := ipBatch("", "addr add "+ip+"/16 dev br0"); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, "6881"))
	if err != nil {
		t.Fatal(err)
	}
	up := &uplink{rate: l.rate}
	var conns sync.WaitGroup
	stop := make(chan struct{})
	conns.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			conns.Go(func() { l.serve(client, target, up, stop) })
		}
	})
	t.Cleanup(func() {
		close(stop)
		listener.Close()
		conns.Wait()
		if err := ipBatch("", "addr del "+ip+"/16 dev br0"); err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func (l link) serve(client net.Conn, target string, up *uplink, stop <-chan struct{}) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	if l.rate > 0 {
		dialer.Control = func(_, _ string, conn syscall.RawConn) (err error) {
			// Before it connects, or a larger window has been promised already.
			failed := conn.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, linkBuffer/2) // the kernel doubles it
			})
			return errors.Join(failed, err)
		}
	}
	seeder, err := dialer.Dial("tcp", target)
	if err != nil {
		client.Close()
		return
	}
	l.relay(client, seeder, up, stop)
}

// linkBuffer bounds what one socket before a slow link holds. What a seeder's
// kernel has taken cannot be cancelled any more, and left alone it takes
// megabytes: seconds of a slow link, where real ones queue for a fraction.
const linkBuffer = 64 << 10

// boundSendBuffers does the seeder's part, for all sockets of its node.
func (n *node) boundSendBuffers(t testing.TB) {
	t.Helper()
	set := fmt.Sprintf("echo 4096 16384 %d > /proc/sys/net/ipv4/tcp_wmem", linkBuffer)
	if out, err := n.command("sh", "-c", set).CombinedOutput(); err != nil {
		t.Fatalf("bound send buffers: %v: %s", err, out)
	}
}

// relay joins two connections until either ends, or stop is closed, and closes
// both.
func (l link) relay(client, seeder net.Conn, up *uplink, stop <-chan struct{}) {
	var pumps sync.WaitGroup
	ended := make(chan struct{}, 2)
	// A connection over the real link would cost a round trip before its first byte.
	pumps.Go(func() { pump(seeder, client, l.delay, 2*l.delay, &uplink{}); ended <- struct{}{} })
	pumps.Go(func() { pump(client, seeder, l.delay, 0, up); ended <- struct{}{} })
	select {
	case <-ended:
	case <-stop:
	}
	client.Close()
	seeder.Close()
	pumps.Wait()
}

// uplink hands out the times at which bytes have left. Safe for concurrent use.
type uplink struct {
	rate int64 // bytes a second; 0: no bound
	mu   sync.Mutex
	free time.Time // when everything taken so far has left
}

const (
	linkChunk = 16 << 10
	// linkGrain is how much time that a late timer lost an uplink may make up for.
	linkGrain = 10 * time.Millisecond
)

// chunk is how much of a stream passes at a time: 20 ms, so that a slow link
// trickles and is not a stream of bursts.
func (u *uplink) chunk() int64 {
	if u.rate == 0 {
		return linkChunk
	}
	return min(linkChunk, max(u.rate/50, 64))
}

// take waits until n more bytes have left.
func (u *uplink) take(n int) {
	if u.rate == 0 {
		return
	}
	u.mu.Lock()
	if earliest := time.Now().Add(-linkGrain); u.free.Before(earliest) {
		u.free = earliest
	}
	u.free = u.free.Add(time.Duration(n) * time.Second / time.Duration(u.rate))
	left := u.free
	u.mu.Unlock()
	time.Sleep(time.Until(left))
}

// pump copies src to dst until either fails: each byte leaves when the uplink
// has carried it, and arrives delay later. The first takes extra on top.
func pump(dst io.Writer, src io.Reader, delay, extra time.Duration, up *uplink) {
	type parcel struct {
		due  time.Time
		data []byte
	}
	// Enough for what is under way: 8 MiB.
	way := make(chan parcel, 8<<20/linkChunk)
	failed := make(chan struct{})
	var drain sync.WaitGroup
	drain.Go(func() {
		defer close(failed)
		for p := range way {
			time.Sleep(time.Until(p.due))
			if _, err := dst.Write(p.data); err != nil {
				return
			}
		}
	})
	notBefore := time.Now().Add(extra)
	for alive := true; alive; {
		data := make([]byte, up.chunk())
		n, err := src.Read(data)
		if n == 0 && err != nil {
			break
		}
		up.take(n)
		due := time.Now()
		if due.Before(notBefore) {
			due = notBefore
		}
		select {
		case way <- parcel{due.Add(delay), data[:n]}:
			alive = err == nil
		case <-failed:
			alive = false
		}
	}
	close(way)
	drain.Wait()
}

// What the links of the benchmarks do, to the millisecond, in virtual time.
func TestALinkDelaysAndShapes(t *testing.T) {
	const delay, rate, size = 20 * time.Millisecond, 1 << 20, 512 << 10
	synctest.Test(t, func(t *testing.T) {
		up := &uplink{rate: rate}
		stop := make(chan struct{})
		var all sync.WaitGroup
		began := time.Now()
		// Two connections share what the seeder can send.
		for range 2 {
			client, near := net.Pipe()
			far, seeder := net.Pipe()
			all.Go(func() { link{delay: delay, rate: rate}.relay(near, far, up, stop) })
			all.Go(func() {
				defer seeder.Close()
				if _, err := io.ReadFull(seeder, make([]byte, 1)); err != nil {
					t.Error(err)
				}
				between(t, "the request arrived", time.Since(began), 3*delay, 3*delay)
				if _, err := seeder.Write(make([]byte, size)); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() {
				if _, err := client.Write([]byte{1}); err != nil {
					t.Error(err)
				}
				if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
					t.Error(err)
				}
				between(t, "the first byte came back", time.Since(began), 4*delay, 4*delay+40*time.Millisecond)
				if _, err := io.ReadFull(client, make([]byte, size-1)); err != nil {
					t.Error(err)
				}
				between(t, "the last byte came back", time.Since(began),
					4*delay+time.Second-2*20*time.Millisecond, 4*delay+time.Second)
				if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("after the last byte: got %v, want %v", err, io.EOF)
				}
			})
		}
		all.Wait()
	})
}

// A link that nobody speaks on ends with its test.
func TestAnIdleLinkStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, near := net.Pipe()
		far, _ := net.Pipe()
		stop := make(chan struct{})
		time.AfterFunc(time.Hour, func() { close(stop) })
		began := time.Now()
		link{delay: time.Second}.relay(near, far, &uplink{}, stop)
		between(t, "the link ended", time.Since(began), time.Hour, time.Hour)
	})
}

// A link through real sockets: only what holds on a busy machine.
func TestALinkIsNeverFasterThanItsRate(t *testing.T) {
	requireNamespaces(t)
	t.Parallel()
	const delay, rate, size = 20 * time.Millisecond, 4 << 20, 1 << 20
	listener, err := net.Listen("tcp", net.JoinHostPort(hubIP, "0"))
	if err != nil {
		t.Fatal(err)
	}
	var seeder sync.WaitGroup
	defer seeder.Wait()
	defer listener.Close()
	seeder.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Error(err)
		}
		if _, err := conn.Write(make([]byte, size)); err != nil {
			t.Error(err)
		}
	})
	client, err := net.Dial("tcp", link{delay: delay, rate: rate}.start(t, listener.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	began := time.Now()
	if _, err := client.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, client)
	if n != size || err != nil {
		t.Errorf("got %d bytes and %v, want %d", n, err, size)
	}
	ideal := 4*delay + time.Duration(size)*time.Second/rate
	between(t, "all of it", time.Since(began), ideal-linkGrain, 10*time.Second)
}

func between(t testing.TB, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s after %v, want %v to %v", what, got, low, high)
	}
}
