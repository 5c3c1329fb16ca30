package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestWhatIsHeldSurvivesARestart(t *testing.T) {
	t.Parallel()
	c := album(t)
	l := seedLibtorrent(t, newNode(t), c)
	n := newNode(t)
	opts := mountOptions{data: t.TempDir(), flags: []string{"--peer", l.address}}
	m := mount(t, n, opts, c.torrent)
	c.copyOut(t, m.point)
	m.unmount()
	before := l.uploaded()
	if before < c.size {
		t.Errorf("the seeder counted %d bytes for a copy of %d", before, c.size)
	}

	m = mount(t, n, opts, c.torrent)
	c.copyOut(t, m.point)
	if again := l.uploaded() - before; again != 0 {
		t.Errorf("%d bytes were fetched again after the restart", again)
	}
	if got := m.status().Torrents[0]; got.Fetched != 0 || got.TotalFetched < c.size || got.TotalFetched > 2*c.size {
		t.Errorf("counters after the restart: got %+v, want nothing of this run and at least %d of all", got, c.size)
	}
	m.unmount()

	// Nobody is needed: what is held is enough.
	l.kill()
	m = mount(t, n, opts, c.torrent)
	c.copyOut(t, m.point)
	m.unmount()
}

// The daemon is killed in the middle of a copy, and started again with the
// dead mountpoint left as it is.
func TestAKilledDaemonStartsAgainWhereItWas(t *testing.T) {
	t.Parallel()
	const rate = 8 << 20 // bytes/s
	c := single(t, "killed", 64<<20, 256<<10)
	l := seedLibtorrentWith(t, newNode(t), c, libtorrentOptions{limit: rate})
	n := newNode(t)
	opts := mountOptions{point: t.TempDir(), data: t.TempDir(), flags: []string{"--peer", l.address}}
	m := mount(t, n, opts, c.torrent)

	half := filepath.Join(t.TempDir(), "half")
	cp := start(t, "cp", exec.Command("cp", m.path(c, c.files[0]), half))
	eventually(t, 60*time.Second, "half of the copy", func() bool {
		info, err := os.Stat(half)
		return err == nil && info.Size() >= c.size/2 || !cp.running()
	})
	if !cp.running() {
		t.Fatal("cp ended before the daemon was killed")
	}
	m.kill()
	if code := cp.wait(10 * time.Second); code == 0 {
		t.Error("cp succeeded although the daemon was killed")
	}
	if !isMounted(t, m.point) {
		t.Log("the mountpoint was not left dead: it was cleaned up by a watcher of its own")
	}

	began := time.Now()
	m = mount(t, n, opts, c.torrent)
	t.Logf("mounted again after %v", time.Since(began).Round(time.Millisecond))
	c.copyOut(t, m.point)
	// Lost may be what was in flight, and what was verified in the second
	// before; a slow disk makes it some more.
	if twice, most := l.uploaded()-c.size, int64(3*rate); twice > most {
		t.Errorf("%d bytes were fetched twice, want at most %d", twice, most)
	} else {
		t.Logf("%d KiB were fetched twice", twice>>10)
	}
	m.unmount()
}

func TestSIGTERMInTheMiddleOfACopyEndsCleanly(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			const rate = 8 << 20 // bytes/s
			c := single(t, "stopped", 64<<20, 256<<10)
			l := seedLibtorrentWith(t, newNode(t), c, libtorrentOptions{limit: rate})
			n := newNode(t)
			opts := mountOptions{data: t.TempDir(), flags: []string{"--peer", l.address}}
			m := mount(t, n, opts, c.torrent)
			part := filepath.Join(t.TempDir(), "part")
			cp := start(t, "cp", exec.Command("cp", m.path(c, c.files[0]), part))
			eventually(t, 60*time.Second, "16 MiB of the copy", func() bool {
				info, err := os.Stat(part)
				return err == nil && info.Size() >= 16<<20 || !cp.running()
			})
			m.signal(sig)
			if code := m.wait(stopLimit); code != exitOK {
				t.Errorf("exit code after %v: got %d, want %d", sig, code, exitOK)
			}
			if code := cp.wait(10 * time.Second); code == 0 {
				t.Error("cp succeeded although the daemon was stopped")
			}
			if isMounted(t, m.point) {
				t.Errorf("%s is still mounted", m.point)
			}
			checkNothingStuck(t, m.point)

			before := l.uploaded()
			m = mount(t, n, opts, c.torrent)
			c.copyOut(t, m.point)
			// A clean end loses nothing that was verified; in flight are at
			// most the requests of about a second.
			if got, most := l.uploaded()-before, c.size-(16<<20)+rate/2; got > most {
				t.Errorf("%d bytes were fetched after the restart, want at most %d", got, most)
			}
			m.unmount()
		})
	}
}
