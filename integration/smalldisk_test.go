package integration

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A data folder that is smaller than the file: no read fails, nothing is asked
// for again and again, and the log says it once. The kernel's cache is passed by.
func TestAFileLargerThanTheDiskIsReadTwice(t *testing.T) {
	t.Parallel()
	c := single(t, "larger than the disk", 200<<20, 1<<20)
	l := seedLibtorrent(t, newNode(t), c)
	data := t.TempDir()
	mountTmpfs(t, data, "size=64m")
	m := mount(t, newNode(t), mountOptions{data: data, flags: []string{"--peer", l.address}}, c.torrent)
	began := time.Now()
	for range 2 {
		c.readDirect(t, m)
	}
	if got, most := m.counters(c.hash).Fetched, c.size*21/10; got > most {
		t.Errorf("%d bytes were fetched for two reads of %d, want at most %d", got, c.size, most)
	} else {
		t.Logf("%.2f times the file was fetched", float64(got)/float64(c.size))
	}
	m.wantQuiet(time.Since(began))
	m.unmount()
}

// readDirect reads the only file of a content in order, not from the kernel's
// cache, and compares it.
func (c *content) readDirect(t testing.TB, m *mounted) {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "copy")
	r := run(t, copyLimit, exec.Command("dd", "if="+m.path(c, c.files[0]), "of="+copied, "iflag=direct", "bs=1M"))
	if r.code != 0 {
		t.Fatalf("dd: exit code %d: %s", r.code, tail(r.stderr, 2000))
	}
	compareFiles(t, copied, c.original(c.files[0]))
}

// wantQuiet fails if there is more than one warning for each begun minute.
func (m *mounted) wantQuiet(since time.Duration) {
	m.t.Helper()
	var warnings []string
	for line := range strings.Lines(m.output()) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			warnings = append(warnings, line)
		}
	}
	if most := 1 + int(since/time.Minute); len(warnings) > most {
		m.t.Errorf("%d warnings in %v, want at most %d: %q", len(warnings), since.Round(time.Second), most, warnings)
	}
}
