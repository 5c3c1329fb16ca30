package integration

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// waitBlocked waits until each of the readers waits for the mount: it is in
// the same system call of reading whenever one looks.
func waitBlocked(t *testing.T, readers []*process) {
	t.Helper()
	for _, r := range readers {
		var last string
		eventually(t, 20*time.Second, "a reader to wait for the mount", func() bool {
			if !r.running() {
				t.Fatalf("%s ended, but nobody has its data: %s", r.name, r.output())
			}
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", r.cmd.Process.Pid))
			if err != nil {
				return false
			}
			before := last
			last = string(b) // number, arguments, stack, program counter; or "running"
			var number int
			if _, err := fmt.Sscanf(last, "%d 0x", &number); err != nil || last != before {
				return false
			}
			return slices.Contains([]int{unix.SYS_READ, unix.SYS_PREAD64, unix.SYS_COPY_FILE_RANGE}, number)
		})
	}
}

func TestInterruptEndsAWaitingRead(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			c := single(t, "nobody has it", 8<<20, 256<<10)
			m := mount(t, newNode(t), mountOptions{flags: []string{"--read-timeout", "10m"}}, c.torrent)
			cat := start(t, "cat", exec.Command("cat", m.path(c, c.files[0])))
			waitBlocked(t, []*process{cat})
			began := time.Now()
			cat.signal(sig)
			// 0.5 s is the aim; a busy machine gets four times that.
			if code := cat.wait(2 * time.Second); code != -1 {
				t.Errorf("exit code %d, want an end by the signal", code)
			}
			t.Logf("gone after %v", time.Since(began).Round(time.Millisecond))
			m.unmount()
		})
	}
}

func TestUnmountWithSixtyFourBlockedReaders(t *testing.T) {
	t.Parallel()
	c := single(t, "nobody has it either", 64<<20, 256<<10)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--read-timeout", "10m"}}, c.torrent)
	var readers []*process
	for i := range 64 {
		readers = append(readers, start(t, fmt.Sprintf("dd %d", i),
			exec.Command("dd", "if="+m.path(c, c.files[0]), "of=/dev/null", "bs=1M", fmt.Sprintf("skip=%d", i), "count=1")))
	}
	waitBlocked(t, readers)

	// Listing and stat do not queue behind the reads.
	mustRun(t, 5*time.Second, "ls", "-l", m.point)

	began := time.Now()
	m.signal(syscall.SIGTERM)
	// 3 s is the aim.
	if code := m.wait(10 * time.Second); code != exitOK {
		t.Errorf("exit code: got %d, want %d", code, exitOK)
	}
	t.Logf("unmounted after %v", time.Since(began).Round(time.Millisecond))
	for _, r := range readers {
		if code := r.wait(5 * time.Second); code == 0 {
			t.Error("a reader succeeded although nobody had its data")
		}
	}
	if isMounted(t, m.point) {
		t.Errorf("%s is still mounted", m.point)
	}
	checkNothingStuck(t, m.point)
}

func TestAReadThatNobodyCanServeFailsAtItsTimeLimit(t *testing.T) {
	t.Parallel()
	c := single(t, "never comes", 1<<20, 256<<10)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--read-timeout", "2s"}}, c.torrent)
	began := time.Now()
	r := run(t, 60*time.Second, exec.Command("cat", m.path(c, c.files[0])))
	if r.code != 1 {
		t.Errorf("cat: exit code %d, want 1", r.code)
	}
	if took := time.Since(began); took < 1500*time.Millisecond {
		t.Errorf("the read failed after %v, before its limit of 2 s", took)
	}
	m.unmount()
}

// A seeder that comes late is enough: the read waits for it.
func TestAReadWaitsForASeederThatComesLate(t *testing.T) {
	t.Parallel()
	c := single(t, "late", 2<<20, 256<<10)
	late := newNode(t)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--read-timeout", "2m", "--peer", late.addr(libtorrentPort)}}, c.torrent)
	cat := start(t, "cat", exec.Command("cat", m.path(c, c.files[0])))
	waitBlocked(t, []*process{cat})
	seedLibtorrent(t, late, c)
	if code := cat.wait(copyLimit); code != 0 {
		t.Errorf("cat: exit code %d", code)
	}
	c.copyOut(t, m.point)
	m.unmount()
}
