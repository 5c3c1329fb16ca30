package swarm

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAckEndsDelayedAcknowledgements(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	quick := func() (on int) {
		t.Helper()
		err := raw.Control(func(fd uintptr) { on, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK) })
		if err != nil {
			t.Fatal(err)
		}
		return on
	}
	if err := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0) }); err != nil {
		t.Fatal(err)
	}
	if quick() != 0 {
		t.Fatal("the kernel acknowledges at once already")
	}
	a := newAcker(c)
	a.ack()
	if quick() != 1 {
		t.Error("acknowledgements are still held back")
	}
	if n := testing.AllocsPerRun(100, a.ack); n > 0 {
		t.Errorf("%v allocations", n)
	}
	newAcker(nil).ack() // a connection that is not TCP
}
