package integration

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	benchMemory   = 64 * mib        // --memory, which is its default too
	anonBeyond    = 150 * mib       // of anonymous memory, beside --memory
	streamLimit   = 5 * time.Minute // for all of a scenario's readers
	smallestCache = 64 * mib
)

// spotted makes a content of which most is holes: 64 KiB of each piece are
// random, so that no two pieces are the same and a tmpfs holds it easily.
func spotted(b *testing.B, name string, files ...fileSpec) *content {
	b.Helper()
	for i := range files {
		files[i].islands = []int64{}
		for off := int64(0); off < files[i].size; off += mib {
			files[i].islands = append(files[i].islands, off)
		}
	}
	return benchContent(b, name, mib, files)
}

// seedSlowly is `swarmfs seed` of a content that takes it a while to hash.
func seedSlowly(b *testing.B, c *content) (address string) {
	b.Helper()
	n := newNode(b)
	startSeed(b, n, c, "--log-level", "warn").waitLine("^ready: .*$", streamLimit)
	return n.addr(swarmfsPort)
}

// Ten handles stream 20 budgets, each a file of its own as large as the big
// file, through a mount that may keep one budget, and through one that may keep
// all of it.
func BenchmarkMountBudget(b *testing.B) {
	const handles, budgets = 10, 20
	var files []fileSpec
	for i := range handles {
		files = append(files, fileSpec{path: fmt.Sprintf("%d.bin", i), size: benchSize(b)})
	}
	c := spotted(b, "budget", files...)
	requireDisk(b, c.size*11/10)
	peer := seedSlowly(b, c)
	f := newFigures(b)
	f.add("streamed-GiB", float64(c.size)/gib)
	for round := 0; b.Loop(); round++ {
		var bounded, unbounded streamed
		for _, first := range []bool{true, false} { // takes turns, as in BenchmarkMountCopy
			if first == (round%2 == 0) {
				bounded = streamThrough(b, c, peer, c.size/budgets, time.Second, round == 0)
			} else {
				unbounded = streamThrough(b, c, peer, 2*c.size, time.Second, false)
			}
		}
		bounded.judge()
		bounded.add(f, "")
		unbounded.add(f, "unbounded-")
		f.add("x-unbounded", bounded.speed/unbounded.speed)
		f.round()
	}
	f.report()
}

// 100 budgets through the cache of a mount: what it takes of the disk in the
// last tenth of that is compared with the second tenth. The budget is a
// sixteenth of the big file.
func BenchmarkMountChurn(b *testing.B) {
	const handles, budgets = 4, 100
	budget := max(benchSize(b)/16, smallestCache)
	var files []fileSpec
	for i := range handles {
		files = append(files, fileSpec{path: fmt.Sprintf("%d.bin", i), size: budget * budgets / handles})
	}
	c := spotted(b, "churn", files...)
	peer := seedSlowly(b, c)
	f := newFigures(b)
	for b.Loop() {
		s := streamThrough(b, c, peer, budget, 100*time.Millisecond, false)
		s.judge()
		s.add(f, "")
		n := len(s.disk) / 10
		if n == 0 {
			b.Fatalf("%d samples are too few", len(s.disk))
		}
		growth := float64(slices.Max(s.disk[9*n:])) / float64(slices.Max(s.disk[n:2*n]))
		if growth > 1.05 {
			b.Errorf("the data folder grew to %.2f times what it was", growth)
		}
		f.add("growth", growth)
		f.round()
	}
	f.report()
}

// streamed is what streaming through a cache took.
type streamed struct {
	b       *testing.B
	budget  int64
	speed   float64 // MB/s
	cpu     float64 // s/GiB
	disk    []int64 // bytes, of each sample
	anon    int64   // bytes, the peak
	fetched float64 // of what was read
	twice   float64 // %, blocks that came from two peers
	written float64 // bytes to the disk, of those committed
}

// streamThrough has each file of c read by a handle of its own, all at one time.
// After that one is compared with its original, if that is asked for.
func streamThrough(b *testing.B, c *content, peer string, budget int64, every time.Duration, compare bool) streamed {
	b.Helper()
	m := benchMount(b, []string{peer}, []string{
		"--cache-size", strconv.FormatInt(budget, 10), "--memory", strconv.Itoa(benchMemory),
	}, c.torrent)
	use, disk := watch(m.process), sampleDisk(m.data, every)
	began := time.Now()
	var handles []*benchReader
	for _, f := range c.files {
		handles = append(handles, startReader(b, "copy", m.path(c, f)))
	}
	var read int64
	for _, h := range handles {
		read += h.readings(streamLimit).Bytes
	}
	took := time.Since(began)
	if read != c.size {
		b.Errorf("%d bytes were read, want %d", read, c.size)
	}
	s := streamed{b: b, budget: budget, speed: float64(read) / 1e6 / took.Seconds(), disk: disk.stop()}
	cpu, anon := use.use()
	s.cpu, s.anon = cpu*gib/float64(read), anon
	counted := m.counters(c.hash)
	s.fetched = float64(counted.Fetched) / float64(read)
	s.twice = 100 * float64(counted.Duplicated) / float64(read)
	s.written = float64(processIO(b, m.process)["write_bytes"]) / float64(counted.Fetched-counted.Wasted)
	if compare {
		m.sameBytes(c, c.files[0])
	}
	m.finish()
	return s
}

// judge fails on what is no matter of time.
func (s *streamed) judge() {
	s.b.Helper()
	if peak := slices.Max(s.disk); peak > s.budget*105/100 {
		s.b.Errorf("the data folder took %d bytes, want at most 1.05 times %d", peak, s.budget)
	}
	if s.anon > benchMemory+anonBeyond {
		s.b.Errorf("%d MiB of anonymous memory, want at most %d", s.anon/mib, (benchMemory+anonBeyond)/mib)
	}
	if s.written > 1.7 {
		s.b.Errorf("%.2f bytes were written for each byte committed, want at most 1.7", s.written)
	}
}

func (s *streamed) add(f *figures, prefix string) {
	f.add(prefix+"MB/s", s.speed)
	f.add(prefix+"disk/budget", float64(slices.Max(s.disk))/float64(s.budget))
	f.add(prefix+"written/committed", s.written)
	f.add(prefix+"anon-MiB", float64(s.anon)/mib)
	f.add(prefix+"fetched/read", s.fetched)
	f.add(prefix+"twice-%", s.twice)
	f.add(prefix+"cpu-s/GiB", s.cpu)
}

// A restart with the big file cached, with nothing of it in memory, and reads of
// up to 2 GiB of it beside a plain file in the same folder: in requests of 1 MiB,
// the first since the start and again, both from the disk, and from the page
// cache under the data folder (not that of the mount).
func BenchmarkMountRestart(b *testing.B) {
	size := benchSize(b)
	c := spotted(b, "restart.bin", fileSpec{size: size})
	requireDisk(b, size*2)
	opts := mountOptions{data: b.TempDir(), flags: []string{
		"--log-level", "warn", "--cache-size", strconv.FormatInt(2*size, 10), "--peer", seedSlowly(b, c),
	}}
	n := newNode(b)
	m := mount(b, n, opts, c.torrent)
	startReader(b, "copy", m.path(c, c.files[0])).readings(streamLimit)
	m.unmount()
	length := min(size, 2*gib)
	plain := filepath.Join(b.TempDir(), "plain")
	mustRun(b, copyLimit, "dd", "if="+c.original(c.files[0]), "of="+plain, "bs=1M", "conv=fsync", "status=none",
		fmt.Sprintf("count=%d", length/mib))

	f := newFigures(b)
	f.add("cached-GiB", float64(size)/gib)
	for round := 0; b.Loop(); round++ {
		forget(b, opts.data, plain)
		readPlain := func() { f.add("plain-MB/s", readSpeed(b, plain, length)) }
		if round%2 == 0 { // the host has a cache too
			readPlain()
		}
		began := time.Now()
		m := mount(b, n, opts, c.torrent)
		f.add("ready-s", time.Since(began).Seconds())
		io := processIO(b, m.process)
		f.add("start-read-MiB", float64(max(io["rchar"], io["read_bytes"]))/mib)
		path := m.path(c, c.files[0])
		f.add("first-MB/s", readSpeed(b, path, length))
		forget(b, opts.data, path)
		f.add("again-MB/s", readSpeed(b, path, length))
		forget(b, path)
		f.add("warm-MB/s", readSpeed(b, path, length))
		if round%2 == 1 {
			readPlain()
		}
		if got := m.counters(c.hash).Fetched; got != 0 {
			b.Errorf("%d bytes were fetched of what is held", got)
		}
		m.unmount()
		last := func(unit string) float64 { return f.values[unit][len(f.values[unit])-1] }
		f.add("first/plain", last("first-MB/s")/last("plain-MB/s"))
		f.add("again/plain", last("again-MB/s")/last("plain-MB/s"))
		f.round()
	}
	f.report()
}

// readSpeed is that of a reader of the first length bytes, in MB/s.
func readSpeed(b *testing.B, path string, length int64) float64 {
	b.Helper()
	got := startReader(b, "copy", path, strconv.FormatInt(length, 10)).readings(copyLimit)
	if got.Bytes != length {
		b.Errorf("%d bytes of %s were read, want %d", got.Bytes, path, length)
	}
	return float64(got.Bytes) / 1e6 / got.Took
}

// forget has the kernel keep nothing of files, or of those in folders, in its
// page cache.
func forget(b *testing.B, paths ...string) {
	b.Helper()
	unix.Sync()
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// requireDisk fails at once where a benchmark would fill the disk.
func requireDisk(b *testing.B, bytes int64) {
	b.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(os.TempDir(), &st); err != nil {
		b.Fatal(err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < bytes+2*gib {
		b.Fatalf("%d MiB free in %s, %d are needed: set %s", free/mib, os.TempDir(), (bytes+2*gib)/mib, benchMiBVar)
	}
}

// diskSampler looks at a folder every so often.
type diskSampler struct {
	quit    chan struct{}
	done    sync.WaitGroup
	samples []int64 // read it after stop
}

func sampleDisk(dir string, every time.Duration) *diskSampler {
	s := &diskSampler{quit: make(chan struct{})}
	s.done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			s.samples = append(s.samples, diskUse(dir))
			select {
			case <-tick.C:
			case <-s.quit:
				return
			}
		}
	})
	return s
}

// stop returns the bytes of all samples.
func (s *diskSampler) stop() []int64 {
	close(s.quit)
	s.done.Wait()
	return s.samples
}

// diskUse is what all in dir takes of the disk. Files come and go meanwhile.
func diskUse(dir string) (used int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := e.Info(); err == nil {
			used += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	return used
}

var ioLine = regexp.MustCompile(`(?m)^(\w+): (\d+)$`)

// processIO is what the kernel counts, in bytes, see proc_pid_io(5).
func processIO(b *testing.B, p *process) map[string]int64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	counts := map[string]int64{}
	for _, m := range ioLine.FindAllStringSubmatch(string(text), -1) {
		if counts[m[1]], err = strconv.ParseInt(m[2], 10, 64); err != nil {
			b.Fatal(err)
		}
	}
	return counts
}
