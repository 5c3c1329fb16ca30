package swarm

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// acker acknowledges what a connection has received at once. The kernel waits up to
// 40 ms for data that the acknowledgement could ride on; a sender with Nagle's
// algorithm (RFC 896; libtorrent's sockets) holds the last, short segment of its
// blocks back for as long, and a read waits for it.
type acker struct {
	raw syscall.RawConn // nil: not a TCP connection
	set func(fd uintptr)
}

func newAcker(c net.Conn) acker {
	s, ok := socketOf(c).(syscall.Conn)
	if !ok {
		return acker{}
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return acker{}
	}
	return acker{raw: raw, set: func(fd uintptr) {
		// It only makes things quicker, so that it fails is no error.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	}}
}

// ack sends an acknowledgement that is held back. The option does not last (tcp(7)),
// so it is set again each time.
func (a acker) ack() {
	if a.raw != nil {
		_ = a.raw.Control(a.set)
	}
}
