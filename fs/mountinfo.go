package fs

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// A mountEntry is a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mountEntry struct {
	id     int
	device string // "major:minor", the st_dev of what is mounted
	dir    string
	fstype string // "fuse.swarmfs"
	source string
}

// mountsAt returns the mounts on dir, which is absolute and free of symbolic
// links, in the order they were stacked.
func mountsAt(dir string) ([]mountEntry, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var at []mountEntry
	for line := range bytes.Lines(text) {
		if m, ok := parseMountinfo(string(line)); ok && m.dir == dir {
			at = append(at, m)
		}
	}
	return at, nil
}

// parseMountinfo parses a line such as
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
func parseMountinfo(line string) (mountEntry, bool) {
	before, after, ok := strings.Cut(line, " - ")
	left, right := strings.Fields(before), strings.Fields(after)
	if !ok || len(left) < 6 || len(right) < 2 {
		return mountEntry{}, false
	}
	id, err := strconv.Atoi(left[0])
	if err != nil {
		return mountEntry{}, false
	}
	return mountEntry{
		id:     id,
		device: left[2],
		dir:    unescapeMount(left[4]),
		fstype: unescapeMount(right[0]),
		source: unescapeMount(right[1]),
	}, true
}

// unescapeMount undoes the octal escapes that the kernel writes for space, tab,
// newline and backslash.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
