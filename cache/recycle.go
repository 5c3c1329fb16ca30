package cache

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// recycledLogs is how many log files are looked at: what was written since the
// last sync lies in the newest, or began in the one before.
const recycledLogs = 2

// recycle gives the memory of what Badger wrote to its newest logs, and is on the
// disk, back to the kernel, for the bytes to come: the first touch of memory that
// nobody used for a while costs several times as much as the copying. What has
// not been synced stays. It is best effort, and safe while Badger maps, cuts and
// removes logs: MADV_PAGEOUT (Linux 5.4) changes no byte wherever it lands.
func recycle(dir string) {
	logs := newestLogs(dir)
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil || len(logs) == 0 {
		return
	}
	for line := range strings.Lines(string(maps)) {
		// proc_pid_maps(5): from-to perms offset dev inode path. The path may be
		// another than ours, but the file has its name in any case.
		f := strings.Fields(line)
		if len(f) < 6 || logs[filepath.Base(f[len(f)-1])] != f[4] {
			continue
		}
		first, last, _ := strings.Cut(f[0], "-")
		from, err1 := strconv.ParseUint(first, 16, 64)
		to, err2 := strconv.ParseUint(last, 16, 64)
		if err1 == nil && err2 == nil && from < to {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(from), uintptr(to-from), unix.MADV_PAGEOUT)
		}
	}
}

// newestLogs returns the inodes of the newest logs by their names.
func newestLogs(dir string) map[string]string {
	paths, err := filepath.Glob(filepath.Join(dir, "*.vlog")) // in order
	if err != nil {
		return nil
	}
	logs := make(map[string]string)
	for _, path := range paths[max(0, len(paths)-recycledLogs):] {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil {
			logs[filepath.Base(path)] = strconv.FormatUint(st.Ino, 10)
		}
	}
	return logs
}
