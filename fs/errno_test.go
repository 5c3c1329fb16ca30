package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEveryErrorHasAnAnswer(t *testing.T) {
	for _, c := range []struct {
		err   error
		errno syscall.Errno
		quiet bool
	}{
		{errInterrupted, unix.EINTR, true},
		{errClosed, unix.EIO, true},
		{errTooMany, unix.EAGAIN, false},
		{ErrTimeout, unix.EIO, true},
		{ErrGone, unix.ESTALE, true},
		{context.DeadlineExceeded, unix.EIO, false},
		{io.ErrUnexpectedEOF, unix.EIO, false},
		{errors.New("anything"), unix.EIO, false},
		{unix.ENOSPC, unix.EIO, false}, // of a cache; it would mislead a reader
	} {
		for _, err := range []error{c.err, fmt.Errorf("read piece 7: %w", c.err)} {
			if errno, quiet := errnoOf(err); errno != c.errno || quiet != c.quiet {
				t.Errorf("%v: got %v, quiet %v, want %v, %v", err, errno, quiet, c.errno, c.quiet)
			}
		}
	}
}

// shortFile returns fewer bytes than asked, which the kernel would take for the
// end of the file.
type shortFile struct {
	n   int
	err error
}

func (f shortFile) ReadAt(context.Context, []byte, int64) (int, error) { return f.n, f.err }
func (f shortFile) Close() error                                       { return nil }

func TestAShortReadIsAnError(t *testing.T) {
	for _, c := range []struct {
		file shortFile
		want error
	}{
		{shortFile{10, nil}, nil},
		{shortFile{10, io.EOF}, nil},
		{shortFile{9, nil}, io.ErrUnexpectedEOF},
		{shortFile{9, io.EOF}, io.ErrUnexpectedEOF},
		{shortFile{9, ErrTimeout}, ErrTimeout},
		{shortFile{0, ErrGone}, ErrGone},
	} {
		s := New(Options{})
		err := s.fs.readFile(&handle{file: c.file}, nil, 0, make([]byte, 10), 0)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%+v: got %v, want %v", c.file, err, c.want)
		}
	}
}
