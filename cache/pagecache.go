package cache

import (
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Hints to the kernel about Badger's log files, which are memory maps. Nothing
// depends on them but speed: all errors are ignored.

// newestLog returns the log file that is written to; "" if there is none.
func newestLog(dir string) string {
	names, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	if err != nil || len(names) == 0 {
		return ""
	}
	return slices.Max(names) // numbers of six digits
}

// startWriteback asks the kernel to begin writing a log file to the disk.
func startWriteback(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}
