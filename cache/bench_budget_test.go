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

// stream is one handle that reads a film of so many pieces in order, each of them
// fetched just before it is read.
func stream(b *testing.B, s *Store, id byte, pieces int, data []byte, sum []byte) {
	g := Geometry{PieceLength: benchPiece, Length: int64(pieces) * benchPiece, Sums: bytes.Repeat(sum, pieces)}
	v, err := s.Volume([20]byte{id}, g)
	if err != nil {
		b.Error(err)
		return
	}
	room := make(chan struct{}, 1)
	v.Notify(nil, func() {
		select {
		case room <- struct{}{}:
		default:
		}
	})
	p := make([]byte, benchPiece)
	for i := range pieces {
		d, err := v.Draft(i, true)
		for errors.Is(err, ErrNoRoom) {
			<-room
			d, err = v.Draft(i, true)
		}
		for off := 0; err == nil && off < benchPiece; off += BlockSize {
			_, err = d.WriteBlock(off, data[off:off+BlockSize])
		}
		if err == nil && !d.Verify() {
			err = errors.New("wrong sum")
		}
		if err == nil {
			err = d.Commit()
		}
		if err == nil {
			_, err = v.ReadAt(i, p, 0)
		}
		if err != nil {
			b.Error(err)
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
	data, g := content(1, benchPiece, benchPiece)
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
		streams.Go(func() { stream(b, s, id, int(total/handles), data, g.Sums) })
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
		data, g := content(1, benchPiece, benchPiece)
		opts := Options{Dir: benchDir(b), Budget: budget}
		s, err := Open(opts)
		if err != nil {
			b.Fatal(err)
		}
		before, samples := writtenByProcess(b), startSampler(opts.Dir, 100*time.Millisecond)
		b.SetBytes(100 * budget)
		stream(b, s, 1, 100*budget/benchPiece, data, g.Sums)
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
	data, g := content(1, benchPiece, benchPiece)
	opts := Options{Dir: benchDir(b), Budget: total << 20}
	s, err := Open(opts)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close(context.Background())
	stream(b, s, 1, int(total), data, g.Sums)
	if err := s.Sync(); err != nil {
		b.Fatal(err)
	}
	var stop atomic.Bool
	var longest time.Duration
	var reader sync.WaitGroup
	if reading {
		reader.Go(func() {
			for id := byte(2); !stop.Load(); id++ {
				for range 20 {
					begun := time.Now()
					stream(b, s, id, 1, data, g.Sums)
					longest = max(longest, time.Since(begun))
					id++
				}
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
