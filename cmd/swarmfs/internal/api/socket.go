package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketName is the socket in the data folder.
const socketName = "control.sock"

// maxSocketPath is what fits into a sockaddr_un with its final zero.
const maxSocketPath = 107

// reachable calls f with a path of the socket in dir that is short enough for
// the kernel, by way of an open directory if need be.
func reachable(dir string, f func(path string) error) error {
	path := filepath.Join(dir, socketName)
	if len(path) <= maxSocketPath {
		return f(path)
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return f("/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + socketName)
}

// listen makes the socket in dir, which the caller has locked: a socket that is
// there already belongs to a dead process and is replaced.
func listen(dir string) (*socket, error) {
	path := filepath.Join(dir, socketName)
	switch st, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("make control socket: %w", err)
	case st.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("make control socket: %s is something else", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("make control socket: %w", err)
		}
	}
	// bind gives the file the mode of the descriptor: it never is open to others.
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if cerr := raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); cerr != nil {
			return cerr
		}
		return err
	}}
	var l net.Listener
	err := reachable(dir, func(path string) error {
		var err error
		l, err = c.Listen(context.Background(), "unix", path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make control socket: %w", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // its path may be of a descriptor that is closed
	file, err := os.Lstat(path)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("make control socket: %w", err)
	}
	return &socket{l, path, file}, nil
}

// socket removes its file when it is closed.
type socket struct {
	net.Listener
	path string
	file os.FileInfo
}

// Close implements net.Listener. The file goes first, or it might be that of
// somebody who came after us. It stays if it is that of somebody else already:
// the folder may have been replaced.
func (s *socket) Close() error {
	var err error
	if now, serr := os.Lstat(s.path); serr == nil && os.SameFile(now, s.file) {
		err = os.Remove(s.path)
	}
	return errors.Join(err, s.Listener.Close())
}

// dial connects to the socket in dir.
func dial(ctx context.Context, dir string) (net.Conn, error) {
	var conn net.Conn
	err := reachable(dir, func(path string) error {
		var d net.Dialer
		var err error
		conn, err = d.DialContext(ctx, "unix", path)
		return err
	})
	return conn, err
}

// answers reports whether a living process has a socket in dir.
func answers(ctx context.Context, dir string) bool {
	conn, err := dial(ctx, dir)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was said
	return true
}
