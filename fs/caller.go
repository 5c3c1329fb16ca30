package fs

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A callerState says whether the thread that sent a request still wants the
// answer.
type callerState int

const (
	callerUnknown callerState = iota // hidden from us: another PID namespace, or hidepid
	callerAlive
	callerDying // exiting, gone, or a signal that ends a read is pending
)

// pfExiting is PF_EXITING of the kernel's include/linux/sched.h: set when a
// task begins to exit, before its files are closed, and never cleared.
const pfExiting = 0x4

// politeSignals end a read even when the caller has a handler for them: whoever
// sent one wants the program to stop now, not when the data has come.
var politeSignals = signalSet(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)

// harmlessSignals do not kill a process that leaves them at their default.
var harmlessSignals = signalSet(unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH,
	unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)

// signalSet is the mask of the signals as /proc prints it: bit n-1 is signal n.
func signalSet(signals ...unix.Signal) (mask uint64) {
	for _, s := range signals {
		mask |= 1 << (s - 1)
	}
	return mask
}

// lookAtCaller reads the state of thread tid from /proc.
func lookAtCaller(tid uint32) callerState {
	if tid == 0 {
		return callerUnknown // the kernel itself, or no PID in our namespace
	}
	dir := "/proc/" + strconv.FormatUint(uint64(tid), 10)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		// With hidepid another user's process looks absent; kill knows better.
		if unix.Kill(int(tid), 0) == unix.ESRCH {
			return callerDying
		}
		return callerUnknown
	}
	if exiting(stat) {
		return callerDying
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return callerUnknown
	}
	if endsRead(status) {
		return callerDying
	}
	return callerAlive
}

// exiting reports whether the flags in a /proc/TID/stat line (proc(5), field 9)
// hold PF_EXITING, or the state (field 3) is that of a dead task.
func exiting(stat []byte) bool {
	// Field 2 is the command in parentheses and may hold anything.
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return false
	}
	fields := bytes.Fields(stat[i+1:])
	if len(fields) < 7 {
		return false
	}
	if s := fields[0][0]; s == 'Z' || s == 'X' || s == 'x' {
		return true
	}
	flags, err := strconv.ParseUint(string(fields[6]), 10, 64)
	return err == nil && flags&pfExiting != 0
}

// endsRead reports whether a signal is pending in a /proc/TID/status text that
// ends a read. The kernel adds SIGKILL to the pending set of every thread that
// dies by a signal; those that would dump core, and the polite ones that have
// a handler, are pending as themselves.
func endsRead(status []byte) bool {
	var pending, blocked, ignored, caught uint64
	for line := range bytes.Lines(status) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !bytes.HasPrefix(name, []byte("S")) {
			continue
		}
		mask, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 16, 64)
		if err != nil {
			continue
		}
		switch string(name) {
		case "SigPnd", "ShdPnd":
			pending |= mask
		case "SigBlk":
			blocked = mask
		case "SigIgn":
			ignored = mask
		case "SigCgt":
			caught = mask
		}
	}
	if pending&signalSet(unix.SIGKILL) != 0 {
		return true
	}
	fatal := politeSignals | ^(harmlessSignals | caught)
	return pending&^blocked&^ignored&fatal != 0
}
