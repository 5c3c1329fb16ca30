package fs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	children["serve"] = serveUntilKilled
}

// serveUntilKilled mounts a torrent with a file that is complete and one that
// never comes, says so, and waits for its end.
func serveUntilKilled(args []string) error {
	f, err := stalling()
	if err != nil {
		return err
	}
	s, err := Mount(args[0], Options{})
	if err != nil {
		return err
	}
	if _, err := s.Add(f, ""); err != nil {
		return err
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, unix.SIGTERM)
	fmt.Println("ready")
	select {
	case <-s.Done():
		return nil
	case <-term:
		return s.Close(context.Background())
	}
}

// stalling is a torrent of two files, of which the second one never comes.
func stalling() (*fakeTorrent, error) {
	var tb panicTB
	f := newFake(newInfo(tb, "t", spec{path: "good", length: 1 << 20}, spec{path: "dead", length: 1 << 30}))
	f.read = func(ctx context.Context, file int, off int64, n int) error {
		if file == 0 {
			return nil
		}
		return stall(ctx, file, off, n)
	}
	return f, nil
}

// panicTB lets a child process use what takes a testing.TB.
type panicTB struct{ testing.TB }

func (panicTB) Helper()                   {}
func (panicTB) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

// mountStalled mounts stalling and starts n readers that wait for it.
func mountStalled(t *testing.T, n int, reader func(file string) *exec.Cmd) (*Server, *fakeTorrent, string, []*exec.Cmd) {
	t.Helper()
	f, err := stalling()
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Logger: testLog(t)})
	mustAdd(t, s, f)
	dir := mountFor(t, s)
	cmds := make([]*exec.Cmd, n)
	for i := range cmds {
		// Each reads a place of its own, or they would wait for one page.
		cmds[i] = command(t, time.Minute, "dd", "if="+dir+"/t/dead", "of=/dev/null", "bs=4k", "count=1",
			fmt.Sprintf("skip=%d", 1024*i), "status=none")
		if reader != nil {
			cmds[i] = reader(dir + "/t/dead")
		}
		start(t, cmds[i])
	}
	eventually(t, "all readers wait", func() bool { return f.waiting.Load() >= int64(n) })
	return s, f, dir, cmds
}

func TestStalledReadsDoNotFreezeTheMount(t *testing.T) {
	_, f, dir, cmds := mountStalled(t, 200, nil)
	began := time.Now()
	want := make([]byte, 1<<20)
	fill(want, 0, 0)
	if got := output(t, command(t, 10*time.Second, "cat", dir+"/t/good")); got != string(want) {
		t.Error("the good file has wrong bytes")
	}
	sh(t, dir, "ls -lR . >/dev/null; stat t/dead >/dev/null; df t/dead >/dev/null")
	t.Logf("%d reads wait; cat, ls, stat and df took %v", f.waiting.Load(), time.Since(began))
	for _, cmd := range cmds {
		_ = cmd.Process.Kill()
	}
	for _, cmd := range cmds {
		_ = waitFor(t, cmd)
	}
	eventually(t, "no read waits", func() bool { return f.waiting.Load() == 0 })
}

func TestReadsBeyondTheLimitFailAtOnce(t *testing.T) {
	f, err := stalling()
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{BlockedReads: 1, Logger: testLog(t)})
	mustAdd(t, s, f)
	dir := mountFor(t, s)
	first := exec.Command("dd", "if="+dir+"/t/dead", "of=/dev/null", "bs=4k", "iflag=direct")
	start(t, first)
	eventually(t, "the first read waits", func() bool { return f.waiting.Load() == 1 })
	out, err := command(t, 10*time.Second, "dd", "if="+dir+"/t/dead", "of=/dev/null", "bs=4k", "iflag=direct").CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("Resource temporarily unavailable")) {
		t.Errorf("second read: got %q, %v", out, err)
	}
	sh(t, dir, "cat t/good >/dev/null")
	_ = first.Process.Kill()
	_ = waitFor(t, first)
}

func TestUnmountWithBlockedReadersEndsThemAll(t *testing.T) {
	s, f, _, cmds := mountStalled(t, 64, nil)
	began := time.Now()
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("closed after %v", time.Since(began))
	for _, cmd := range cmds {
		if err := waitFor(t, cmd); exitCode(err) == 0 {
			t.Error("a reader succeeded")
		}
	}
	t.Logf("readers gone after %v", time.Since(began))
	if n := f.opened.Load(); n != 0 {
		t.Errorf("%d files are still open", n)
	}
	<-s.Done()
}

func TestABusyMountIsDetached(t *testing.T) {
	f, _ := stalling()
	s := New(Options{Logger: testLog(t)})
	mustAdd(t, s, f)
	dir := mountFor(t, s)
	cmd := exec.Command("sh", "-c", "exec 3<good; echo ready; read x; cat <&3; ls ..")
	cmd.Dir = dir + "/t"
	in, _ := cmd.StdinPipe()
	start(t, cmd)
	eventually(t, "the file is open", func() bool { return f.opened.Load() == 1 })
	began := time.Now()
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("closed after %v", time.Since(began))
	<-s.Done()
	in.Close()
	if err := waitFor(t, cmd); exitCode(err) == 0 {
		t.Error("the mount still works")
	}
}

func TestCloseKeepsItsDeadline(t *testing.T) {
	f, _ := stalling()
	s := New(Options{Logger: testLog(t)})
	mustAdd(t, s, f)
	dir := mountFor(t, s)
	cmd := exec.Command("sleep", "60")
	cmd.Dir = dir
	start(t, cmd)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > politeUnmount {
		t.Errorf("it took %v", took)
	}
	_ = cmd.Process.Kill()
	_ = waitFor(t, cmd)
}

// A mount that another namespace holds cannot be ended by unmounting; Close
// returns all the same.
func TestAMountHeldByAnotherNamespaceDoesNotHangClose(t *testing.T) {
	f, _ := stalling()
	s := New(Options{Logger: testLog(t)})
	mustAdd(t, s, f)
	dir := mountFor(t, s)
	cmd := exec.Command("sh", "-c", "echo > "+filepath.Join(t.TempDir(), "x")+"; exec sleep 60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	start(t, cmd) // returns when the namespace is made
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	<-s.Done()
	if m, _ := mountsAt(dir); len(m) > 0 {
		t.Errorf("still mounted: %v", m)
	}
	_ = cmd.Process.Kill()
	_ = waitFor(t, cmd) // and with the namespace the last of the mount ends
}

func TestAnUnmountFromOutsideEndsTheServer(t *testing.T) {
	f, _ := stalling()
	s := New(Options{Logger: testLog(t)})
	mustAdd(t, s, f)
	dir := mountFor(t, s)
	output(t, command(t, 10*time.Second, "umount", dir))
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Error("Done is not closed")
	}
}

func TestADeadMountIsReplaced(t *testing.T) {
	needFUSE(t)
	dir := mountpoint(t)
	for range 3 {
		cmd := child(t, time.Minute, "serve", dir)
		out, _ := cmd.StdoutPipe()
		start(t, cmd)
		if line := make([]byte, 6); readFull(out, line) != "ready\n" {
			t.Fatal("the server does not start")
		}
		readers := make([]*exec.Cmd, 10)
		for i := range readers {
			readers[i] = exec.Command("cat", dir+"/t/dead")
			start(t, readers[i])
		}
		sh(t, dir, "cat t/good >/dev/null")
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		for _, r := range readers {
			if err := waitFor(t, r); exitCode(err) == 0 {
				t.Error("a reader of a killed server succeeded")
			}
		}
		if m, _ := mountsAt(dir); len(m) != 1 {
			t.Fatalf("got mounts %v, want the dead one", m)
		}
	}
	// Two more on top of each other, as other programs leave them.
	for range 2 {
		deadMount(t, dir)
	}
	f, _ := stalling()
	s := New(Options{Logger: testLog(t)})
	mustAdd(t, s, f)
	began := time.Now()
	if err := s.Mount(dir); err != nil {
		t.Fatal(err)
	}
	t.Logf("mounted after %v", time.Since(began))
	if m, _ := mountsAt(dir); len(m) != 1 {
		t.Errorf("got mounts %v, want one", m)
	}
	sh(t, dir, "cat t/good >/dev/null")
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if m, _ := mountsAt(dir); len(m) != 0 {
		t.Errorf("after close: got mounts %v, want none", m)
	}
}

func readFull(r interface{ Read([]byte) (int, error) }, p []byte) string {
	n := 0
	for n < len(p) {
		k, err := r.Read(p[n:])
		if n += k; err != nil {
			break
		}
	}
	return string(p[:n])
}

// deadMount mounts a swarmfs whose server is gone at once.
func deadMount(t *testing.T, dir string) {
	t.Helper()
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)
	if err := unix.Mount("swarmfs", dir, "fuse.swarmfs", 0, data); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
}

func TestWhereNothingCanBeMounted(t *testing.T) {
	needFUSE(t)
	base := mountpoint(t)
	path := func(name string) string { return filepath.Join(base, name) }
	for _, dir := range []string{"full/x", "live", "tmp", "link target"} {
		if err := os.MkdirAll(path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path("file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("link target", path("link")); err != nil {
		t.Fatal(err)
	}
	live, err := Mount(path("live"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close(t.Context())
	for _, c := range []struct{ dir, cause string }{
		{path("missing"), "does not exist"},
		{path("missing/deeper"), "does not exist"},
		{path("file"), "not a directory"},
		{path("full"), "not empty"},
		{path("live"), "a running swarmfs is mounted there"},
		{"/proc/self/fd", ""},
	} {
		s, err := Mount(c.dir, Options{})
		if err == nil {
			s.Close(t.Context())
			t.Errorf("%s: mounted", c.dir)
			continue
		}
		me, ok := err.(*MountError)
		if !ok || me.Remedy == "" || !strings.Contains(me.Cause, c.cause) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %q, want %q", c.dir, err, c.cause)
		}
	}
	s, err := Mount(path("link"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	sh(t, path("link"), "ls")
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMountinfoLines(t *testing.T) {
	for _, c := range []struct {
		line string
		want mountEntry
		ok   bool
	}{
		{
			"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue",
			mountEntry{36, "98:0", "/mnt2", "ext3", "/dev/root"},
			true,
		},
		{
			`99 1 0:39 / /mnt/a\040b\134c\011\012 ro - fuse.swarmfs swarm\040fs ro`,
			mountEntry{99, "0:39", "/mnt/a b\\c\t\n", "fuse.swarmfs", "swarm fs"},
			true,
		},
		{`99 1 0:39 / /mnt\04 ro - tmpfs none\ rw`, mountEntry{99, "0:39", `/mnt\04`, "tmpfs", `none\`}, true},
		{"99 1 0:39 / /mnt ro", mountEntry{}, false},
		{"x 1 0:39 / /mnt ro - tmpfs none rw", mountEntry{}, false},
		{"99 1 - tmpfs none rw", mountEntry{}, false},
		{"", mountEntry{}, false},
	} {
		if got, ok := parseMountinfo(c.line); got != c.want || ok != c.ok {
			t.Errorf("%q: got %+v, %v, want %+v, %v", c.line, got, ok, c.want, c.ok)
		}
	}
}

func FuzzMountinfo(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue")
	f.Add(`99 1 0:39 / /mnt/a\040b\134 ro - fuse.swarmfs swarm\777 ro`)
	f.Fuzz(func(t *testing.T, line string) {
		if m, ok := parseMountinfo(line); ok && (m.dir == "" || m.fstype == "") {
			t.Errorf("%q: %+v", line, m)
		}
	})
}

// userDevice gives the device a mode, in the namespace of the tests: 0666 is
// what distributions have, 0600 some containers.
func userDevice(t *testing.T, mode uint32) {
	t.Helper()
	needFUSE(t)
	node := filepath.Join(t.TempDir(), "fuse")
	if err := unix.Mknod(node, unix.S_IFCHR|mode, int(unix.Mkdev(10, 229))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(node, os.FileMode(mode)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(node, device, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(device, unix.MNT_DETACH) })
}

// asNobody makes a command run as an ordinary user.
func asNobody(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}

func TestAnOrdinaryUserMountsWithTheHelper(t *testing.T) {
	userDevice(t, 0o666)
	if _, err := fusermountPath(); err != nil {
		t.Fatal("this test needs the package fuse3: ", err)
	}
	dir := nobodysDir(t)
	for _, end := range []syscall.Signal{unix.SIGTERM, unix.SIGKILL, unix.SIGTERM} {
		cmd := asNobody(child(t, time.Minute, "serve", dir))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, _ := cmd.StdoutPipe()
		start(t, cmd)
		if readFull(out, make([]byte, 6)) != "ready\n" {
			_ = cmd.Wait()
			t.Fatalf("the server does not start: %s", stderr.String())
		}
		want := make([]byte, 1<<20)
		fill(want, 0, 0)
		if got := output(t, asNobody(command(t, 10*time.Second, "cat", dir+"/t/good"))); got != string(want) {
			t.Error("wrong bytes")
		}
		reader := asNobody(exec.Command("cat", dir+"/t/dead"))
		start(t, reader)
		if err := cmd.Process.Signal(end); err != nil {
			t.Fatal(err)
		}
		err := waitFor(t, cmd)
		_ = waitFor(t, reader)
		m, _ := mountsAt(dir)
		if end == unix.SIGTERM && (err != nil || len(m) > 0) {
			t.Errorf("after SIGTERM: %v, %s, mounts %v", err, stderr.String(), m)
		}
		if end == unix.SIGKILL && len(m) != 1 {
			t.Errorf("after SIGKILL: mounts %v, want the dead one", m)
		}
	}
}

// nobodysDir is a mountpoint of an ordinary user.
func nobodysDir(t *testing.T) string {
	t.Helper()
	dir := mountpoint(t)
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAUserWhoMayNotMountIsToldWhy(t *testing.T) {
	needFUSE(t)
	dir, roots := nobodysDir(t), nobodysDir(t)
	if err := os.Chown(roots, 0, 0); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, dir, remedy string
		mode              uint32
	}{
		{"no directory", dir + "/x", "mkdir -p", 0o666},
		{"no right to the device", dir, "chmod 666 /dev/fuse", 0o600},
		{"no right to the directory", roots, "mount on a directory of yours", 0o666},
	} {
		t.Run(c.name, func(t *testing.T) {
			userDevice(t, c.mode)
			out, err := asNobody(child(t, 10*time.Second, "serve", c.dir)).CombinedOutput()
			if err == nil || bytes.Count(out, []byte("\n")) != 1 || !bytes.Contains(out, []byte(c.remedy)) {
				t.Errorf("got %q, %v, want one line with %q", out, err, c.remedy)
			}
		})
	}
}

func TestFuseConfIsReadAsTheHelperDoes(t *testing.T) {
	for conf, want := range map[string]bool{
		"":                                false,
		"#user_allow_other\n":             false,
		"mount_max = 9\nuser_allow_other": true,
		"  user_allow_other  \n":          true,
		"user_allow_others\n":             false,
	} {
		if got := allowsOther(conf); got != want {
			t.Errorf("%q: got %v, want %v", conf, got, want)
		}
	}
}

// A process that closes an open file which another one reads does not end
// that read.
func TestACloseElsewhereDoesNotEndARead(t *testing.T) {
	release := make(chan struct{})
	f := newFake(newInfo(t, "x", spec{length: 4096}))
	f.read = func(ctx context.Context, _ int, _ int64, _ int) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-release:
			return nil
		}
	}
	s := New(Options{Logger: testLog(t)})
	mustAdd(t, s, f)
	dir := mountFor(t, s)
	cmd := command(t, 20*time.Second, "sh", "-euc", "exec 3<x; wc -c <&3 & for i in 1 2 3 4 5 6 7 8 9; do (exec 3<&-); sleep 0.05; done; exec 3<&-; echo closed; wait")
	cmd.Dir = dir
	out, _ := cmd.StdoutPipe()
	start(t, cmd)
	if got := readFull(out, make([]byte, 7)); got != "closed\n" {
		t.Fatalf("got %q", got)
	}
	if f.waiting.Load() == 0 {
		t.Error("the read has ended")
	}
	close(release)
	if got := readFull(out, make([]byte, 5)); got != "4096\n" {
		t.Errorf("got %q", got)
	}
	if err := waitFor(t, cmd); err != nil {
		t.Error(err)
	}
}
