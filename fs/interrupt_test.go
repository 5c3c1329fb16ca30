package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	children["map-and-touch"] = mapAndTouch
	children["read-in-a-signal-storm"] = readInSignalStorm
}

// catchAndRead reads in a process with one thread that has handlers for the
// signals with which users end programs, and exits with 4 if it is interrupted.
const catchAndRead = `$SIG{$_} = sub {} for qw(INT TERM HUP QUIT);
open(F, "<:unix", $ARGV[0]) or exit 9;
exit(defined sysread(F, $b, 65536) ? 0 : $!{EINTR} ? 4 : 5)`

// mapAndTouch waits in a page fault, with the file closed.
func mapAndTouch(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	data, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	f.Close()
	fmt.Fprintln(os.Stderr, data[0])
	return nil
}

// A blocked read ends soon after any signal that ends its process, and the
// file hears of it.
func TestAKilledReaderIsGoneAtOnce(t *testing.T) {
	readers := map[string]func(file string) *exec.Cmd{
		"page cache": func(file string) *exec.Cmd { return exec.Command("cat", file) },
		"one page":   func(file string) *exec.Cmd { return exec.Command("head", "-c1", file) },
		"O_DIRECT": func(file string) *exec.Cmd {
			return exec.Command("dd", "if="+file, "of=/dev/null", "bs=64k", "iflag=direct")
		},
		"page fault":  func(file string) *exec.Cmd { return child(t, time.Minute, "map-and-touch", file) },
		"own handler": func(file string) *exec.Cmd { return exec.Command("perl", "-MErrno", "-e", catchAndRead, file) },
	}
	for name, reader := range readers {
		for _, sig := range []syscall.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGKILL} {
			if name == "page fault" && sig != unix.SIGKILL {
				continue // Go handles the others on another thread
			}
			t.Run(name+"/"+unix.SignalName(sig), func(t *testing.T) {
				f := newFake(newInfo(t, "dead", spec{length: 8 << 20}))
				f.read = stall
				s := New(Options{Logger: testLog(t)})
				mustAdd(t, s, f)
				dir := mountFor(t, s)

				cmd := reader(dir + "/dead")
				start(t, cmd)
				eventually(t, "the read waits", func() bool { return f.waiting.Load() > 0 })
				began := time.Now()
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				err := waitFor(t, cmd)
				if name == "own handler" && sig != unix.SIGKILL && exitCode(err) != 4 {
					t.Errorf("exit code %d, want 4 for EINTR", exitCode(err))
				}
				t.Logf("gone after %v", time.Since(began))
				eventually(t, "the file is told", func() bool { return f.waiting.Load() == 0 })
				t.Logf("file told after %v", time.Since(began))
				eventually(t, "the file is closed", func() bool { return f.opened.Load() == 0 })
			})
		}
	}
}

func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
}

// waitFor waits for the end of a process that must come soon. A process in the
// kernel that cannot be killed would hang the test for ever.
func waitFor(t *testing.T, cmd *exec.Cmd) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(10 * time.Second):
		state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		t.Fatalf("%s does not end:\n%s", cmd, state)
		return nil
	}
}

// readInSignalStorm reads a slow file in all ways while every thread of the
// process gets signals that are none of the file system's business, a thousand
// a second each, and the garbage collector adds its own.
func readInSignalStorm(args []string) error {
	storm := []os.Signal{unix.SIGALRM, unix.SIGWINCH, unix.SIGCHLD, unix.SIGPROF, unix.SIGUSR1}
	signal.Notify(make(chan os.Signal, 1), storm...)
	ctx, cancel := context.WithCancel(context.Background())
	var background, readers sync.WaitGroup
	background.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			threads, _ := os.ReadDir("/proc/self/task")
			for _, t := range threads {
				tid, _ := strconv.Atoi(t.Name())
				sig := unix.SIGURG
				if n := i % (len(storm) + 1); n < len(storm) {
					sig = storm[n].(syscall.Signal)
				}
				_ = unix.Tgkill(os.Getpid(), tid, sig)
			}
			time.Sleep(time.Millisecond)
		}
	})
	background.Go(func() {
		for ctx.Err() == nil {
			runtime.GC()
		}
	})
	errs := make(chan error, 3)
	readers.Go(func() { errs <- preadAll(args[0], unix.O_DIRECT) })
	readers.Go(func() { errs <- preadAll(args[1], 0) })
	readers.Go(func() { errs <- touchAll(args[2]) })
	readers.Wait()
	cancel()
	background.Wait()
	return errors.Join(<-errs, <-errs, <-errs)
}

// preadAll reads file number 0 of a fake torrent, and retries nothing.
func preadAll(name string, flags int) error {
	fd, err := unix.Open(name, unix.O_RDONLY|flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	got, want := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); ; {
		n, err := unix.Pread(fd, got, off)
		if err != nil {
			return fmt.Errorf("pread %s at %d: %w", name, off, err)
		}
		if n == 0 {
			return nil
		}
		fill(want[:n], 0, off)
		if !bytes.Equal(got[:n], want[:n]) {
			return fmt.Errorf("pread %s at %d: wrong bytes", name, off)
		}
		off += int64(n)
	}
}

// touchAll reads a file by page faults; an interrupted one would be a SIGBUS.
func touchAll(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	want := make([]byte, len(data))
	fill(want, 0, 0)
	if !bytes.Equal(data, want) {
		return fmt.Errorf("map %s: wrong bytes", name)
	}
	return unix.Munmap(data)
}

func TestInnocentSignalsDoNotBreakReads(t *testing.T) {
	s := New(Options{Logger: testLog(t)})
	var names []string
	for _, name := range []string{"direct", "cached", "mapped"} {
		f := newFake(newInfo(t, name, spec{length: 4 << 20}))
		f.read = func(ctx context.Context, _ int, _ int64, _ int) error {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(20 * time.Millisecond): // long enough for many signals
				return nil
			}
		}
		names = append(names, mustAdd(t, s, f))
	}
	dir := mountFor(t, s)
	for i := range names {
		names[i] = dir + "/" + names[i]
	}
	output(t, child(t, time.Minute, "read-in-a-signal-storm", names...))
}
