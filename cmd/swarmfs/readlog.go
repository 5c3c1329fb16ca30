package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"swarmfs/fs"
)

// readLogBacklog is how many requests may wait to be written; what comes when
// the disk is so far behind is counted instead. About 0.5 MiB.
const readLogBacklog = 4096

// A readLog writes down which program reads what, for people to look at. One
// goroutine owns the file, so that no read waits for the disk.
type readLog struct {
	// Set at start, read-only after.
	began time.Time
	log   *slog.Logger
	quit  chan struct{} // closed by close
	ended sync.WaitGroup
	// Shared; safe for concurrent use.
	accesses chan fs.Access
	lost     atomic.Int64

	// Owned by write.
	out     *bufio.Writer
	callers map[uint64]caller // by handle
}

// A caller is the program that has a file open.
type caller struct {
	thread  uint32 // that the rest was looked up for
	pid     uint32
	program string // "-": not known
}

// startReadLog appends to a file. Call close when no more accesses come.
func startReadLog(path string, mountpoint string, log *slog.Logger) (*readLog, error) {
	// Whoever else may read the mount need not know what its owner watches.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open read log: %w", err)
	}
	l := newReadLog(file, time.Now(), log)
	fmt.Fprintf(l.out, "# swarmfs %s mounted %s %s\n# ms\tpid\tprogram\tpath\thandle\toffset\tlength\twaited\n",
		version(), printable(mountpoint), l.began.Format(time.RFC3339))
	l.ended.Go(func() {
		l.write()
		if err := file.Close(); err != nil {
			log.Warn("read log not closed", "error", err)
		}
	})
	return l, nil
}

func newReadLog(w io.Writer, began time.Time, log *slog.Logger) *readLog {
	return &readLog{
		began: began, log: log, quit: make(chan struct{}), accesses: make(chan fs.Access, readLogBacklog),
		out: bufio.NewWriterSize(w, 64<<10), callers: make(map[uint64]caller),
	}
}

// observe takes an access down. It is fs.Options.Observe.
func (l *readLog) observe(a fs.Access) {
	select {
	case l.accesses <- a:
	default:
		l.lost.Add(1)
	}
}

// close writes what has been observed and closes the file.
func (l *readLog) close() {
	close(l.quit)
	l.ended.Wait()
}

// write writes a line for each access, and gives them to the disk whenever
// there is none for the moment: a look at the file shows all of them.
func (l *readLog) write() {
	for {
		if len(l.accesses) == 0 && !l.flush() {
			return
		}
		select {
		case a := <-l.accesses:
			l.writeLine(a)
		case <-l.quit:
			for len(l.accesses) > 0 {
				l.writeLine(<-l.accesses)
			}
			l.flush()
			return
		}
	}
}

// flush reports whether the file can be written. When it cannot, the log ends
// with a warning and the mount goes on.
func (l *readLog) flush() bool {
	if n := l.lost.Swap(0); n > 0 {
		fmt.Fprintf(l.out, "# %d lines lost: the disk was too slow\n", n)
		clear(l.callers) // of some the release is lost: they would stay for ever
	}
	if err := l.out.Flush(); err != nil {
		l.log.Warn("read log ended", "error", err)
		return false
	}
	return true
}

// writeLine leaves the error of writing to flush.
func (l *readLog) writeLine(a fs.Access) {
	c := l.caller(a)
	fmt.Fprintf(l.out, "%s\t%d\t%s\t%s\t%d\t", millis(a.Came.Sub(l.began)), c.pid, c.program, printable(a.Path), a.Handle)
	switch a.Op {
	case fs.OpOpen:
		fmt.Fprintf(l.out, "open\t%d\n", a.Length)
	case fs.OpRead:
		fmt.Fprintf(l.out, "%d\t%d\t%s\n", a.Offset, a.Length, millis(a.Took))
	case fs.OpRelease:
		fmt.Fprintf(l.out, "close\n")
	}
}

func millis(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', -1, 64)
}

// caller returns who asks. It is looked up when a file is opened, when a thread
// reads from it that has not read from it last, and at the first read: a shell
// opens a file and then becomes another program.
func (l *readLog) caller(a fs.Access) caller {
	c, known := l.callers[a.Handle]
	switch {
	case a.Op == fs.OpRelease: // the kernel's own business
		delete(l.callers, a.Handle)
		if !known {
			c.program = "-"
		}
		return c
	case a.Op == fs.OpRead && known && c.thread == a.Caller:
		return c
	}
	c = lookUpCaller(a.Caller)
	kept := c
	if a.Op == fs.OpOpen {
		kept.thread = 0
	}
	l.callers[a.Handle] = kept
	return c
}

// lookUpCaller finds a thread's process in /proc.
func lookUpCaller(thread uint32) caller {
	c := caller{thread: thread, pid: thread, program: "-"}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", thread))
	if err != nil {
		return c
	}
	for line := range bytes.Lines(status) {
		if id, ok := bytes.CutPrefix(line, []byte("Tgid:")); ok {
			if n, err := strconv.ParseUint(string(bytes.TrimSpace(id)), 10, 32); err == nil {
				c.pid = uint32(n)
			}
		}
	}
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.pid)); err == nil {
		// A program may call itself what it likes.
		c.program = printable(string(bytes.TrimSuffix(name, []byte("\n"))))
	}
	return c
}
