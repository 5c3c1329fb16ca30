package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a program that runs beside the test. Everything it prints goes
// to one log, shown if the test fails.
type process struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	log  string        // path
	done chan struct{} // closed when it has ended
	err  error         // set before done is closed
}

// start runs cmd in a process group of its own and kills the group when the
// test ends.
func start(t testing.TB, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: cmd, done: make(chan struct{})}
	p.log = filepath.Join(t.TempDir(), filepath.Base(name)+".log")
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s (%s):\n%s", name, strings.Join(cmd.Args, " "), tail(p.output(), 6000))
		}
	})
	return p
}

// kill ends the process group at once and waits for it.
func (p *process) kill() {
	p.t.Helper()
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.t.Errorf("%s survived SIGKILL for 20 s: %s", p.name, describe(p.cmd.Process.Pid))
	}
}

// signal sends sig to the process alone.
func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("send %v to %s: %v", sig, p.name, err)
	}
}

// wait returns the exit code (-1: ended by a signal).
func (p *process) wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		p.t.Fatalf("%s still runs after %v: %s", p.name, limit, describe(p.cmd.Process.Pid))
		return 0
	}
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) output() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// waitLine waits until a line of the output matches and returns it.
func (p *process) waitLine(pattern string, limit time.Duration) string {
	p.t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	var line string
	eventually(p.t, limit, p.name+" to print "+pattern, func() bool {
		ended := !p.running()
		line = re.FindString(p.output())
		if line == "" && ended {
			p.t.Fatalf("%s ended (%v) without printing %s", p.name, p.err, pattern)
		}
		return line != ""
	})
	return line
}

// result is what a program that ended by itself left.
type result struct {
	code           int // -1: ended by a signal
	stdout, stderr string
}

// run runs a program to its end. Anything that touches a mount goes through
// it: if the mount hangs, the child hangs, and is killed after limit.
func run(t testing.TB, limit time.Duration, cmd *exec.Cmd) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var stdout, stderr bytes.Buffer
	bounded := exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...)
	bounded.Args[0] = cmd.Args[0]
	bounded.Env, bounded.Dir, bounded.Stdin = cmd.Env, cmd.Dir, cmd.Stdin
	bounded.Stdout, bounded.Stderr = &stdout, &stderr
	bounded.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	bounded.Cancel = func() error { return syscall.Kill(-bounded.Process.Pid, syscall.SIGKILL) }
	bounded.WaitDelay = 10 * time.Second
	err := bounded.Run()
	if ctx.Err() != nil && t.Context().Err() == nil {
		t.Fatalf("%s still ran after %v\n%s", strings.Join(cmd.Args, " "), limit, tail(stderr.String(), 2000))
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", strings.Join(cmd.Args, " "), err)
	}
	return result{bounded.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// mustRun runs a program that has to succeed and returns what it printed.
func mustRun(t testing.TB, limit time.Duration, name string, args ...string) string {
	t.Helper()
	r := run(t, limit, exec.Command(name, args...))
	if r.code != 0 {
		t.Fatalf("%s %s: exit code %d\n%s%s", name, strings.Join(args, " "), r.code, tail(r.stdout, 2000), tail(r.stderr, 2000))
	}
	return r.stdout
}

// eventually waits for a condition that has no event of its own.
func eventually(t testing.TB, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", limit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// describe says what a process is doing.
func describe(pid int) string {
	read := func(name string) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			return "?"
		}
		return strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
	}
	return fmt.Sprintf("pid %d, state %s, in %s: %s", pid, state(pid), read("wchan"), read("cmdline"))
}

// state is the kernel's letter for what a process does: D is a wait that
// ordinary signals do not end. "" if the process is gone.
func state(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(b), ") ") // the name before may hold anything, but only swarmfs's tests run here
	if after == "" {
		return ""
	}
	return after[:1]
}

// checkNothingStuck fails if a process that names the mountpoint in its
// arguments stays in state D: after an unmount no reader may be left waiting.
func checkNothingStuck(t testing.TB, point string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(b, []byte(point)) {
			continue
		}
		for deadline := time.Now().Add(10 * time.Second); state(pid) == "D"; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("stuck for 10 s: %s", describe(pid))
				break
			}
		}
	}
}
