package fs

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOnlySignalsThatStopAProgramEndARead(t *testing.T) {
	status := func(pending, shared, blocked, ignored, caught string) string {
		return "Name:\tcat\nState:\tD (disk sleep)\nSigQ:\t1/96365\nSigPnd:\t" + pending + "\nShdPnd:\t" + shared +
			"\nSigBlk:\t" + blocked + "\nSigIgn:\t" + ignored + "\nSigCgt:\t" + caught + "\nSeccomp:\t0\n"
	}
	const (
		none = "0000000000000000"
		kill = "0000000000000100"
		intr = "0000000000000002"
		quit = "0000000000000004"
		abrt = "0000000000000020"
		urg  = "0000000000400000"
		alrm = "0000000000002000"
		all  = "fffffffffffbfeff"
	)
	for _, c := range []struct {
		name, status string
		want         bool
	}{
		{"nothing pending", status(none, none, none, none, none), false},
		{"SIGKILL of a dying thread", status(kill, none, none, none, none), true},
		{"SIGKILL though all is blocked", status(kill, none, all, none, none), true},
		{"SIGINT of the process", status(none, intr, none, none, none), true},
		{"SIGINT with a handler", status(none, intr, none, none, intr), true},
		{"SIGINT blocked", status(none, intr, intr, none, none), false},
		{"SIGINT ignored", status(none, intr, none, intr, none), false},
		{"SIGQUIT", status(quit, none, none, none, none), true},
		{"SIGABRT, dumps core", status(abrt, none, none, none, none), true},
		{"SIGABRT with a handler", status(abrt, none, none, none, abrt), false},
		{"SIGURG of a Go program", status(urg, urg, none, none, urg), false},
		{"SIGURG without a handler", status(urg, none, none, none, none), false},
		{"SIGALRM with a handler", status(none, alrm, none, none, alrm), false},
		{"SIGALRM without a handler", status(none, alrm, none, none, none), true},
		{"no such text", "", false},
		{"no number", status("x", "", "-1", none, none), false},
	} {
		if got := endsRead([]byte(c.status)); got != c.want {
			t.Errorf("%s: ends the read: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestAnExitingThreadIsRecognizedByItsFlags(t *testing.T) {
	for _, c := range []struct {
		stat string
		want bool
	}{
		{"7 (cat) D 1 7 7 0 -1 4194304 99 0", false},
		{"7 (cat) R 1 7 7 0 -1 4194308 99 0", true},
		{"7 (cat) Z 1 7 7 0 -1 4194304 99 0", true},
		{"7 (a) Z 1 7 (b) D 1 7 7 0 -1 4194304 99 0", false},
		{"7 (a\n) D 1 7 7 0 -1 4194308 99 0", true},
		{"7 (cat) D 1 7", false},
		{"7 (cat)", false},
		{"", false},
	} {
		if got := exiting([]byte(c.stat)); got != c.want {
			t.Errorf("%q: exiting: got %v, want %v", c.stat, got, c.want)
		}
	}
}

func TestTheStateOfRealProcesses(t *testing.T) {
	if got := lookAtCaller(uint32(unix.Gettid())); got != callerAlive {
		t.Errorf("this thread: got state %v, want alive", got)
	}
	if got := lookAtCaller(0); got != callerUnknown {
		t.Errorf("no thread: got state %v, want unknown", got)
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := uint32(cmd.Process.Pid)
	if got := lookAtCaller(pid); got != callerAlive {
		t.Errorf("running process: got state %v, want alive", got)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the killed process is seen dying", func() bool { return lookAtCaller(pid) == callerDying })
	_ = cmd.Wait()
	if got := lookAtCaller(pid); got != callerDying {
		t.Errorf("process that is gone: got state %v, want dying", got)
	}
}

func FuzzStateOfACaller(f *testing.F) {
	self, err := os.ReadFile("/proc/self/status")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(self))
	f.Add("7 (a) R 1 7 7 0 -1 4194308 99 0")
	f.Add("SigPnd:\t0000000000000100\n")
	f.Fuzz(func(t *testing.T, text string) {
		exiting([]byte(text))
		if endsRead([]byte(text)) && !strings.Contains(text, "Pnd") {
			t.Errorf("%q ends a read with nothing pending", text)
		}
	})
}

func BenchmarkLookAtCaller(b *testing.B) {
	tid := uint32(unix.Gettid())
	for b.Loop() {
		lookAtCaller(tid)
	}
}
