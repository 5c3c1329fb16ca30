package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/time/rate"
)

// Options say how to mount. The zero value works.
type Options struct {
	// AllowOther lets other users in. For a user other than root it needs
	// user_allow_other in /etc/fuse.conf. Default: only the mounting user.
	AllowOther bool
	// FSName is the first column of df. Default "swarmfs".
	FSName string
	// XAttrs answers getxattr: user.swarmfs.infohash and user.swarmfs.path. It
	// makes `ls -l` of a large directory some ten times slower. Default off.
	XAttrs bool
	// BlockedReads is how many reads may wait for data at once; the next ones
	// fail with EAGAIN. Each holds a buffer of up to 128 KiB. Default and at
	// most 1024, a quarter of what the kernel may have under way for its page
	// cache, so that reads that need not wait always come through.
	BlockedReads int
	// Files returns the files of .swarmfs. It is called at every look at them
	// and may be called concurrently. Default none.
	Files func() []VirtualFile
	// Observe is told of every open, read and release of a file of a torrent,
	// just before it is answered: whoever asked still exists. It is called
	// concurrently and must not wait. Default none.
	Observe func(Access)
	// Logger gets what goes wrong, failed reads once in ten seconds. Default
	// slog.DiscardHandler.
	Logger *slog.Logger
}

// ErrExists is returned by Add for a torrent that is shown already.
var ErrExists = errors.New("torrent is mounted already")

// A Server shows torrents on a mountpoint. It is made by New or Mount and safe
// for concurrent use.
type Server struct {
	// Set at start, read-only after.
	opts    Options
	fs      *filesystem
	waiters *waiters

	closing, ending sync.Once
	done            chan struct{}

	mu    sync.Mutex
	mount *kernelMount // nil before Mount
}

// New returns a server that is not mounted yet, so that the first look at the
// mount already finds what was added before.
func New(o Options) *Server {
	if o.FSName == "" {
		o.FSName = "swarmfs"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.BlockedReads <= 0 || o.BlockedReads > maxBlockedReads {
		o.BlockedReads = maxBlockedReads
	}
	uid, gid, now := uint32(os.Getuid()), uint32(os.Getgid()), time.Now()
	w := &waiters{limit: int64(o.BlockedReads), quit: make(chan struct{}), look: lookAtCaller}
	return &Server{
		opts:    o,
		waiters: w,
		done:    make(chan struct{}),
		fs: &filesystem{
			readOnly: readOnly{fuse.NewDefaultRawFileSystem()},
			uid:      uid, gid: gid, started: now,
			control:  newControl(uid, gid, now, o.Files),
			handles:  handles{waiters: w, log: o.Logger, observe: o.Observe, complain: rate.Sometimes{First: 3, Interval: 10 * time.Second}, open: make(map[uint64]*handle)},
			branches: make(map[uint64]*branch),
			names:    make(map[string]*branch),
		},
	}
}

// Mount makes a server and mounts it on dir. Errors are *MountError.
func Mount(dir string, o Options) (*Server, error) {
	s := New(o)
	if err := s.Mount(dir); err != nil {
		return nil, err
	}
	return s, nil
}

// Mount mounts the server on dir, an existing empty directory. What a crashed
// swarmfs left mounted there is removed first. It is called at most once.
// Errors are *MountError; nothing is mounted then.
func (s *Server) Mount(dir string) error {
	abs, err := prepareMountpoint(dir)
	if err != nil {
		return err
	}
	return s.mountWith(abs, mountOptions(&s.opts, s.onPanic), readAheadKiB)
}

func (s *Server) mountWith(dir string, o *fuse.MountOptions, readAheadKiB int) error {
	m, err := mountKernel(dir, s.fs, o, s.opts.Logger)
	if err != nil {
		return err
	}
	m.raiseReadAhead(readAheadKiB)
	s.mu.Lock()
	s.mount = m
	s.mu.Unlock()
	m.serve.Go(func() {
		<-m.done
		s.end()
	})
	return nil
}

// end says that the mount is gone and fails the reads that still wait.
func (s *Server) end() {
	s.closing.Do(func() { close(s.waiters.quit) })
	s.ending.Do(func() { close(s.done) })
}

// onPanic answers a request whose handler had a bug.
func (s *Server) onPanic(v any) fuse.Status {
	s.opts.Logger.Error("request panicked", "panic", v, "stack", string(debug.Stack()))
	return fuse.EIO
}

// Done is closed when the mount is gone, whoever unmounted it, or when Close
// returned without an error.
func (s *Server) Done() <-chan struct{} { return s.done }

// Add shows a torrent under name, or under its own if name is empty, and
// returns the name it got: when that one is taken, part of the infohash is
// added, before the extension of a file. It is visible when Add returns. The
// error is ErrExists, or says what is wrong with the name.
func (s *Server) Add(t Torrent, name string) (shown string, err error) {
	info := t.Info()
	if name == "" {
		name = info.Name
	}
	if err := checkName(name); err != nil {
		return "", err
	}
	created := t.Created()
	if created.IsZero() {
		created = time.Now()
	}
	b := &branch{
		torrent: t, info: info, tree: info.Tree(),
		mtime: uint64(min(max(created.Unix(), 0), math.MaxInt32*2+1)),
	}
	if b.tree.Len() > maxEntries {
		return "", fmt.Errorf("add %q: more than %d entries", name, maxEntries)
	}
	if err := s.fs.add(b, name); err != nil {
		return "", fmt.Errorf("add %q: %w", name, err)
	}
	s.forgetName(b.name)
	return b.name, nil
}

// Remove hides a torrent. Files of it that are open stay so; what reading them
// gives is the Torrent's business. A name that is not shown is ignored.
func (s *Server) Remove(shown string) {
	if s.fs.remove(shown) {
		s.forgetName(shown)
	}
}

// forgetName makes the kernel look up a name in the root again. It must be
// called without a lock that a request may want.
func (s *Server) forgetName(name string) {
	s.mu.Lock()
	m := s.mount
	s.mu.Unlock()
	if m != nil {
		// ENOENT: the kernel never heard of it. The notification that deletes
		// would also mark the directory dead, and it may come back.
		_ = m.fuse.EntryNotify(rootID, name)
	}
}

// Close fails all waiting reads with EIO, unmounts, and waits for the server to
// end, all within ctx and about three seconds. A mount that is busy for two
// seconds is detached and its connection cut. The error says that the mount is
// still there. One that is gone from our tree but held elsewhere is no error:
// the end of the process is the end of it.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Do(func() { close(s.waiters.quit) })
	s.mu.Lock()
	m := s.mount
	s.mu.Unlock()
	if m != nil {
		if err := m.unmount(ctx); err != nil {
			return err
		}
		if m.ended() {
			m.serve.Wait()
		}
	}
	s.end()
	return nil
}
