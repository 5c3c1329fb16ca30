package cache

import (
	"bytes"
	"context"
	"errors"
	"os"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What the budget costs, and whether it is kept: figures of docs/cache.md.
// SWARMFS_BENCH_MIB is how much is streamed, 20 budgets by default.

const benchPiece = 1 << 20

// benchMiB is how much a benchmark streams.
func benchMiB(b *testing.B, otherwise int64) int64 {
	text := os.Getenv("SWARMFS_BENCH_MIB")
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		b.Fatal("SWARMFS_BENCH_MIB is no number of MiB: ", text)
	}
	return n
}

var writeBytesLine = regexp.MustCompile(`(?m)^write_bytes: (\d+)`)

// writtenByProcess returns how much this process has had written to disks.
func writtenByProcess(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/io")
	m := writeBytesLine.FindSubmatch(text)
	if err != nil || m == nil {
		b.Fatal("no write_bytes in /proc/self/io: ", err)
	}
	n, _ := strconv.ParseFloat(string(m[1]), 64)
	return n
}

// sampler looks at the data folder and the memory every so often.
type sampler struct {
	quit chan struct{}
	done sync.WaitGroup

	disk []int64 // bytes, of each sample; after stop
	anon float64 // MiB, the peak
}

func startSampler(dir string, every time.Duration) *sampler {
	s := &sampler{quit: make(chan struct{})}
	s.done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.disk = append(s.disk, treeUsage(dir))
				s.anon = max(s.anon, rssAnon())
			case <-s.quit:
				return
			}
		}
	})
	return s
}

// stop returns the samples.
func (s *sampler) stop() (disk []int64, anon float64) {
	close(s.quit)
	s.done.Wait()
	return s.disk, s.anon
}

func peakOf(samples []int64) (peak int64) {
	for _, n := range samples {
		peak = max(peak, n)
	}
	return peak
}

// film is a volume whose pieces are all the same, read by one handle.
type film struct {
	b    *testing.B
	v    *Volume
	data []byte // of a piece
	room chan struct{}
	p    []byte
}

func newFilm(b *testing.B, s *Store, id byte, pieces int) *film {
	data, g := content(1, benchPiece, benchPiece)
	g.Length, g.Sums = int64(pieces)*benchPiece, bytes.Repeat(g.Sums, pieces)
	v, err := s.Volume([20]byte{id}, g)
	if err != nil {
		b.Fatal(err)
	}
	f := &film{b: b, v: v, data: data, room: make(chan struct{}, 1), p: make([]byte, benchPiece)}
	v.Notify(nil, func() {
		select {
		case f.room <- struct{}{}:
		default:
		}
	})
	return f
}

// read fetches a piece and reads it.
func (f *film) read(piece int) error {
	d, err := f.v.Draft(piece, true)
	for errors.Is(err, ErrNoRoom) {
		<-f.room
		d, err = f.v.Draft(piece, true)
	}
	for off := 0; err == nil && off < benchPiece; off += BlockSize {
		_, err = d.WriteBlock(off, f.data[off:off+BlockSize])
	}
	if err == nil && !d.Verify() {
		err = errors.New("wrong sum")
	}
	if err == nil {
		err = d.Commit()
	}
	if err == nil {
		_, err = f.v.ReadAt(piece, f.p, 0)
	}
	return err
}

// stream reads so many pieces in order, each of them fetched just before.
func (f *film) stream(pieces int) {
	for i := range pieces {
		if err := f.read(i); err != nil {
			f.b.Error(err)
			return
		}
	}
}

// BenchmarkStreams is ten handles that stream 20 budgets through the cache, and the
// same with a cache that holds all of it.
func BenchmarkStreams(b *testing.B) {
	total := benchMiB(b, 5<<10)
	for _, x := range []struct {
		name   string
		budget int64
	}{{"bounded", total << 20 / 20}, {"unbounded", total << 21}} {
		b.Run(x.name, func(b *testing.B) {
			for range b.N {
				streamAll(b, x.budget, total)
			}
		})
	}
}

func streamAll(b *testing.B, budget, total int64) {
	const handles = 10
	opts := Options{Dir: benchDir(b), Budget: budget}
	s, err := Open(opts)
	if err != nil {
		b.Fatal(err)
	}
	before, samples := writtenByProcess(b), startSampler(opts.Dir, time.Second)
	b.SetBytes(total << 20)
	b.ResetTimer()
	var streams sync.WaitGroup
	for id := range byte(handles) {
		f := newFilm(b, s, id, int(total/handles))
		streams.Go(func() { f.stream(int(total / handles)) })
	}
	streams.Wait()
	if err := s.Sync(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	st := s.Stats()
	if err := s.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
	disk, anon := samples.stop()
	b.ReportMetric(float64(peakOf(disk))/float64(budget), "disk/budget")
	b.ReportMetric((writtenByProcess(b)-before)/float64(st.BytesWritten), "written/stored")
	b.ReportMetric(float64(st.BytesWritten)/float64(total<<20), "stored/fetched")
	b.ReportMetric(anon, "anon-MiB")
}

// BenchmarkChurn sends 100 budgets of 256 MiB through the cache. What the folder
// takes in the last tenth of that is compared with the second tenth.
func BenchmarkChurn(b *testing.B) {
	const budget = 256 << 20
	for range b.N {
		opts := Options{Dir: benchDir(b), Budget: budget}
		s, err := Open(opts)
		if err != nil {
			b.Fatal(err)
		}
		before, samples := writtenByProcess(b), startSampler(opts.Dir, 100*time.Millisecond)
		b.SetBytes(100 * budget)
		newFilm(b, s, 1, 100*budget/benchPiece).stream(100 * budget / benchPiece)
		if err := s.Sync(); err != nil {
			b.Fatal(err)
		}
		written := s.Stats().BytesWritten
		if err := s.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
		disk, anon := samples.stop()
		n := len(disk) / 10
		b.ReportMetric(float64(peakOf(disk))/budget, "disk/budget")
		b.ReportMetric(float64(peakOf(disk[9*n:]))/float64(peakOf(disk[n:2*n])), "growth")
		b.ReportMetric((writtenByProcess(b)-before)/float64(written), "written/stored")
		b.ReportMetric(anon, "anon-MiB")
	}
}

// BenchmarkShrink makes a full cache of 10 GiB one of 1 GiB: how long that takes,
// while nobody reads and while a film is streamed, and how long that had to wait for
// a piece.
func BenchmarkShrink(b *testing.B) {
	total := benchMiB(b, 10<<10)
	for _, reading := range []bool{false, true} {
		b.Run(map[bool]string{false: "idle", true: "reading"}[reading], func(b *testing.B) {
			for range b.N {
				shrinkAll(b, total, reading)
			}
		})
	}
}

func shrinkAll(b *testing.B, total int64, reading bool) {
	opts := Options{Dir: benchDir(b), Budget: total << 20}
	s, err := Open(opts)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close(context.Background())
	newFilm(b, s, 1, int(total)).stream(int(total))
	if err := s.Sync(); err != nil {
		b.Fatal(err)
	}
	var stop atomic.Bool
	var longest time.Duration
	var reader sync.WaitGroup
	if reading {
		const long = 1 << 20 // longer than it can last
		f := newFilm(b, s, 2, long)
		reader.Go(func() {
			for i := 0; i < long && !stop.Load(); i++ {
				begun := time.Now()
				if err := f.read(i); err != nil {
					b.Error(err)
					return
				}
				longest = max(longest, time.Since(begun))
			}
		})
	}
	b.ResetTimer()
	smaller := total << 20 / 10
	if err := s.SetBudget(smaller); err != nil {
		b.Fatal(err)
	}
	for treeUsage(opts.Dir) > smaller*105/100 {
		time.Sleep(20 * time.Millisecond)
	}
	b.StopTimer()
	stop.Store(true)
	reader.Wait()
	b.ReportMetric(float64(longest.Milliseconds()), "longest-wait-ms")
	b.ReportMetric(float64(s.Stats().DiskLive)/float64(smaller), "kept/budget")
}
