package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"swarmfs/fs"
)

// accessesOf are one handle's open, a read, and its release.
func accessesOf(thread uint32, came time.Time) []fs.Access {
	return []fs.Access{
		{Op: fs.OpOpen, Caller: thread, Handle: 7, Path: "a\tb", Length: 1000, Came: came.Add(time.Millisecond)},
		{Op: fs.OpRead, Caller: thread, Handle: 7, Path: "a\tb", Offset: 10, Length: 20, Came: came.Add(1500 * time.Microsecond), Took: 12345 * time.Microsecond},
		{Op: fs.OpRelease, Handle: 7, Path: "a\tb", Came: came.Add(2 * time.Second)},
	}
}

func TestTheReadLogNamesProgramAndFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	pid := os.Getpid()
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for range 2 { // the second time it is appended to
		l, err := startReadLog(path, "/mnt/x", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		// A thread's own number is not its process's.
		for _, a := range accessesOf(uint32(threadOfOurs(t)), l.began) {
			l.observe(a)
		}
		l.close()
		who := fmt.Sprintf("%d\t%s\ta\\tb\t7", pid, bytes.TrimSpace(name))
		want = append(want,
			"# swarmfs "+version()+" mounted /mnt/x "+l.began.Format(time.RFC3339), "# ms\tpid\tprogram\tpath\thandle\toffset\tlength\twaited",
			"1\t"+who+"\topen\t1000", "1.5\t"+who+"\t10\t20\t12.345", "2000\t"+who+"\tclose")
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if w := strings.Join(want, "\n") + "\n"; string(got) != w {
		t.Errorf("got\n%swant\n%s", got, w)
	}
}

// threadOfOurs is a thread of this process that is not its first.
func threadOfOurs(t *testing.T) (tid int) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil || len(tasks) < 2 {
		t.Fatalf("this process has threads %v, %v", tasks, err)
	}
	if _, err := fmt.Sscan(tasks[len(tasks)-1].Name(), &tid); err != nil {
		t.Fatal(err)
	}
	return tid
}

// A shell opens a file and becomes the program that reads it; after that there
// is no need to look again, nor can it be looked at.
func TestAProgramIsLookedUpAgainAtItsFirstRead(t *testing.T) {
	l := newReadLog(&bytes.Buffer{}, time.Now(), slog.New(slog.DiscardHandler))
	self := uint32(os.Getpid())
	open, read, release := fs.Access{Op: fs.OpOpen, Caller: self, Handle: 1}, fs.Access{Op: fs.OpRead, Caller: self, Handle: 1}, fs.Access{Op: fs.OpRelease, Handle: 1}
	l.caller(open)
	shell := l.callers[1]
	shell.program = "shell"
	l.callers[1] = shell
	if c := l.caller(read); c.program == "shell" {
		t.Error("the shell's name was kept at the first read")
	}
	known := l.callers[1]
	known.program = "known"
	l.callers[1] = known
	if c := l.caller(read); c.program != "known" {
		t.Errorf("got %q at the second read, want what was known", c.program)
	}
	read.Caller = 0 // of another namespace
	if c := l.caller(read); c.program != "-" {
		t.Errorf("got %q for nobody", c.program)
	}
	if l.caller(release); len(l.callers) != 0 {
		t.Errorf("got %v kept after the release", l.callers)
	}
	if c := l.caller(release); c.program != "-" {
		t.Errorf("got %q for the release of an unknown handle", c.program)
	}
}

// stuckDisk takes nothing until it is freed, and may fail then.
type stuckDisk struct {
	bytes.Buffer
	free chan struct{}
	err  error
}

func (d *stuckDisk) Write(p []byte) (int, error) {
	<-d.free
	if d.err != nil {
		return 0, d.err
	}
	return d.Buffer.Write(p)
}

func TestAReadNeverWaitsForTheReadLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &stuckDisk{free: make(chan struct{})}
		l := newReadLog(disk, time.Now(), slog.New(slog.DiscardHandler))
		l.ended.Go(l.write)
		a := accessesOf(0, l.began)[1]
		l.observe(a)
		synctest.Wait() // the first line is at the disk
		for range readLogBacklog + 5 {
			l.observe(a)
		}
		close(disk.free)
		l.close()
		if len(l.callers) > 0 {
			t.Errorf("got %v kept of handles whose release may be among the lost lines", l.callers)
		}
		if n := strings.Count(disk.String(), "a\\tb"); n != readLogBacklog+1 {
			t.Errorf("got %d lines, want %d", n, readLogBacklog+1)
		}
		if !strings.Contains(disk.String(), "# 5 lines lost: the disk was too slow\n") {
			t.Error("it does not say that 5 lines were lost")
		}
	})
}

func TestAReadLogThatCannotBeWrittenEndsWithOneWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var warnings countingHandler
		disk := &stuckDisk{free: make(chan struct{}), err: errors.New("disk full")}
		close(disk.free)
		l := newReadLog(disk, time.Now(), slog.New(&warnings))
		l.ended.Go(l.write)
		for range 3 {
			l.observe(accessesOf(0, l.began)[1])
			synctest.Wait() // it has been at the disk, or has ended
		}
		l.close()
		if warnings.n != 1 {
			t.Errorf("got %d warnings, want 1", warnings.n)
		}
	})
}

// countingHandler counts what is logged, by one goroutine.
type countingHandler struct{ n int }

func (h *countingHandler) Enabled(context.Context, slog.Level) bool  { return true }
func (h *countingHandler) WithAttrs([]slog.Attr) slog.Handler        { return h }
func (h *countingHandler) WithGroup(string) slog.Handler             { return h }
func (h *countingHandler) Handle(context.Context, slog.Record) error { h.n++; return nil }
