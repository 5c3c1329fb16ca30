package cache

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxOpenFiles bounds the files that [Files] keeps open. Readers at work may
// need a few more for the moment.
const maxOpenFiles = 64

// Extent is a part of a volume that lies in a file, from the file's start on.
type Extent struct {
	// Path of the file. Not used for zeros.
	Path string
	// Offset in the volume, and Length, in bytes.
	Offset, Length int64
	// Zero: the bytes are zero and there is no file (BEP 47: padding).
	Zero bool
}

// Files is a read-only volume over existing files. A piece can be read when
// [Files.Verify] has found it right.
type Files struct {
	// Set at start, read-only after.
	geometry Geometry
	extents  []Extent // by offset, none empty
	fds      fdCache

	mu       sync.Mutex
	held     bitmap
	onEvict  func(piece int)
	checking atomic.Bool
}

// OpenFiles makes a volume of extents, which must cover it without overlap.
// The files are opened when they are read; one that is missing or too short
// makes its pieces missing. Close gives the open files back.
func OpenFiles(extents []Extent, g Geometry) (*Files, error) {
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("open files: %w", err)
	}
	f := &Files{geometry: g, held: newBitmap(g.NumPieces())}
	for _, e := range extents {
		if e.Length < 0 || e.Offset < 0 {
			return nil, fmt.Errorf("open files: %s has a negative range", e.Path)
		}
		if e.Length > 0 {
			f.extents = append(f.extents, e)
		}
	}
	sort.SliceStable(f.extents, func(i, j int) bool { return f.extents[i].Offset < f.extents[j].Offset })
	var end int64
	for _, e := range f.extents {
		if e.Offset != end || e.Length > g.Length-end {
			return nil, fmt.Errorf("open files: %s begins at %d, not at %d, or ends beyond %d", e.Path, e.Offset, end, g.Length)
		}
		end += e.Length
	}
	if end != g.Length {
		return nil, fmt.Errorf("open files: extents end at %d, not at %d", end, g.Length)
	}
	f.fds.open = make(map[string]*fd)
	return f, nil
}

// Close closes the files. Reads under way end first.
func (f *Files) Close() error { return f.fds.close() }

// Pieces returns the pieces found right so far; bit i%64 of word i/64 is
// piece i.
func (f *Files) Pieces() []uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held.clone()
}

// Has says whether a piece was found right.
func (f *Files) Has(piece int) bool {
	if f.geometry.PieceSize(piece) == 0 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held.has(piece)
}

// Notify sets the function that is told of pieces whose files went away. It is
// called by the goroutine whose ReadAt found that. onRoom is never called.
func (f *Files) Notify(onEvict func(piece int), _ func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onEvict = onEvict
}

// Draft returns [ErrReadOnly].
func (f *Files) Draft(int, bool) (*Draft, error) { return nil, ErrReadOnly }

// Peek is ReadAt: nothing here is evicted.
func (f *Files) Peek(piece int, p []byte, off int) (int, error) { return f.ReadAt(piece, p, off) }

// ReadAt copies from a piece, from off on, and returns how many bytes: fewer
// than len(p) only at the end of the piece. The error is [ErrMissing] when the
// piece was not found right, or its file has gone or shrunk since.
func (f *Files) ReadAt(piece int, p []byte, off int) (int, error) {
	size := f.geometry.PieceSize(piece)
	if size == 0 || off < 0 || off > size {
		return 0, fmt.Errorf("read %d bytes at %d of piece %d: out of range", len(p), off, piece)
	}
	if !f.Has(piece) {
		return 0, ErrMissing
	}
	p = p[:min(len(p), size-off)]
	if err := f.read(p, int64(piece)*f.geometry.PieceLength+int64(off)); err != nil {
		if errors.Is(err, ErrClosed) {
			return 0, err
		}
		f.gone(piece)
		return 0, ErrMissing
	}
	return len(p), nil
}

func (f *Files) gone(piece int) {
	f.mu.Lock()
	was, tell := f.held.has(piece), f.onEvict
	f.held.clear(piece)
	f.mu.Unlock()
	if was && tell != nil {
		tell(piece)
	}
}

// read fills p from the extents.
func (f *Files) read(p []byte, at int64) error {
	i := sort.Search(len(f.extents), func(i int) bool { return f.extents[i].Offset+f.extents[i].Length > at })
	for ; len(p) > 0; i++ {
		e := f.extents[i]
		n := int(min(int64(len(p)), e.Offset+e.Length-at))
		if e.Zero {
			clear(p[:n])
		} else if err := f.fds.readAt(e.Path, at-e.Offset, p[:n]); err != nil {
			return err
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}

// Verify hashes all pieces with so many goroutines at once (at least one) and
// makes the right ones readable. found, which may be nil, is told of every
// piece, in no order, by one goroutine at a time. It ends early with the
// context's error. Only one Verify may run at a time.
func (f *Files) Verify(ctx context.Context, workers int, found func(piece int, ok bool)) error {
	if !f.checking.CompareAndSwap(false, true) {
		return errors.New("verify files: already under way")
	}
	defer f.checking.Store(false)
	var next atomic.Int64
	var tell sync.Mutex
	var group sync.WaitGroup
	for range min(max(workers, 1), max(f.geometry.NumPieces(), 1)) {
		group.Go(func() {
			buf := make([]byte, 256<<10)
			for ctx.Err() == nil {
				piece := int(next.Add(1) - 1)
				if piece >= f.geometry.NumPieces() {
					return
				}
				ok := f.verify(piece, buf)
				if found != nil {
					tell.Lock()
					found(piece, ok)
					tell.Unlock()
				}
			}
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("verify files: %w", context.Cause(ctx))
	}
	return nil
}

func (f *Files) verify(piece int, buf []byte) bool {
	h := sha1.New()
	size := f.geometry.PieceSize(piece)
	at := int64(piece) * f.geometry.PieceLength
	ok := true
	for off := 0; ok && off < size; {
		p := buf[:min(len(buf), size-off)]
		ok = f.read(p, at+int64(off)) == nil
		h.Write(p)
		off += len(p)
	}
	ok = ok && bytes.Equal(h.Sum(nil), f.geometry.sum(piece))
	if !ok {
		f.gone(piece)
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held.set(piece)
	return true
}

// fdCache keeps the files open that were used last. No system call is made
// with its lock held.
type fdCache struct {
	mu     sync.Mutex
	open   map[string]*fd
	clock  uint64
	closed bool
	users  sync.WaitGroup
}

type fd struct {
	file *os.File
	used uint64 // clock of the last use
	refs int
	gone bool // forgotten while it was in use
}

// readAt fills buffers, one after the other, from a file at an offset.
func (c *fdCache) readAt(path string, off int64, bufs ...[]byte) error {
	e, err := c.get(path)
	if err != nil {
		return err
	}
	defer c.put(path, e)
	for len(bufs) > 0 {
		n, err := preadv(e.file, bufs, off)
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		off += int64(n)
		for len(bufs) > 0 && n >= len(bufs[0]) { // a read may end early
			n -= len(bufs[0])
			bufs = bufs[1:]
		}
		if n > 0 {
			bufs[0] = bufs[0][n:]
		}
	}
	return nil
}

func preadv(f *os.File, bufs [][]byte, off int64) (int, error) {
	for {
		n, err := unix.Preadv(int(f.Fd()), bufs, off)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// readFull fills p from a file at an offset.
func readFull(f *os.File, off int64, p []byte) error {
	for len(p) > 0 {
		n, err := preadv(f, [][]byte{p}, off)
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", f.Name(), err)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// willNeed lets the kernel begin to read a part of a file. It is advice.
func (c *fdCache) willNeed(path string, off, length int64) {
	e, err := c.get(path)
	if err != nil {
		return
	}
	defer c.put(path, e)
	_ = unix.Fadvise(int(e.file.Fd()), off, length, unix.FADV_WILLNEED)
}

func (c *fdCache) get(path string) (*fd, error) {
	if e, err := c.look(path, nil); e != nil || err != nil {
		return e, err
	}
	file, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	e, err := c.look(path, file)
	if err != nil || e.file != file {
		file.Close() // somebody else was quicker
	}
	return e, err
}

// look returns an open file, or enters one.
func (c *fdCache) look(path string, file *os.File) (*fd, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	e := c.open[path]
	if e == nil {
		if file == nil {
			return nil, nil
		}
		e = &fd{file: file}
		c.open[path] = e
	}
	c.clock++
	e.used = c.clock
	e.refs++
	c.users.Add(1)
	return e, nil
}

func (c *fdCache) put(path string, e *fd) {
	c.mu.Lock()
	e.refs--
	var old *os.File
	switch {
	case e.gone && e.refs == 0:
		old = e.file
	case len(c.open) > maxOpenFiles:
		old = c.oldest()
	}
	c.mu.Unlock()
	c.users.Done()
	if old != nil {
		old.Close()
	}
}

// oldest takes the file out that was not used for longest.
func (c *fdCache) oldest() *os.File {
	var at string
	var found *fd
	for path, e := range c.open {
		if e.refs == 0 && (found == nil || e.used < found.used) {
			at, found = path, e
		}
	}
	if found == nil {
		return nil
	}
	delete(c.open, at)
	return found.file
}

// forget has all files opened anew: others have their names now.
func (c *fdCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path := range c.open {
		c.drop(path)
	}
}

// forgetPath has the file of that name opened anew.
func (c *fdCache) forgetPath(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(path)
}

// drop takes a file out; who is at work with it closes it. The lock is held.
func (c *fdCache) drop(path string) {
	e := c.open[path]
	if e == nil {
		return
	}
	delete(c.open, path)
	if e.gone = e.refs > 0; !e.gone {
		_ = e.file.Close() // it was only read
	}
}

// forgetOne has a file that is in use opened anew from now on.
func (c *fdCache) forgetOne(path string, e *fd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[path] == e {
		c.drop(path)
	}
}

func (c *fdCache) close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.users.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for path, e := range c.open {
		err = errors.Join(err, e.file.Close())
		delete(c.open, path)
	}
	return err
}
