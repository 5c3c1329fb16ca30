package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// withoutDiskCache is what a user has to be told.
var withoutDiskCache = regexp.MustCompile(`(?i)without (a |the )?disk[ -]cache|in memory only`)

// A broken disk costs the cache, not the mount.
func TestAMountWorksWithoutADiskCache(t *testing.T) {
	for _, broken := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
	}{
		{"read-only", func(t *testing.T, dir string) {
			mountTmpfs(t, dir, "size=64m")
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
		}},
		{"full", func(t *testing.T, dir string) {
			mountTmpfs(t, dir, "size=256k")
			f, err := os.Create(filepath.Join(dir, "others"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for err == nil {
				_, err = f.Write(make([]byte, 4096))
			}
		}},
	} {
		t.Run(broken.name, func(t *testing.T) {
			t.Parallel()
			c := single(t, "uncached", 8<<20, 256<<10)
			l := seedLibtorrent(t, newNode(t), c)
			data := t.TempDir()
			broken.prepare(t, data)
			m := mount(t, newNode(t), mountOptions{data: data, flags: []string{"--peer", l.address}}, c.torrent)
			c.copyOut(t, m.point)
			if !withoutDiskCache.MatchString(m.output()) {
				t.Errorf("it did not say that it runs without a disk cache")
			}
			m.unmount()
		})
	}
}

// A data folder that is read-only, and then is not.
func TestADataFolderThatBecomesWritableIsUsed(t *testing.T) {
	t.Parallel()
	c := single(t, "read-only", 8<<20, 256<<10)
	l := seedLibtorrent(t, newNode(t), c)
	data := t.TempDir()
	mountTmpfs(t, data, "size=1g")
	if err := unix.Mount("", data, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	m := mount(t, newNode(t), mountOptions{data: data, flags: []string{"--peer", l.address}}, c.torrent)
	c.readDirect(t, m)
	if err := unix.Mount("", data, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, 70*time.Second, "the disk to be used", func() bool {
		text, err := os.ReadFile(filepath.Join(m.point, ".swarmfs", "status"))
		return err == nil && strings.Contains(string(text), "cache on disk:") && !strings.Contains(string(text), "cache on disk: none")
	})
	c.readDirect(t, m)
	if got := l.uploaded(); got > c.size*11/10 {
		t.Errorf("%d bytes were fetched of %d", got, c.size)
	}
	m.unmount()
	before := l.uploaded()
	m = mount(t, newNode(t), mountOptions{data: data, flags: []string{"--peer", l.address}}, c.torrent)
	c.readDirect(t, m)
	if again := l.uploaded() - before; again > 0 {
		t.Errorf("%d bytes were fetched after a restart for what was in memory when the disk came", again)
	}
	m.unmount()
}

// The folder fills up while it is in use.
func TestADiskThatFillsUpCostsOnlyTheCache(t *testing.T) {
	t.Parallel()
	c := single(t, "too big for the disk", 48<<20, 256<<10)
	l := seedLibtorrent(t, newNode(t), c)
	data := t.TempDir()
	mountTmpfs(t, data, "size=16m")
	m := mount(t, newNode(t), mountOptions{data: data, flags: []string{"--peer", l.address}}, c.torrent)
	c.copyOut(t, m.point)
	m.unmount()
}

func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { detach(t, dir) })
}

func TestASecondDaemonOnOneDataFolderIsRefused(t *testing.T) {
	t.Parallel()
	c := single(t, "locked", 1<<20, 64<<10)
	l := seedLibtorrent(t, newNode(t), c)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--peer", l.address}}, c.torrent)
	point, n := t.TempDir(), newNode(t)
	r := run(t, readyLimit, swarmfsOn(n, append(append([]string{"mount", "--listen", n.addr(swarmfsPort), "--data", m.data},
		onlyGivenPeers...), c.torrent, point)...))
	oneLine(t, r, exitData)
	if !strings.Contains(r.stderr, m.data) {
		t.Errorf("the line does not name the data folder: %s", r.stderr)
	}
	if isMounted(t, point) {
		t.Errorf("%s is mounted", point)
	}
	// The first one goes on.
	c.copyOut(t, m.point)
	m.unmount()
}

func TestDaemonReturnsWhenTheTreeIsReady(t *testing.T) {
	t.Parallel()
	c := single(t, "daemon", 4<<20, 64<<10)
	l := seedLibtorrent(t, newNode(t), c)
	n, point := newNode(t), t.TempDir()
	t.Cleanup(func() { detach(t, point) })
	args := append(append([]string{"mount", "--daemon", "--listen", n.addr(swarmfsPort), "--data", t.TempDir(), "--peer", l.address},
		onlyGivenPeers...), c.torrent, point)
	r := run(t, readyLimit, swarmfsOn(n, args...))
	if r.code != exitOK || !strings.HasPrefix(r.stdout, "ready: ") {
		t.Errorf("exit code %d, standard output %q, want %d and a line that starts with ready", r.code, r.stdout, exitOK)
	}
	pid := findDaemon(t, point)
	if pid == 0 {
		t.Fatalf("no daemon for %s: %s", point, r.stderr)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	if !isMounted(t, point) {
		t.Fatal("it returned before the tree was mounted")
	}
	c.copyOut(t, point)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, stopLimit, "the daemon to end", func() bool { return state(pid) == "" })
	if isMounted(t, point) {
		t.Errorf("%s is still mounted after SIGTERM", point)
	}
	checkNothingStuck(t, point)
}

// A daemon whose mount is taken away has nothing left to do.
func TestTheDaemonEndsWhenItsMountIsTakenAway(t *testing.T) {
	t.Parallel()
	c := single(t, "taken away", 1<<20, 64<<10)
	m := mount(t, newNode(t), mountOptions{}, c.torrent)
	mustRun(t, 10*time.Second, "umount", m.point)
	m.wait(stopLimit)
}

// findDaemon is the process that has the mountpoint among its arguments.
func findDaemon(t *testing.T, point string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(b), "\x00"+point+"\x00") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && state(pid) != "Z" {
			return pid
		}
	}
	return 0
}
