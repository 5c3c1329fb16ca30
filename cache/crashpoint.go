package cache

import (
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// crashpoint is called where a process that ends would leave something half
// done, with one of the names of crashPoints. Only tests set it, before a store is
// opened, and builds with the tag crashpoints.
var crashpoint = func(name string) {}

var crashPoints = []string{
	"opening", "opened", // the database
	"writing", "transaction", "written", // a batch of pieces
	"dropping", "dropped", "collected", // eviction
	"file-made", "file-synced", "file-renamed", "file-copied", // a file of State: empty, whole, in its place, twice
}

// crashAt returns a crashpoint that ends the process as kill -9 does, at the n-th
// call with a name; at is NAME:N. Without a number there is none.
func crashAt(at string) func(name string) {
	want, digits, _ := strings.Cut(at, ":")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return func(string) {}
	}
	var calls atomic.Int64
	return func(name string) {
		if name == want && calls.Add(1) == int64(n) {
			_ = unix.Kill(unix.Getpid(), unix.SIGKILL)
			select {} // it does not come back
		}
	}
}
