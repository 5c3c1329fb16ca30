package fs

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"swarmfs/metainfo"
)

// BenchmarkSequentialRead reads 1 GiB through a mount with dd, from memory and
// with a cold page cache, and reports the CPU seconds a GiB costs this process
// (srv, with one copy of the data as from a cache in RAM) and the reader (cli). It is what maxRead and readAheadKiB come from.
func BenchmarkSequentialRead(b *testing.B) {
	for _, c := range []struct{ maxReadKiB, readAheadKiB int }{
		{128, 128}, {128, 1024}, {256, 1024}, {512, 1024}, {1024, 1024}, {1024, 2048}, {1024, 4096},
	} {
		b.Run(fmt.Sprintf("read=%dK/ahead=%dK", c.maxReadKiB, c.readAheadKiB), func(b *testing.B) {
			benchmarkSequentialRead(b, c.maxReadKiB<<10, c.readAheadKiB)
		})
	}
}

func benchmarkSequentialRead(b *testing.B, maxRead, readAheadKiB int) {
	needFUSE(b)
	const size = 1 << 30
	info := newInfo(b, "big", spec{length: size})
	var server, client time.Duration
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		s := New(Options{Logger: testLog(b)})
		mustAdd(b, s, memory{info})
		dir := mountpoint(b)
		o := mountOptions(&s.opts, s.onPanic)
		o.MaxWrite = maxRead
		if err := s.mountWith(dir, o, readAheadKiB); err != nil {
			b.Fatal(err)
		}
		server -= cpuTime(b, syscall.RUSAGE_SELF)
		client -= cpuTime(b, syscall.RUSAGE_CHILDREN)
		output(b, command(b, time.Minute, "dd", "if="+dir+"/big", "of=/dev/null", "bs=1M", "status=none"))
		server += cpuTime(b, syscall.RUSAGE_SELF)
		client += cpuTime(b, syscall.RUSAGE_CHILDREN)
		if err := s.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(server.Seconds()/float64(b.N), "srv-s/GiB")
	b.ReportMetric(client.Seconds()/float64(b.N), "cli-s/GiB")
}

func cpuTime(tb testing.TB, who int) time.Duration {
	tb.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(who, &r); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// memory is a torrent whose pieces are in RAM.
type memory struct{ info *metainfo.Info }

var memoryBlock = make([]byte, 16<<20)

func (m memory) Info() *metainfo.Info   { return m.info }
func (m memory) Created() time.Time     { return time.Unix(0, 0) }
func (m memory) Open(int) (File, error) { return m, nil }
func (m memory) Close() error           { return nil }
func (m memory) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return copy(p, memoryBlock[off%int64(len(memoryBlock)-len(p)+1):]), nil
}
