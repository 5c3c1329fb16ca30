package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// children are what the test binary does when it is started again as a process
// that uses a mount: a process that serves a mount must not read from it.
var children = map[string]func(args []string) error{}

const (
	childEnv     = "SWARMFS_FS_TEST_CHILD"
	namespaceEnv = "SWARMFS_FS_TEST_NAMESPACE"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := children[name](os.Args[1:]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Geteuid() == 0 && os.Getenv(namespaceEnv) == "" {
		os.Exit(inNamespace())
	}
	goleak.VerifyTestMain(m)
}

// inNamespace runs the tests again in a mount namespace of their own. Otherwise
// any process of this machine that makes a namespace meanwhile would take
// copies of our mounts along and keep them alive.
func inNamespace() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), namespaceEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is that of the thread
	err := cmd.Run()
	if code := exitCode(err); code != 0 || err == nil {
		return code
	}
	fmt.Fprintln(os.Stderr, "make a mount namespace for the tests:", err)
	return 1
}

// needFUSE fails a test that cannot run here: a mount that is never tested is
// worth less than a red test.
func needFUSE(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Fatal("this test mounts a file system: run it as root")
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		tb.Fatalf("this test mounts a file system and needs %s: %v", device, err)
	}
	f.Close()
}

// mountFor mounts s in a directory of the test's own and unmounts it at its
// end, which must work.
func mountFor(tb testing.TB, s *Server) (dir string) {
	tb.Helper()
	needFUSE(tb)
	dir = mountpoint(tb)
	if err := s.Mount(dir); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			tb.Errorf("close: %v", err)
		}
		if m, _ := mountsAt(dir); len(m) > 0 {
			tb.Errorf("still mounted after close: %v", m)
		}
	})
	return dir
}

// mountpoint is a directory that is unmounted, whatever the test did, before
// it is removed.
func mountpoint(tb testing.TB) string {
	tb.Helper()
	dir, err := filepath.EvalSymlinks(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		for range 10 {
			if m, _ := mountsAt(dir); len(m) == 0 {
				return
			}
			_ = detach(dir)
		}
	})
	return dir
}

// testLog passes warnings on to the test's output.
func testLog(tb testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// mustAdd shows a torrent.
func mustAdd(tb testing.TB, s *Server, t Torrent) string {
	tb.Helper()
	shown, err := s.Add(t, "")
	if err != nil {
		tb.Fatal(err)
	}
	return shown
}

// command is a process that is killed when it takes too long: nothing that
// touches a mount may hang a test.
func command(tb testing.TB, limit time.Duration, name string, args ...string) *exec.Cmd {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	tb.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	return cmd
}

// child is the test binary, started again to do one of children.
func child(tb testing.TB, limit time.Duration, name string, args ...string) *exec.Cmd {
	tb.Helper()
	cmd := command(tb, limit, "/proc/self/exe", args...)
	// Unless told otherwise a race-enabled program sleeps a second at its end.
	cmd.Env = append(os.Environ(), childEnv+"="+name, "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	return cmd
}

// output runs a command that must succeed.
func output(tb testing.TB, cmd *exec.Cmd) string {
	tb.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", cmd, err, stderr.String())
	}
	return string(out)
}

// sh runs a shell command that must succeed, in dir.
func sh(tb testing.TB, dir, script string) string {
	tb.Helper()
	cmd := command(tb, 20*time.Second, "sh", "-euc", script)
	cmd.Dir = dir
	return strings.TrimSpace(output(tb, cmd))
}

// eventually waits for a condition that something under way will bring about.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			tb.Fatalf("never happened: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func exitCode(err error) int {
	if ee := (*exec.ExitError)(nil); errors.As(err, &ee) {
		return ee.ExitCode()
	}
	return 0
}
