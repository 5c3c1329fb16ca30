package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	device = "/dev/fuse"
	// maxRead is the largest READ the kernel may send, in bytes. From 128 KiB
	// to 1 MiB the CPU time a GiB costs is the same (BenchmarkSequentialRead);
	// a read that waits holds a buffer of this size, and none of its pages is
	// there before the last: one of 256 KiB that began in the middle of a piece
	// had a player wait for the next piece, too, for 64 KiB.
	maxRead = 128 << 10
	// readAheadKiB is how far the kernel reads ahead of a sequential reader.
	// At its default of 128 KiB a GiB costs half as much again. FUSE cannot
	// ask for more, only /sys can (root).
	readAheadKiB = 1024
	// maxBackground is how many READs of its page cache the kernel has under
	// way at once. At its default of 12 a dozen readers of missing pieces
	// freeze every other file of the mount.
	maxBackground = 4 * maxBlockedReads
	// maxBlockedReads is how many reads may wait at once: 256 MiB of buffers.
	// dd with a large block waits in four of them, most readers in one.
	maxBlockedReads = 1024
	// politeUnmount is how long Close waits for an unmount that the kernel
	// refuses because the mount is busy, before it detaches it.
	politeUnmount = 2 * time.Second
	// loopExit bounds waiting for the server to see that it was unmounted.
	loopExit = 500 * time.Millisecond
)

// A kernelMount is the mount as the kernel knows it.
type kernelMount struct {
	dir    string // absolute, no symbolic links
	device string // "major:minor"; empty if the mount table did not show it
	fuse   *fuse.Server
	log    *slog.Logger

	// Shared; safe for concurrent use.
	done  chan struct{} // closed when the kernel has let go of the mount
	serve sync.WaitGroup
}

// mountOptions are those of go-fuse for a mount of ours. Their reasons, where
// no constant above gives them:
//   - DisableSplice: replies come from memory; splicing them costs a pipe and
//     gives up above 1 MiB.
//   - default_permissions: the kernel checks modes, so it never sends ACCESS.
//   - never auto_unmount: the helper that stays behind makes go-fuse wait for
//     its exit for ever.
//   - MaxInflightRequestBytes stays unset: at its limit the mount freezes.
//   - CAP_EXPORT_SUPPORT: node IDs are stable, so file handles of NFS and
//     open_by_handle_at(2) outlive the kernel's caches.
func mountOptions(o *Options, onPanic func(any) fuse.Status) *fuse.MountOptions {
	return &fuse.MountOptions{
		FsName:                   o.FSName,
		Name:                     subtype,
		AllowOther:               o.AllowOther,
		Options:                  []string{"ro", "nosuid", "nodev", "default_permissions"},
		MaxWrite:                 maxRead,
		MaxReadAhead:             readAheadKiB << 10,
		MaxBackground:            maxBackground,
		CongestionThreshold:      maxBackground,
		DisableSplice:            true,
		ExplicitDataCacheControl: true,
		EnableSymlinkCaching:     true,
		DisableXAttrs:            !o.XAttrs,
		IgnoreSecurityLabels:     true,
		ExtraCapabilities:        fuse.CAP_EXPORT_SUPPORT,
		PanicHandler:             onPanic,
		Logger:                   slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
}

// mountKernel mounts raw on dir, which prepareMountpoint returned, and serves
// it. Errors are *MountError.
func mountKernel(dir string, raw fuse.RawFileSystem, o *fuse.MountOptions, log *slog.Logger) (*kernelMount, error) {
	if err := checkDevice(dir, o.AllowOther); err != nil {
		return nil, err
	}
	connect := mountByHelper
	if os.Geteuid() == 0 {
		connect = mountDirect
	}
	fd, err := connect(dir, o)
	if err != nil {
		return nil, err
	}
	// go-fuse takes over an open connection when it is called like this. (Its
	// own way of mounting as root leaves the descriptor open in child processes,
	// which keep a mount alive whose server has died.)
	server, err := fuse.NewServer(raw, fmt.Sprintf("/dev/fd/%d", fd), o)
	if err != nil {
		_ = detach(dir)
		return nil, &MountError{dir, "the kernel does not answer (" + strings.TrimSpace(err.Error()) + ")", "see what dmesg says", err}
	}
	m := &kernelMount{dir: dir, fuse: server, log: log, done: make(chan struct{})}
	if mounts, err := mountsAt(dir); err == nil && len(mounts) > 0 {
		m.device = mounts[len(mounts)-1].device
	}
	m.serve.Go(func() {
		defer close(m.done)
		server.Serve()
	})
	return m, nil
}

// checkDevice finds out beforehand what would make the mount fail without a
// useful message.
func checkDevice(dir string, allowOther bool) error {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return &MountError{
			dir, device + " does not exist",
			"load the kernel module with `modprobe fuse`, or give the container `--device /dev/fuse`", err,
		}
	case errors.Is(err, os.ErrPermission):
		return &MountError{
			dir, device + " may not be opened by this user",
			"run `chmod 666 /dev/fuse` as root, or give the container `--device /dev/fuse`", err,
		}
	case err != nil:
		return &MountError{
			dir, device + " cannot be opened (" + cause(err) + ")",
			"load the kernel module with `modprobe fuse`", err,
		}
	}
	f.Close()
	if os.Geteuid() == 0 {
		return nil
	}
	if _, err := fusermountPath(); err != nil {
		return &MountError{dir, err.Error(), "install the package fuse3, or mount as root", err}
	}
	if conf, err := os.ReadFile("/etc/fuse.conf"); allowOther && err == nil && !allowsOther(string(conf)) {
		return &MountError{
			dir, "other users may not be allowed in",
			"put a line `user_allow_other` into /etc/fuse.conf, or mount without that option", nil,
		}
	}
	return nil
}

// allowsOther reports whether the text of /etc/fuse.conf lets users mount with
// allow_other.
func allowsOther(conf string) bool {
	for line := range strings.Lines(conf) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}

// mountDirect mounts as root and returns the descriptor of the connection.
func mountDirect(dir string, o *fuse.MountOptions) (fd int, err error) {
	fd, err = unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &MountError{dir, device + " cannot be opened (" + err.Error() + ")", "load the kernel module with `modprobe fuse`", err}
	}
	data := fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d,max_read=%d,default_permissions",
		fd, unix.S_IFDIR, os.Geteuid(), os.Getegid(), o.MaxWrite)
	if o.AllowOther {
		data += ",allow_other"
	}
	err = unix.Mount(o.FsName, dir, "fuse."+o.Name, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, data)
	if err == nil {
		return fd, nil
	}
	unix.Close(fd)
	remedy := "see what dmesg says"
	if errors.Is(err, unix.EPERM) {
		remedy = "mounting needs CAP_SYS_ADMIN: give the container `--cap-add SYS_ADMIN` (and `--security-opt apparmor=unconfined`)"
	}
	return -1, &MountError{dir, "the kernel refuses the mount (" + err.Error() + ")", remedy, err}
}

// raiseReadAhead is best effort: without it READs are of 128 KiB, and slower.
func (m *kernelMount) raiseReadAhead(kib int) {
	if m.device == "" || os.Geteuid() != 0 {
		return
	}
	file := "/sys/class/bdi/" + m.device + "/read_ahead_kb"
	if err := os.WriteFile(file, fmt.Appendf(nil, "%d\n", kib), 0); err != nil {
		m.log.Debug("read-ahead of the mount not raised", "error", err)
	}
}

// unmount takes the mount out of the tree and waits until the server has seen
// it. It always returns: within ctx, and about three seconds. The error says
// that the mount is still there.
func (m *kernelMount) unmount(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, politeUnmount)
	defer cancel()
	err := m.unmountPolitely(ctx)
	if err != nil {
		m.log.Warn("mount is busy, detaching it", "dir", m.dir, "error", err)
		if err = m.unmountForcibly(); err != nil {
			return fmt.Errorf("unmount %s: %w", m.dir, err)
		}
	}
	if m.gone() {
		return nil
	}
	// A process inside it or a copy in another mount namespace holds it.
	m.abort()
	if !m.gone() {
		m.log.Warn("detached mount is still held by a process or a mount namespace; it ends with this process", "dir", m.dir)
	}
	return nil
}

// gone waits a moment for the server to see that the mount is gone.
func (m *kernelMount) gone() bool {
	select {
	case <-m.done:
		return true
	case <-time.After(loopExit):
		return false
	}
}

// ended reports whether the server has seen that the mount is gone.
func (m *kernelMount) ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// abort cuts the connection, if the file system for that is mounted.
func (m *kernelMount) abort() {
	_, minor, _ := strings.Cut(m.device, ":")
	_ = os.WriteFile("/sys/fs/fuse/connections/"+minor+"/abort", []byte("1"), 0)
}

// unmountPolitely tries until ctx is done. The kernel refuses with EBUSY as
// long as a file is open, which may be true for a moment after its last close.
func (m *kernelMount) unmountPolitely(ctx context.Context) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if !m.mounted() {
			return nil
		}
		var err error
		if os.Geteuid() == 0 {
			err = unix.Unmount(m.dir, unix.UMOUNT_NOFOLLOW)
		} else {
			err = unmountByHelper("-u", m.dir)
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-m.done:
			return nil
		case <-time.After(pause):
		}
	}
}

// unmountForcibly detaches the mount. MNT_FORCE also cuts the connection, so
// that every request under way fails and the server ends although a process
// still sits in the mount.
func (m *kernelMount) unmountForcibly() error {
	if !m.mounted() {
		return nil
	}
	if os.Geteuid() == 0 {
		return unix.Unmount(m.dir, unix.MNT_FORCE|unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	return detach(m.dir)
}

// mounted reports whether the topmost mount on the directory is ours.
func (m *kernelMount) mounted() bool {
	mounts, err := mountsAt(m.dir)
	if err != nil || m.device == "" {
		return true // not known: try
	}
	return len(mounts) > 0 && mounts[len(mounts)-1].device == m.device
}
