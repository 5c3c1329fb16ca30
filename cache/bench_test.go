package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpu returns the CPU time of this process so far, all threads.
func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var anonLine = regexp.MustCompile(`RssAnon:\s+(\d+) kB`)

// rssAnon returns the anonymous memory of this process in MiB.
func rssAnon() float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	m := anonLine.FindSubmatch(text)
	if m == nil {
		return 0
	}
	kb, _ := strconv.Atoi(string(m[1]))
	return float64(kb) / 1024
}

// meter reports CPU seconds per GiB and the peak of anonymous memory.
type meter struct {
	b     *testing.B
	cpu   time.Duration
	peak  float64
	bytes int64
}

func startMeter(b *testing.B, bytesPerOp int) *meter {
	b.SetBytes(int64(bytesPerOp))
	b.ReportAllocs()
	b.ResetTimer()
	return &meter{b: b, cpu: cpu(), bytes: int64(bytesPerOp)}
}

func (m *meter) look() { m.peak = max(m.peak, rssAnon()) }

func (m *meter) stop() {
	m.b.StopTimer()
	m.look()
	gib := float64(m.bytes) * float64(m.b.N) / (1 << 30)
	m.b.ReportMetric((cpu()-m.cpu).Seconds()/gib, "cpu-s/GiB")
	m.b.ReportMetric(m.peak, "anon-MiB")
}

// benchDir returns a folder on the disk that TMPDIR or /var/tmp is on: /tmp may be RAM.
func benchDir(b *testing.B) string {
	dir, err := os.MkdirTemp(os.Getenv("TMPDIR"), "cache-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// BenchmarkDiskWrite is the writer alone, one piece an operation.
func BenchmarkDiskWrite(b *testing.B) {
	for _, size := range []int{16 << 10, 256 << 10, 1 << 20, 4 << 20} {
		b.Run(fmt.Sprintf("%dK", size>>10), func(b *testing.B) {
			dir := benchDir(b)
			d, err := openBadger(filepath.Join(dir, "pieces"), logFileSize(8<<30), slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			defer d.close()
			data, _ := content(1, int64(size), int64(size))
			var chunks [][]byte
			for off := 0; off < size; off += maxChunk {
				chunks = append(chunks, data[off:min(off+maxChunk, size)])
			}
			m := startMeter(b, size)
			per := max(batchBytes/size, 1)
			for i := 0; i < b.N; i += per {
				var recs []record
				for j := i; j < min(i+per, b.N); j++ {
					recs = append(recs, record{pieceKey{piece: uint32(j), size: size, chunk: min(size, maxChunk)}, chunks})
				}
				if err := d.write(recs); err != nil {
					b.Fatal(err)
				}
				if i%64 == 0 {
					m.look()
				}
			}
			m.stop()
		})
	}
}

// BenchmarkStore is a download: drafts filled, hashed, committed and written
// by two goroutines, one piece an operation.
func BenchmarkStore(b *testing.B) {
	for _, size := range []int{256 << 10, 1 << 20, 16 << 20} {
		b.Run(fmt.Sprintf("%dK", size>>10), func(b *testing.B) {
			benchStore(b, size, Options{Dir: benchDir(b), Budget: 8 << 30})
		})
	}
	b.Run("1024K-RAM", func(b *testing.B) { benchStore(b, 1<<20, Options{}) })
}

func benchStore(b *testing.B, size int, opts Options) {
	s, err := Open(opts)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close(context.Background())
	data, g := content(1, int64(size), int64(size))
	sums := g.Sums
	g.Length *= int64(b.N)
	g.Sums = nil
	for range b.N {
		g.Sums = append(g.Sums, sums...)
	}
	v, err := s.Volume([20]byte{1}, g)
	if err != nil {
		b.Fatal(err)
	}
	room := make(chan struct{}, 1)
	v.Notify(nil, func() { room <- struct{}{} })
	m := startMeter(b, size)
	for i := range b.N {
		d, err := v.Draft(i, false)
		for err == ErrNoRoom {
			<-room
			d, err = v.Draft(i, false)
		}
		if err != nil {
			b.Fatal(err)
		}
		for off := 0; off < size; off += BlockSize {
			if _, err := d.WriteBlock(off, data[off:off+BlockSize]); err != nil {
				b.Fatal(err)
			}
		}
		if !d.Verify() {
			b.Fatal("wrong sum")
		}
		if err := d.Commit(); err != nil {
			b.Fatal(err)
		}
		if i%64 == 0 {
			m.look()
		}
	}
	if err := s.Sync(); err != nil {
		b.Fatal(err)
	}
	m.stop()
}

// BenchmarkReadAt reads pieces of 1 MiB from RAM and from the database.
func BenchmarkReadAt(b *testing.B) {
	const pieces, size = 256, 1 << 20
	data, g := content(1, size, pieces*size)
	dir := benchDir(b)
	s := openStore(b, Options{Dir: dir, Budget: 4 << 30, Memory: 2 * pieces * size})
	v := openVolume(b, s, 1, g)
	for i := range pieces {
		put(b, v, data, i)
	}
	run := func(name string, req int) {
		b.Run(fmt.Sprintf("%s-%dK", name, req>>10), func(b *testing.B) {
			p := make([]byte, req)
			m := startMeter(b, req)
			for i := range b.N {
				at := i * req % (pieces * size)
				if n, err := v.ReadAt(at/size, p, at%size); n != req || err != nil {
					b.Fatal(n, err)
				}
			}
			m.stop()
		})
	}
	run("RAM", 1<<20)
	run("RAM", 128<<10)
	closeStore(b, s)
	s = openStore(b, Options{Dir: dir, Budget: 4 << 30})
	v = openVolume(b, s, 1, g)
	run("disk", 1<<20)
	run("disk", 128<<10)
	run("disk", 16<<10)
}

// BenchmarkWriteBlock is the way of a block into a draft, with its hash.
func BenchmarkWriteBlock(b *testing.B) {
	const size = 4 << 20
	data, g := content(1, size, size)
	s := openStore(b, Options{})
	v := openVolume(b, s, 1, g)
	var d *Draft
	m := startMeter(b, BlockSize)
	for i := range b.N {
		off := i * BlockSize % size
		if off == 0 {
			b.StopTimer()
			if d != nil {
				d.Verify()
				d.Discard()
			}
			var err error
			if d, err = v.Draft(0, true); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		if kept, err := d.WriteBlock(off, data[off:off+BlockSize]); !kept || err != nil {
			b.Fatal(kept, err)
		}
	}
	m.stop()
	d.Discard()
}

// BenchmarkFirstRead reads 1 GiB in order after a restart, beside a plain file of
// the same size, with nothing in the page cache and with everything.
func BenchmarkFirstRead(b *testing.B) {
	const pieces, size = 1024, 1 << 20
	data, g := content(1, size, size)
	g.Length, g.Sums = pieces*size, bytes.Repeat(g.Sums, pieces)
	dir := benchDir(b)
	opts := Options{Dir: dir, Budget: 8 << 30}
	s := openStore(b, opts)
	v := openVolume(b, s, 1, g)
	plain, err := os.Create(filepath.Join(dir, "plain"))
	if err != nil {
		b.Fatal(err)
	}
	defer plain.Close()
	for i := range pieces {
		if s.Stats().Unwritten > 32 {
			s.Sync()
		}
		d, err := v.Draft(i, true)
		if err != nil {
			b.Fatal(err)
		}
		fill(b, d, data)
		if !d.Verify() || d.Commit() != nil {
			b.Fatal("not committed")
		}
		if _, err := plain.WriteAt(data, int64(i)*size); err != nil {
			b.Fatal(err)
		}
	}
	closeStore(b, s)
	if err := plain.Sync(); err != nil {
		b.Fatal(err)
	}
	for _, req := range []int{1 << 20, 128 << 10} {
		run := func(name string, cold bool, read func(p []byte, at int) error) {
			b.Run(fmt.Sprintf("%s-%dK", name, req>>10), func(b *testing.B) {
				p := make([]byte, req)
				m := startMeter(b, pieces*size)
				for range b.N {
					b.StopTimer()
					if cold {
						dropPages(b, dir)
					}
					if strings.HasPrefix(name, "store") {
						s = openStore(b, opts)
						v = openVolume(b, s, 1, g)
					}
					b.StartTimer()
					for at := 0; at < pieces*size; at += req {
						if err := read(p, at); err != nil {
							b.Fatal(err)
						}
					}
					b.StopTimer()
					closeStore(b, s)
				}
				m.stop()
			})
		}
		readFile := func(p []byte, at int) error {
			_, err := plain.ReadAt(p, int64(at))
			return err
		}
		readStore := func(p []byte, at int) error {
			_, err := v.ReadAt(at/size, p, at%size)
			return err
		}
		run("file-cold", true, readFile)
		run("store-cold", true, readStore)
		run("file-warm", false, readFile)
		run("store-warm", false, readStore)
	}
}

// dropPages takes the files below a folder out of the page cache.
func dropPages(b *testing.B, dir string) {
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return errors.Join(unix.Fdatasync(int(f.Fd())), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	})
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkOpen opens a store of 10 GB, and an empty one.
func BenchmarkOpen(b *testing.B) {
	for _, pieces := range []int{0, 10000} {
		b.Run(fmt.Sprintf("%dMiB", pieces), func(b *testing.B) {
			data, g := content(1, 1<<20, 1<<20)
			g.Length, g.Sums = int64(pieces)<<20, bytes.Repeat(g.Sums, pieces)
			opts := Options{Dir: benchDir(b), Budget: 20 << 30}
			d, err := openBadger(filepath.Join(opts.Dir, "pieces"), logFileSize(opts.Budget), slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			for i := range pieces {
				r := record{key: pieceKey{id: [20]byte{1}, piece: uint32(i), size: 1 << 20, chunk: maxChunk}}
				for off := 0; off < 1<<20; off += maxChunk {
					r.chunks = append(r.chunks, data[off:off+maxChunk])
				}
				if err := d.write([]record{r}); err != nil {
					b.Fatal(err)
				}
			}
			if err := d.close(); err != nil {
				b.Fatal(err)
			}
			m := startMeter(b, 0)
			for range b.N {
				s, err := Open(opts)
				if err != nil {
					b.Fatal(err)
				}
				v, err := s.Volume([20]byte{1}, g)
				if err != nil {
					b.Fatal(err)
				}
				if got := v.Pieces(); len(got)*64 < pieces {
					b.Fatal(len(got))
				}
				b.StopTimer()
				m.look()
				closeStore(b, s)
				b.StartTimer()
			}
			m.stop()
		})
	}
}
