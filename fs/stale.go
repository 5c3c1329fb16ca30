package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A MountError says why nothing was mounted, and what to do about it. Its text
// is one line for the user.
type MountError struct {
	Dir    string
	Cause  string
	Remedy string
	Err    error // what the system said, or nil
}

func (e *MountError) Error() string {
	return fmt.Sprintf("mount on %s: %s: %s", e.Dir, e.Cause, e.Remedy)
}

// Unwrap returns the system's error, if there was one.
func (e *MountError) Unwrap() error { return e.Err }

const (
	// subtype is what follows "fuse." in the mount table: updatedb's PRUNEFS
	// and our own check for left-over mounts go by it.
	subtype = "swarmfs"
	// maxStale bounds how many dead mounts on one directory are removed.
	maxStale = 64
	// probeTimeout bounds asking a mount whether it is alive: a stopped server
	// (SIGSTOP) never answers.
	probeTimeout = 2 * time.Second
)

// prepareMountpoint returns dir as the absolute path without symbolic links
// that the mount table will show, after removing what a crashed swarmfs left
// mounted there. Any other reason not to mount is a *MountError.
func prepareMountpoint(dir string) (string, error) {
	abs, err := resolveMountpoint(dir)
	if err != nil {
		return "", err
	}
	for range maxStale {
		mounts, err := mountsAt(abs)
		if err != nil {
			return "", &MountError{abs, "the mount table cannot be read (" + err.Error() + ")", "mount /proc", err}
		}
		if len(mounts) == 0 {
			return abs, checkDirectory(abs)
		}
		top := mounts[len(mounts)-1]
		if !strings.HasPrefix(top.fstype, "fuse") {
			return abs, checkDirectory(abs) // an empty directory that happens to be a mountpoint
		}
		dead, err := probe(abs)
		switch {
		case top.fstype != "fuse."+subtype:
			return "", &MountError{
				abs, "it is occupied by a mount of " + top.fstype,
				"unmount it with `fusermount3 -u " + abs + "`, or choose another directory", nil,
			}
		case err != nil:
			return "", &MountError{
				abs, "a swarmfs is mounted there and does not answer",
				"end that process, or unmount it with `fusermount3 -uz " + abs + "`", err,
			}
		case !dead:
			return "", &MountError{
				abs, "a running swarmfs is mounted there",
				"unmount it with `fusermount3 -u " + abs + "`, or choose another directory", nil,
			}
		}
		if err := detach(abs); err != nil {
			return "", &MountError{
				abs, "the mount that a crashed swarmfs left there cannot be removed (" + err.Error() + ")",
				"run `fusermount3 -uz " + abs + "` as the user who mounted it", err,
			}
		}
	}
	return "", &MountError{abs, "too many dead mounts are stacked there", "run `umount -l " + abs + "` until it is gone", nil}
}

// resolveMountpoint makes dir absolute and free of symbolic links without
// touching a dead mount more than needed.
func resolveMountpoint(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", &MountError{dir, err.Error(), "give an absolute path", err}
	}
	real, err := filepath.EvalSymlinks(abs)
	if err == nil {
		return real, nil
	}
	if errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED) {
		// The last element itself is a dead mount.
		if parent, perr := filepath.EvalSymlinks(filepath.Dir(abs)); perr == nil {
			return filepath.Join(parent, filepath.Base(abs)), nil
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		return "", &MountError{abs, "the directory does not exist", "create it with `mkdir -p " + abs + "`", err}
	}
	return "", &MountError{abs, cause(err), "choose an empty directory of yours", err}
}

// checkDirectory refuses what is not an empty directory.
func checkDirectory(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return &MountError{dir, cause(err), "choose an empty directory of yours", err}
	}
	defer f.Close()
	names, err := f.Readdirnames(1)
	if len(names) > 0 {
		return &MountError{dir, "the directory is not empty", "choose an empty one: a mount would hide what is in it", nil}
	}
	if errors.Is(err, unix.ENOTDIR) {
		return &MountError{dir, "it is not a directory", "choose an empty directory", err}
	}
	return nil
}

// cause is the reason in err without the path and call that os puts before it.
func cause(err error) string {
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// probe asks the server of the mount on dir for a sign of life. An error means
// that it neither answered nor is gone.
func probe(dir string) (dead bool, err error) {
	answer := make(chan error, 1)
	go func() { // ends with the answer; a server that is stopped keeps it, in a process about to fail
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			// statfs is answered without the server to other users than the
			// one who mounted it; reading the directory is not.
			var f *os.File
			if f, err = os.Open(dir); err == nil {
				f.Close()
			}
		}
		answer <- err
	}()
	select {
	case err = <-answer:
	case <-time.After(probeTimeout):
		return false, errors.New("no answer within " + probeTimeout.String())
	}
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED), nil
}

// detach takes the topmost mount on dir out of the tree, busy or not.
func detach(dir string) error {
	if os.Geteuid() == 0 {
		if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err == nil {
			return nil
		}
	}
	return unmountByHelper("-uz", dir)
}
