package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/time/rate"

	"swarmfs/metainfo"
)

// Torrent is what the tree is made of.
type Torrent interface {
	// Info never changes and is never nil.
	Info() *metainfo.Info
	// Created is the time shown for all its files; zero if not known.
	Created() time.Time
	// Open opens a file by its index in Info().Files. It must not wait for
	// the network. Errors may be ErrGone.
	Open(file int) (File, error)
}

// File is an open file of a torrent. Its methods are called concurrently.
type File interface {
	// ReadAt fills p from the file, which it never asks beyond its end, or
	// fails: n < len(p) makes the whole read an error, since the kernel takes
	// a short read for the end of the file. It calls ctx.Done only when it has
	// to wait, for that counts the read as a waiting one, and returns soon
	// after ctx is done. It must not keep ctx or p.
	ReadAt(ctx context.Context, p []byte, off int64) (n int, err error)
	// Close ends read-ahead for this handle. No ReadAt is running.
	Close() error
}

// handles are the open files.
type handles struct {
	// Set at start, read-only after.
	waiters *waiters
	log     *slog.Logger
	observe func(Access) // nil: nobody
	// Shared; safe for concurrent use.
	complain rate.Sometimes // guards log against a line a read

	mu   sync.RWMutex
	open map[uint64]*handle
	last uint64 // handle given out
}

// A handle is one open file.
type handle struct {
	// Set at start, read-only after.
	file    File   // nil: content is all
	content []byte // of a file in .swarmfs
	size    int64
	name    string // the path in the mount
	reads   waitSet
}

func (h *handles) add(x *handle) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	h.open[h.last] = x
	return h.last
}

func (h *handles) get(fh uint64) *handle {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.open[fh]
}

func (h *handles) remove(fh uint64) *handle {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.open[fh]
	delete(h.open, fh)
	return x
}

// fail logs what deserves it and returns the answer for the kernel.
func (h *handles) fail(what, name string, err error) fuse.Status {
	errno, quiet := errnoOf(err)
	if !quiet {
		h.complain.Do(func() {
			h.log.Warn(what, "file", name, "error", err, "answer", errno.Error())
		})
	}
	return fuse.Status(errno)
}

// Open is part of fuse.RawFileSystem.
func (f *filesystem) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	came := f.handles.came()
	if in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return fuse.EROFS
	}
	if in.NodeId < maxEntries {
		content, status := f.control.open(in.NodeId)
		if status.Ok() {
			out.Fh = f.handles.add(&handle{content: content, size: int64(len(content))})
			out.OpenFlags = fuse.FOPEN_DIRECT_IO // its size is not known beforehand
		}
		return status
	}
	b, n, ok := f.find(in.NodeId)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	i := b.tree.File(n)
	if i < 0 {
		return fuse.Status(syscall.EISDIR)
	}
	name := b.path(n)
	file, err := b.torrent.Open(i)
	if err != nil {
		return f.handles.fail("open failed", name, err)
	}
	size := b.info.Files[i].Length
	out.Fh = f.handles.add(&handle{file: file, size: size, name: name})
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE // pages of an infohash are right for ever
	f.handles.tell(Access{Op: OpOpen, Caller: in.Pid, Handle: out.Fh, Path: name, Length: size, Came: came})
	return fuse.OK
}

// Read is part of fuse.RawFileSystem. It is called for one handle concurrently,
// by the kernel's read-ahead.
func (f *filesystem) Read(interrupt <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	h := f.handles.get(in.Fh)
	if h == nil {
		return nil, fuse.EBADF
	}
	off := int64(min(in.Offset, uint64(h.size)))
	p := buf[:min(int64(len(buf)), h.size-off)]
	switch {
	case len(p) == 0:
	case h.file == nil:
		copy(p, h.content[off:])
	default:
		came := f.handles.came()
		err := f.readFile(h, interrupt, in.Caller.Pid, p, off)
		f.handles.tell(Access{Op: OpRead, Caller: in.Pid, Handle: in.Fh, Path: h.name, Offset: off, Length: int64(len(p)), Came: came})
		if err != nil {
			return nil, f.handles.fail("read failed", h.name, fmt.Errorf("at %d: %w", off, err))
		}
	}
	// A vector is written to the device with the header; a plain slice would
	// be copied.
	return fuse.ReadResultVector([][]byte{p}), fuse.OK
}

// readFile fills p or says why not.
func (f *filesystem) readFile(h *handle, interrupt <-chan struct{}, caller uint32, p []byte, off int64) error {
	w := wait{all: f.handles.waiters, owner: &h.reads, caller: caller, interrupt: interrupt}
	ended := false
	defer func() {
		if !ended { // a panic of the File
			w.end()
		}
	}()
	n, err := h.file.ReadAt(&w, p, off)
	ended = true
	cause := w.end()
	switch {
	case n == len(p):
		return nil
	case cause != nil:
		return cause
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// Flush is part of fuse.RawFileSystem. It comes with every close, also that of
// a process which is killed: its waiting reads are to end, those of another
// process with the same open file are not.
func (f *filesystem) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	if h := f.handles.get(in.Fh); h != nil {
		h.reads.nudgeAll()
	}
	return fuse.OK
}

// Release is part of fuse.RawFileSystem.
func (f *filesystem) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	came := f.handles.came()
	h := f.handles.remove(in.Fh)
	if h == nil || h.file == nil {
		return
	}
	if err := h.file.Close(); err != nil {
		f.handles.fail("close failed", h.name, err)
	}
	f.handles.tell(Access{Op: OpRelease, Caller: in.Pid, Handle: in.Fh, Path: h.name, Came: came})
}
