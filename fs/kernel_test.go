package fs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	children["testfs"] = func(args []string) error {
		return fstest.TestFS(os.DirFS(args[0]), args[1:]...)
	}
	children["read-every-way"] = readEveryWay
	children["write-every-way"] = writeEveryWay
}

// readEveryWay compares a file of a fake torrent, read in all ways the kernel
// has, with what it should be. args: the file, its number, a local directory.
func readEveryWay(args []string) error {
	number, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	want := content{number, st.Size()}
	ways := []struct {
		name string
		do   func() error
	}{
		{"sequential", func() error { return sequential(f, want) }},
		{"random", func() error { return random(f, want, 150) }},
		{"at its edges", func() error { return edges(f, want) }},
		{"map shared", func() error { return mapped(f, want, unix.MAP_SHARED) }},
		{"map private", func() error { return mapped(f, want, unix.MAP_PRIVATE) }},
		{"sendfile", func() error { return sendfile(f, want, args[2]) }},
		{"O_DIRECT", func() error {
			d, err := os.OpenFile(args[0], os.O_RDONLY|unix.O_DIRECT, 0)
			if err != nil {
				return err
			}
			defer d.Close()
			return errors.Join(sequential(d, want), random(d, want, 50))
		}},
		{"all at once", func() error {
			errs := make([]error, 8)
			var wg sync.WaitGroup
			for i := range errs {
				wg.Go(func() { errs[i] = random(f, want, 40) })
			}
			wg.Wait()
			return errors.Join(errs...)
		}},
	}
	for _, w := range ways {
		if err := w.do(); err != nil {
			return fmt.Errorf("%s, %s: %w", args[0], w.name, err)
		}
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return err
		}
	}
	return nil
}

func sequential(f *os.File, want content) error {
	got, ref := sha256.New(), sha256.New()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(got, f); err != nil {
		return err
	}
	if _, err := io.Copy(ref, io.NewSectionReader(want, 0, want.size)); err != nil {
		return err
	}
	if !bytes.Equal(got.Sum(nil), ref.Sum(nil)) {
		return errors.New("wrong bytes")
	}
	return nil
}

func random(f *os.File, want content, n int) error {
	for range n {
		off := rand.Int64N(want.size + 1)
		if err := compareAt(f, want, off, rand.IntN(600<<10)); err != nil {
			return err
		}
	}
	return nil
}

func edges(f *os.File, want content) error {
	for _, edge := range []int64{0, 512, 4096, 16 << 10, 128 << 10, 256 << 10, 1 << 20, want.size} {
		for _, d := range []int64{-4097, -1, 0, 1} {
			for _, n := range []int{0, 1, 2, 4095, 4096, 4097, 1 << 20} {
				if off := edge + d; off >= 0 {
					if err := compareAt(f, want, off, n); err != nil {
						return err
					}
				}
			}
		}
	}
	if n, err := f.ReadAt(make([]byte, 10), 1<<62); n != 0 || err != io.EOF {
		return fmt.Errorf("far beyond the end: %d bytes, %v", n, err)
	}
	return nil
}

// compareAt reads n bytes; fewer are right at the end only.
func compareAt(f *os.File, want content, off int64, n int) error {
	got, ref := make([]byte, n), make([]byte, n)
	g, err := f.ReadAt(got, off)
	r, wantErr := want.ReadAt(ref, off)
	if n == 0 {
		wantErr = nil
	}
	if g != r || err != wantErr || !bytes.Equal(got[:g], ref[:r]) {
		return fmt.Errorf("%d bytes at %d: got %d, %v, want %d, %v, same bytes: %v", n, off, g, err, r, wantErr, bytes.Equal(got[:g], ref[:r]))
	}
	return nil
}

func mapped(f *os.File, want content, flags int) error {
	if want.size == 0 {
		return nil
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(want.size), unix.PROT_READ, flags)
	if err != nil {
		return err
	}
	ref := make([]byte, 4096)
	pages := (int(want.size) + 4095) / 4096
	for _, p := range rand.Perm(pages) {
		page := data[p*4096 : min((p+1)*4096, len(data))]
		fill(ref, want.file, int64(p)*4096)
		if !bytes.Equal(page, ref[:len(page)]) {
			return fmt.Errorf("wrong bytes in page %d", p)
		}
	}
	return unix.Munmap(data)
}

func sendfile(f *os.File, want content, tmp string) error {
	out, err := os.CreateTemp(tmp, "")
	if err != nil {
		return err
	}
	defer out.Close()
	var off int64
	for off < want.size {
		if _, err := unix.Sendfile(int(out.Fd()), int(f.Fd()), &off, 1<<20); err != nil {
			return err
		}
	}
	return sequential(out, want)
}

func TestFilesReadTheSameInEveryWay(t *testing.T) {
	s := New(Options{Logger: testLog(t)})
	mustAdd(t, s, newFake(newInfo(
		t, "files",
		spec{path: "empty", length: 0},
		spec{path: "one byte", length: 1},
		spec{path: "a page", length: 4096},
		spec{path: "deep/er/odd", length: 3<<20 + 12345},
	)))
	mustAdd(t, s, newFake(newInfo(t, "single", spec{length: 2<<20 + 1})))
	dir, tmp := mountFor(t, s), t.TempDir()
	for i, name := range []string{"files/empty", "files/one byte", "files/a page", "files/deep/er/odd"} {
		output(t, child(t, time.Minute, "read-every-way", dir+"/"+name, strconv.Itoa(i), tmp))
	}
	output(t, child(t, time.Minute, "read-every-way", dir+"/single", "0", tmp))
}

// The standard library's test reads byte by byte, so the files are small.
func TestTheTreeIsAProperFS(t *testing.T) {
	s := New(Options{Logger: testLog(t)})
	mustAdd(t, s, newFake(newInfo(
		t, "files",
		spec{path: "empty", length: 0},
		spec{path: "deep/er/odd", length: 10_001},
		spec{path: "deep/link", attr: "l", target: []string{"deep", "er", "odd"}},
	)))
	mustAdd(t, s, newFake(newInfo(t, "single", spec{length: 4097})))
	dir := mountFor(t, s)
	output(t, child(t, time.Minute, "testfs", dir, "files/empty", "files/deep/er/odd", "single"))
}

func TestOffsetsBeyond4GiB(t *testing.T) {
	s := New(Options{Logger: testLog(t)})
	mustAdd(t, s, newFake(newInfo(t, "big", spec{length: 5<<30 + 3})))
	dir := mountFor(t, s)
	for _, off := range []int64{4<<30 - 1, 4 << 30, 5<<30 - 2} {
		want := make([]byte, 5)
		fill(want, 0, off)
		got := output(t, command(t, 10*time.Second, "dd", "if="+dir+"/big", "bs=5", "count=1", "status=none",
			"iflag=skip_bytes", fmt.Sprintf("skip=%d", off)))
		if want := string(want[:min(5, 5<<30+3-off)]); got != want {
			t.Errorf("at %d: got %x, want %x", off, got, want)
		}
	}
}

// writeEveryWay tries all calls that would change something below args[0].
func writeEveryWay(args []string) error {
	dir := args[0]
	file, sub, link := dir+"/show/run.sh", dir+"/show/a", dir+"/show/a/link"
	opened := func(flags int) error {
		fd, err := unix.Open(file, flags, 0o644)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	created := func(name string, flags int) error {
		fd, err := unix.Open(dir+name, flags|unix.O_CREAT, 0o644)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	temporary := func(dir string) error {
		fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o644)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	var errs []error
	for _, c := range []struct {
		name string
		got  error
		want error
	}{
		{"open for writing", opened(unix.O_WRONLY), unix.EROFS},
		{"open for reading and writing", opened(unix.O_RDWR), unix.EROFS},
		{"open to truncate", opened(unix.O_RDONLY | unix.O_TRUNC), unix.EROFS},
		{"open to append", opened(unix.O_WRONLY | unix.O_APPEND), unix.EROFS},
		{"create", created("/new", unix.O_WRONLY), unix.EROFS},
		{"create in a torrent", created("/show/new", unix.O_WRONLY|unix.O_EXCL), unix.EROFS},
		{"create what exists", created("/show/run.sh", unix.O_WRONLY|unix.O_EXCL), unix.EEXIST},
		{"temporary file", temporary(dir), unix.EROFS},
		{"truncate", unix.Truncate(file, 1), unix.EROFS},
		{"chmod", unix.Chmod(file, 0o777), unix.EROFS},
		{"chown", unix.Chown(file, 1, 1), unix.EROFS},
		{"lchown", unix.Lchown(link, 1, 1), unix.EROFS},
		{"utimes", unix.Utimes(file, make([]unix.Timeval, 2)), unix.EROFS},
		{"mkdir", unix.Mkdir(dir+"/new", 0o755), unix.EROFS},
		{"mkdir of what exists", unix.Mkdir(sub, 0o755), unix.EEXIST},
		{"mknod", unix.Mknod(dir+"/new", unix.S_IFREG|0o644, 0), unix.EROFS},
		{"mkfifo", unix.Mkfifo(dir+"/new", 0o644), unix.EROFS},
		{"symlink", unix.Symlink("x", dir+"/new"), unix.EROFS},
		{"link", unix.Link(file, dir+"/show/new"), unix.EROFS},
		{"rename", unix.Rename(file, dir+"/show/new"), unix.EROFS},
		{"unlink", unix.Unlink(file), unix.EROFS},
		{"rmdir", unix.Rmdir(sub), unix.EROFS},
		{"setxattr", unix.Setxattr(file, "user.x", []byte("y"), 0), unix.EROFS},
		{"removexattr", unix.Removexattr(file, "user.x"), unix.EROFS},
		{"access to write", unix.Access(file, unix.W_OK), unix.EROFS},
		{"access to run a program", unix.Access(file, unix.X_OK), nil},
		{"access to run what is none", unix.Access(dir+"/show/a/one", unix.X_OK), unix.EACCES},
	} {
		if c.got != c.want {
			errs = append(errs, fmt.Errorf("%s: got %v, want %v", c.name, c.got, c.want))
		}
	}
	return errors.Join(errs...)
}

func TestWritingIsRefused(t *testing.T) {
	s, _ := sample(t)
	dir := mountFor(t, s)
	output(t, child(t, 20*time.Second, "write-every-way", dir))
}

func TestToolsSeeAnOrdinaryTree(t *testing.T) {
	s, _ := sample(t)
	dir := mountFor(t, s)
	for _, c := range []struct{ script, want string }{
		{"ls -A", "film.mkv\nshow"}, // .swarmfs is not listed
		{"find . -type f | sort", "./film.mkv\n./show/a/b/two\n./show/a/one\n./show/empty\n./show/run.sh"},
		{"find -L show -type f | wc -l", "5"}, // the link leads to a file
		{"readlink show/a/link", "../run.sh"},
		{"stat -c '%a %s %b %h %Y' show/a/one", "444 1000 2 1 1600000000"},
		{"stat -c '%a %h' show/run.sh show/a show", "555 1\n555 3\n555 3"},
		{"stat -f -c '%b %f %a %S %l' show/a/one", fmt.Sprintf("%d 0 0 4096 255", (5<<30+1000+513+10+4095)/4096)},
		{"stat -f -c '%b' . show/a film.mkv | uniq | wc -l", "1"},
		{"du -s -B1 show/a", "2048\tshow/a"},
		{"cat show/a/one | wc -c", "1000"},
		{"tar cf - show | tar tf - | wc -l", "8"},
		{"cp -r show " + t.TempDir() + "/ && echo copied", "copied"},
		{"cd show/a/b && pwd -P | sed s,.*/,, && cd ../../.. && ls", "b\nfilm.mkv\nshow"},
	} {
		if got := sh(t, dir, c.script); got != c.want {
			t.Errorf("%s: got %q, want %q", c.script, got, c.want)
		}
	}
}

func TestXAttrsTellWhereAFileComesFrom(t *testing.T) {
	for _, on := range []bool{false, true} {
		s := New(Options{XAttrs: on, Logger: testLog(t)})
		f := newFake(newInfo(t, "show", spec{path: "a/b", length: 1}))
		mustAdd(t, s, f)
		dir := mountFor(t, s)
		got := output(t, child(t, 10*time.Second, "xattrs", dir+"/show/a/b", "user.swarmfs.infohash", "user.swarmfs.path", "user.other"))
		want := fmt.Sprintf("%s\nshow/a/b\nno data available\n", f.info.Hash)
		if !on {
			want = strings.Repeat("operation not supported\n", 3)
		}
		if got != want {
			t.Errorf("with XAttrs %v: got %q, want %q", on, got, want)
		}
	}
}

func init() {
	children["xattrs"] = func(args []string) error {
		for _, name := range args[1:] {
			value := make([]byte, 100)
			n, err := unix.Getxattr(args[0], name, value)
			if err != nil {
				fmt.Println(err)
				continue
			}
			fmt.Println(string(value[:n]))
		}
		return nil
	}
}

func TestControlFilesAreMadeWhenOpened(t *testing.T) {
	n := 0
	var mu sync.Mutex
	s := New(Options{Logger: testLog(t), Files: func() []VirtualFile {
		return []VirtualFile{
			{"version", func() []byte { return []byte("1\n") }},
			{"torrents/abc/status", func() []byte {
				mu.Lock()
				defer mu.Unlock()
				n++
				return fmt.Appendf(nil, "opened %d times\n%s", n, strings.Repeat("x", 300<<10))
			}},
		}
	}})
	dir := mountFor(t, s)
	for _, c := range []struct{ script, want string }{
		{"ls -a", ".\n.."},
		{"cat .swarmfs/version", "1"},
		{"head -n1 .swarmfs/torrents/abc/status", "opened 1 times"},
		{"head -n1 .swarmfs/torrents/abc/status", "opened 2 times"},
		{"wc -c < .swarmfs/torrents/abc/status", strconv.Itoa(len("opened 3 times\n") + 300<<10)},
		{"ls -R .swarmfs", ".swarmfs:\ntorrents\nversion\n\n.swarmfs/torrents:\nabc\n\n.swarmfs/torrents/abc:\nstatus"},
		{"cat .swarmfs/nothing 2>&1 || true", "cat: .swarmfs/nothing: No such file or directory"},
		{"cat .swarmfs 2>&1 || true", "cat: .swarmfs: Is a directory"},
		{"(echo x > .swarmfs/version) 2>&1 || echo refused", "sh: 1: cannot create .swarmfs/version: Read-only file system\nrefused"},
	} {
		if got := sh(t, dir, c.script+" 2>&1"); got != c.want {
			t.Errorf("%s: got %q, want %q", c.script, got, c.want)
		}
	}
}

func TestWhatIsAddedAndRemovedIsSeenAtOnce(t *testing.T) {
	s := New(Options{Logger: testLog(t)})
	f := newFake(newInfo(t, "show", spec{path: "a/b", length: 5}))
	dir := mountFor(t, s)
	for range 3 {
		// Names first: a listing would refresh what the kernel remembers.
		if got := sh(t, dir, "test -e show || echo none; ls"); got != "none" {
			t.Fatalf("before add: got %q", got)
		}
		mustAdd(t, s, f)
		if got := sh(t, dir, "cat show/a/b | wc -c; ls; ls show"); got != "5\nshow\na" {
			t.Fatalf("after add: got %q", got)
		}
		cmd := command(t, 20*time.Second, "sh", "-euc", "cd show/a; exec 3<b; echo ready; read x; cat <&3 | wc -c; ls 2>&1 || true")
		cmd.Dir = dir
		in, _ := cmd.StdinPipe()
		out, _ := cmd.StdoutPipe()
		start(t, cmd)
		if got := readFull(out, make([]byte, 6)); got != "ready\n" {
			t.Fatalf("open a file: got %q", got)
		}
		s.Remove("show")
		if got := sh(t, dir, "test -e show || echo none; ls"); got != "none" {
			t.Fatalf("after remove: got %q", got)
		}
		io.WriteString(in, "\n")
		in.Close()
		if got := readFull(out, make([]byte, 2)); got != "5\n" {
			t.Errorf("open file of a removed torrent: got %q", got)
		}
		if err := waitFor(t, cmd); err != nil {
			t.Fatal(err)
		}
	}
}

func TestErrorsOfATorrentReachTheReader(t *testing.T) {
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{ErrTimeout, unix.EIO},
		{fmt.Errorf("read: %w", ErrGone), unix.ESTALE},
		{errors.New("disk on fire"), unix.EIO},
	} {
		for _, at := range []string{"open", "read"} {
			s := New(Options{Logger: testLog(t)})
			f := newFake(newInfo(t, "x", spec{length: 100}))
			if at == "open" {
				f.openErr = c.err
			} else {
				f.read = func(context.Context, int, int64, int) error { return c.err }
			}
			mustAdd(t, s, f)
			dir := mountFor(t, s)
			out, _ := command(t, 10*time.Second, "cat", dir+"/x").CombinedOutput()
			if !strings.Contains(strings.ToLower(string(out)), strings.ToLower(c.want.Error())) {
				t.Errorf("%s gives %v: got %q, want %v", at, c.err, out, c.want)
			}
		}
	}
}

func TestAPanicCostsOneRequest(t *testing.T) {
	s := New(Options{})
	f := newFake(newInfo(t, "x", spec{length: 100}))
	f.read = func(ctx context.Context, _ int, _ int64, _ int) error { ctx.Done(); panic("a bug") }
	mustAdd(t, s, f)
	good := newFake(newInfo(t, "good", spec{length: 100}))
	mustAdd(t, s, good)
	dir := mountFor(t, s)
	for range 3 {
		if out, err := command(t, 10*time.Second, "cat", dir+"/x").CombinedOutput(); err == nil || !bytes.Contains(out, []byte("Input/output error")) {
			t.Errorf("got %q, %v", out, err)
		}
	}
	if got := sh(t, dir, "cat good | wc -c"); got != "100" {
		t.Errorf("the other file: got %q", got)
	}
	if n := s.waiters.waiting.Load(); n != 0 {
		t.Errorf("%d reads wait", n)
	}
}

func TestListing20000Files(t *testing.T) {
	var files []spec
	for i := range 20000 {
		files = append(files, spec{path: fmt.Sprintf("dir %03d/file %05d.txt", i/100, i), length: 100})
	}
	s := New(Options{Logger: testLog(t)})
	mustAdd(t, s, newFake(newInfo(t, "many", files...)))
	dir := mountFor(t, s)
	for _, what := range []string{"cold", "warm"} {
		began := time.Now()
		if got := sh(t, dir, "find . -type f | wc -l"); got != "20000" {
			t.Errorf("got %s files", got)
		}
		t.Logf("find, %s: %v", what, time.Since(began))
	}
	began := time.Now()
	if got := sh(t, dir, "ls -lR | grep -c ^-"); got != "20000" {
		t.Errorf("got %s files", got)
	}
	t.Logf("ls -lR: %v", time.Since(began))
	if got := sh(t, dir, "find . | sort | uniq -d | wc -l"); got != "0" {
		t.Errorf("%s names are listed twice", got)
	}
}
