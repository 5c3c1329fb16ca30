package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// readyEnv tells a daemon's process the descriptor on which its parent waits
// for the ready line. Its presence is what makes a process the daemon.
const readyEnv = "SWARMFS_READY_FD"

// maxLog is the size above which a daemon's log is put aside at the next start.
const maxLog = 10 << 20

// startDaemon runs this very command again in a session of its own, waits
// until it is ready, and hands on its ready line; or, if it ends before, its
// exit code. The daemon's error line has then gone to our standard error,
// which it shares until it is ready.
func startDaemon(ctx context.Context, std *streams, keepInput bool) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	defer ready.Close()

	cmd := exec.Command(program, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), readyEnv+"=3")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = std.err
	if keepInput {
		cmd.Stdin = std.in
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	// The daemon does not see a ^C on this terminal: pass it on.
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()

	line, err := io.ReadAll(io.LimitReader(ready, 64<<10))
	if err == nil && len(line) > 0 {
		_, err = std.out.Write(line)
		return err
	}
	err = cmd.Wait()
	var ended *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("start daemon: %w", ctx.Err())
	case errors.As(err, &ended) && ended.ExitCode() > 0:
		return &exitError{code: ended.ExitCode()} // it has said why
	case err != nil:
		return fmt.Errorf("start daemon: %w", err)
	default:
		return errors.New("start daemon: it ended before it was ready")
	}
}

// daemon is this process when it was started by startDaemon.
type daemon struct {
	ready *os.File
	log   *daemonLog
	// unlogged is why there is no log file, if so.
	unlogged error
}

// asDaemon returns nil in a process that runs in the foreground. The log goes
// to the file log in the data folder, and to the starter's terminal as well
// until the daemon is ready.
func asDaemon(std *streams, data string) *daemon {
	fd, err := strconv.Atoi(os.Getenv(readyEnv))
	if err != nil || fd < 3 {
		return nil
	}
	_ = os.Unsetenv(readyEnv) // fusermount3 and others need not know
	unix.CloseOnExec(fd)
	d := &daemon{ready: os.NewFile(uintptr(fd), "ready"), log: &daemonLog{terminal: std.err}}
	d.log.file, d.unlogged = openLog(data)
	return d
}

func openLog(data string) (*os.File, error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(data, "log")
	if st, err := os.Stat(path); err == nil && st.Size() > maxLog {
		_ = os.Rename(path, path+".old")
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// detach says that the daemon is ready and lets go of the starter's terminal
// and working directory. What Go's runtime prints when it dies goes to the log
// from here on.
func (d *daemon) detach(line string) error {
	d.log.leaveTerminal()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	defer null.Close()
	sink := null
	if d.log.file != nil {
		sink = d.log.file
	}
	for fd, f := range map[int]*os.File{0: null, 1: null, 2: sink} {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			return fmt.Errorf("detach: %w", err)
		}
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	_, err = fmt.Fprintln(d.ready, line)
	return errors.Join(err, d.ready.Close())
}

// daemonLog is where a daemon's log lines go.
type daemonLog struct {
	file *os.File // nil: there is none

	mu       sync.Mutex
	terminal io.Writer // nil once the starter has gone
}

func (l *daemonLog) Write(p []byte) (int, error) {
	if l.file != nil {
		// A full disk must not hide the line from a terminal that is still there.
		_, _ = l.file.Write(p)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.terminal != nil {
		return l.terminal.Write(p)
	}
	return len(p), nil
}

func (l *daemonLog) leaveTerminal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.terminal = nil
}
