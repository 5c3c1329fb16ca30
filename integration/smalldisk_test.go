package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	if st := m.status(); st.Cache.Degraded == nil || !strings.Contains(*st.Cache.Degraded, "free") {
		t.Errorf("the status does not say that the disk is full: %+v", st.Cache)
	}

	// With more space the cache is used.
	if err := unix.Mount("", data, "", unix.MS_REMOUNT, "size=2g"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 70*time.Second, "the disk to be used", func() bool { return m.status().Cache.Degraded == nil })
	c.readDirect(t, m)
	before := m.counters(c.hash).Fetched
	c.readDirect(t, m)
	if again := m.counters(c.hash).Fetched - before; again > c.size/50 {
		t.Errorf("%d bytes were fetched for what a disk of 2 GiB holds", again)
	}
	m.unmount()
}

// The data folder goes, and is there again: reads go on, the cache resumes.
func TestADataFolderThatIsDeletedUnderAMount(t *testing.T) {
	t.Parallel()
	c := single(t, "deleted", 32<<20, 256<<10)
	l := seedLibtorrent(t, newNode(t), c)
	data := filepath.Join(t.TempDir(), "data")
	m := mount(t, newNode(t), mountOptions{data: data, flags: []string{"--peer", l.address}}, c.torrent)
	began := time.Now()
	c.readDirect(t, m)
	for range 2 {
		if err := os.RemoveAll(data); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, "the data folder to be there again", func() bool {
			_, err := os.Stat(filepath.Join(data, "pieces", "MANIFEST"))
			return err == nil
		})
		c.readDirect(t, m)
		eventually(t, 20*time.Second, "the control socket to be there again", func() bool {
			_, err := os.Stat(filepath.Join(data, "control.sock"))
			return err == nil
		})
		if st := m.status(); st.Cache.Degraded != nil {
			t.Errorf("the cache is not used: %s", *st.Cache.Degraded)
		}
	}
	if got, most := m.counters(c.hash).Fetched, 3*c.size+c.size/10; got > most {
		t.Errorf("%d bytes were fetched for three times %d", got, c.size)
	}
	m.wantQuiet(time.Since(began))
	m.unmount()

	before := l.uploaded()
	m = mount(t, newNode(t), mountOptions{data: data, flags: []string{"--peer", l.address}}, c.torrent)
	c.readDirect(t, m)
	if again := l.uploaded() - before; again > c.size/10 {
		t.Errorf("%d bytes were fetched after a restart with the new folder", again)
	}
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
