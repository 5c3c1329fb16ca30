package cache

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRecycledLogsKeepTheirBytes writes through Badger and syncs: what was written
// takes no memory any more, and is read back as it was.
func TestRecycledLogsKeepTheirBytes(t *testing.T) {
	dir := t.TempDir()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type == unix.TMPFS_MAGIC {
		t.Skip("memory is the disk here")
	}
	d, err := openBadger(dir, 64<<20, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	chunk := bytes.Repeat([]byte("recycled"), maxChunk/8)
	key := pieceKey{piece: 7, size: 16 * maxChunk, chunk: maxChunk}
	chunks := make([][]byte, 16)
	for i := range chunks {
		chunks[i] = chunk
	}
	if err := d.write([]record{{key, chunks}}); err != nil {
		t.Fatal(err)
	}
	if err := d.sync(); err != nil {
		t.Fatal(err)
	}
	before := residentBytes(t, dir)
	recycle(dir)
	after := residentBytes(t, dir)
	if gone := before - after; gone < int64(key.size)/10*9 { // the kernel had read ahead beyond it
		t.Errorf("%d bytes of memory for the logs before, %d after; want %d less", before, after, key.size)
	}
	got := make([]byte, key.size)
	if err := d.read(key, got, 0); err != nil || !bytes.Equal(got, bytes.Repeat(chunk, 16)) {
		t.Errorf("read back: error %v, bytes differ", err)
	}
}

// residentBytes returns how much of the logs in a folder is in memory.
func residentBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var in unix.Cachestat_t
		err = unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &in, 0)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		n += int64(in.Cache) * int64(os.Getpagesize())
	}
	return n
}
