package fs

import (
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"syscall"
)

// What a File or a Torrent may return, wrapped or not, to choose the answer of
// the system call. Everything else is EIO.
var (
	// ErrTimeout: the data did not come in time, which whoever waited for it has
	// told the log. The reader gets EIO.
	ErrTimeout = errors.New("timed out waiting for data")
	// ErrGone: the torrent was removed. The reader gets ESTALE.
	ErrGone = errors.New("torrent was removed")
)

// errnos is searched in order.
var errnos = []struct {
	err   error
	errno syscall.Errno
	quiet bool // no line in the log: an ordinary end of a read, or who waited has said why
}{
	{errInterrupted, syscall.EINTR, true},
	{errClosed, syscall.EIO, true},
	// The number of waiting reads is bounded, so that they cannot take all
	// memory or all of the kernel's background requests. EAGAIN says what is
	// true: nothing is wrong with the file, and the same read may work later.
	{errTooMany, syscall.EAGAIN, false},
	{ErrGone, syscall.ESTALE, true},
	{iofs.ErrNotExist, syscall.ENOENT, true},
	{iofs.ErrPermission, syscall.EACCES, true},
	{ErrTimeout, syscall.EIO, true},
	{context.DeadlineExceeded, syscall.EIO, false},
	{context.Canceled, syscall.EINTR, true},
	{iofs.ErrClosed, syscall.EIO, true},
	{io.ErrUnexpectedEOF, syscall.EIO, false},
}

// errnoOf maps an error to the answer of the system call. quiet is false when
// the log should say why.
func errnoOf(err error) (errno syscall.Errno, quiet bool) {
	for _, e := range errnos {
		if errors.Is(err, e.err) {
			return e.errno, e.quiet
		}
	}
	return syscall.EIO, false
}
