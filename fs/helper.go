package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// helperTimeout bounds a run of fusermount3.
const helperTimeout = 5 * time.Second

// mountByHelper mounts for a user who is not root and returns the descriptor of
// the connection, which fusermount3 sends over a socket. (go-fuse does the same,
// but lets the helper print its complaints to our standard error.)
func mountByHelper(dir string, o *fuse.MountOptions) (fd int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, &MountError{dir, "no socket for fusermount3 (" + err.Error() + ")", "raise the limit of open files", err}
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "fusermount3"), os.NewFile(uintptr(pair[1]), "fusermount3")
	defer ours.Close()
	defer theirs.Close()
	options := append([]string{
		"fsname=" + escapeOption(o.FsName), "subtype=" + o.Name, fmt.Sprintf("max_read=%d", o.MaxWrite),
	}, o.Options...)
	if o.AllowOther {
		options = append(options, "allow_other")
	}
	if err := runHelper([]*os.File{theirs}, "-o", strings.Join(options, ","), "--", dir); err != nil {
		return -1, &MountError{dir, err.Error(), "mount on a directory of yours, or as root", err}
	}
	if fd, err = receiveDescriptor(pair[0]); err != nil {
		return -1, &MountError{dir, "fusermount3 sent no connection (" + err.Error() + ")", "reinstall the package fuse3", err}
	}
	return fd, nil
}

// receiveDescriptor takes a descriptor from a socket (unix(7), SCM_RIGHTS).
func receiveDescriptor(socket int) (int, error) {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return -1, errors.New("no control message")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.New("no descriptor")
	}
	return fds[0], nil
}

// escapeOption protects what separates mount options.
func escapeOption(s string) string {
	return strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace(s)
}

// unmountByHelper runs fusermount3 with -u, or -uz to detach.
func unmountByHelper(flag, dir string) error { return runHelper(nil, flag, "--", dir) }

// runHelper runs fusermount3, setuid root. files are passed to it from number
// 3 on. The error is its own complaint, on one line.
func runHelper(files []*os.File, args ...string) error {
	bin, err := fusermountPath()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), helperTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.WaitDelay = time.Second
	cmd.ExtraFiles = files
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	out, err := cmd.CombinedOutput()
	if text := strings.TrimSpace(string(out)); err != nil && text != "" {
		text = strings.TrimPrefix(text, bin+": ")
		return errors.New(strings.ReplaceAll(text, "\n", "; "))
	}
	return err
}

// fusermountPath finds the helper, also with an empty PATH.
func fusermountPath() (string, error) {
	for _, name := range []string{"fusermount3", "/bin/fusermount3", "fusermount", "/bin/fusermount"} {
		if bin, err := exec.LookPath(name); err == nil {
			return bin, nil
		}
	}
	return "", errors.New("fusermount3 is not installed")
}
