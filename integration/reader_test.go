package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readerVar makes the test binary read a file of a mount, and compare it with
// its original, in a way for which there is no program. It runs in a process
// of its own: a test process that waits for its own mount cannot be ended.
const readerVar = "SWARMFS_INTEGRATION_READER"

var readers = map[string]func(mounted, original *os.File, size int64) error{
	"mmap":                 readMapped,
	"sendfile":             readSendfile,
	"direct":               readDirect,
	"pread under signals":  readUnderSignals,
	"two ends at one time": readBothEnds,
}

// readAs reads and compares a file in another process.
func readAs(t *testing.T, mode, mounted, original string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", mounted, original)
	cmd.Env = append(os.Environ(), readerVar+"="+mode)
	if r := run(t, copyLimit, cmd); r.code != 0 {
		t.Errorf("%s of %s: %s", mode, mounted, tail(r.stderr, 1000))
	}
}

func readerMain(mode string, args []string) int {
	err := func() error {
		flags := os.O_RDONLY
		if mode == "direct" {
			flags |= unix.O_DIRECT
		}
		mounted, err := os.OpenFile(args[0], flags, 0)
		if err != nil {
			return err
		}
		defer mounted.Close()
		original, err := os.Open(args[1])
		if err != nil {
			return err
		}
		defer original.Close()
		info, err := mounted.Stat()
		if err != nil {
			return err
		}
		want, err := original.Stat()
		if err != nil {
			return err
		}
		if info.Size() != want.Size() {
			return fmt.Errorf("size is %d, want %d", info.Size(), want.Size())
		}
		return readers[mode](mounted, original, info.Size())
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// readMapped reads the pages of a mapping in random order, from several
// threads.
func readMapped(mounted, original *os.File, size int64) error {
	m, err := unix.Mmap(int(mounted.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	const page = 4096
	pages := rand.New(rand.NewPCG(1, 2)).Perm(int((size + page - 1) / page))
	errs := make([]error, 4)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			want := make([]byte, page)
			for k := i; k < len(pages) && errs[i] == nil; k += len(errs) {
				off := int64(pages[k]) * page
				n, err := original.ReadAt(want, off)
				if err != nil && err != io.EOF {
					errs[i] = err
				} else if !bytes.Equal(m[off:off+int64(n)], want[:n]) {
					errs[i] = fmt.Errorf("page at %d differs", off)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, unix.Munmap(m))...)
}

// readSendfile lets the kernel move the file into a temporary one.
func readSendfile(mounted, original *os.File, size int64) error {
	out, err := os.CreateTemp("", "sendfile")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	for sent := int64(0); sent < size; {
		n, err := unix.Sendfile(int(out.Fd()), int(mounted.Fd()), nil, int(min(size-sent, 1<<20)))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("sendfile ended at %d of %d", sent, size)
		}
		sent += int64(n)
	}
	return equalRanges(out, original, 0, size, 1<<20)
}

// readDirect reads past the page cache.
func readDirect(mounted, original *os.File, size int64) error {
	// O_DIRECT wants aligned memory; take the aligned part of a larger buffer.
	const align, length = 4096, 1 << 20
	raw := make([]byte, length+align)
	skip := align - int(uintptr(unsafe.Pointer(&raw[0]))%align)
	got, want := raw[skip:skip+length], make([]byte, length)
	for off := int64(0); off < size; off += length {
		n, err := mounted.ReadAt(got, off)
		if err != nil && err != io.EOF {
			return err
		}
		m, err := original.ReadAt(want, off)
		if err != nil && err != io.EOF {
			return err
		}
		if !bytes.Equal(got[:n], want[:m]) {
			return fmt.Errorf("block at %d differs (%d bytes, want %d)", off, n, m)
		}
	}
	return nil
}

// readUnderSignals is a Go program that collects garbage while it reads: the
// runtime sends SIGURG to its own threads, and the kernel turns it into FUSE
// interrupts. No read may fail by EINTR for that (golang/go#40846).
func readUnderSignals(mounted, original *os.File, size int64) error {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = make([]byte, 1<<20)
				runtime.GC()
			}
		}
	})
	defer wg.Wait()
	defer close(stop)
	random := rand.New(rand.NewPCG(3, 4))
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); {
		n := 1 + random.Int64N(200_000)
		off := random.Int64N(size)
		buf, want := make([]byte, n), make([]byte, n)
		// unix.Pread, not ReadAt: package os hides EINTR by trying again.
		got, err := unix.Pread(int(mounted.Fd()), buf, off)
		if err != nil {
			return fmt.Errorf("pread of %d at %d: %w", n, off, err)
		}
		m, err := original.ReadAt(want, off)
		if err != nil && err != io.EOF {
			return err
		}
		if got != m || !bytes.Equal(buf[:got], want[:m]) {
			return fmt.Errorf("pread of %d at %d: wrong bytes (%d, want %d)", n, off, got, m)
		}
	}
	return nil
}

// readBothEnds has one reader that goes forward and one that goes backward.
func readBothEnds(mounted, original *os.File, size int64) error {
	const step = 96 << 10
	errs := make([]error, 2)
	var wg sync.WaitGroup
	wg.Go(func() { errs[0] = equalRanges(mounted, original, 0, size, step) })
	wg.Go(func() {
		for end := size; end > 0 && errs[1] == nil; end -= step {
			begin := max(end-step, 0)
			errs[1] = equalRanges(mounted, original, begin, end, step)
		}
	})
	wg.Wait()
	return errors.Join(errs...)
}

func equalRanges(got, want *os.File, begin, end int64, step int) error {
	a, b := make([]byte, step), make([]byte, step)
	for off := begin; off < end; off += int64(step) {
		n := min(int64(step), end-off)
		if _, err := got.ReadAt(a[:n], off); err != nil {
			return fmt.Errorf("read at %d: %w", off, err)
		}
		if _, err := want.ReadAt(b[:n], off); err != nil {
			return err
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return fmt.Errorf("bytes differ at %d", off)
		}
	}
	return nil
}
