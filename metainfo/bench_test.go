package metainfo

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/anacrolix/torrent/bencode"

	"swarmfs/metainfo/metainfotest"
)

func BenchmarkParse20000Files(b *testing.B) {
	data := metainfotest.ManyFiles(20_000).Bytes()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLibrary20000Files is why lists of files are not left to the library.
func BenchmarkLibrary20000Files(b *testing.B) {
	data := metainfotest.ManyFiles(20_000).Bytes()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var x struct {
			Info struct {
				Files []struct {
					Length int64    `bencode:"length"`
					Path   []string `bencode:"path"`
				} `bencode:"files"`
			} `bencode:"info"`
		}
		if err := bencode.Unmarshal(data, &x); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHeld20000Files reports what stays in memory, tree included.
func BenchmarkHeld20000Files(b *testing.B) {
	data := metainfotest.ManyFiles(20_000).Bytes()
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		t, err := Parse(data)
		if err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc), "held-B")
		runtime.KeepAlive(t)
	}
}

func BenchmarkScan(b *testing.B) {
	data := metainfotest.ManyFiles(20_000).Bytes()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := scan(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	t, err := Parse(metainfotest.ManyFiles(20_000).Bytes())
	if err != nil {
		b.Fatal(err)
	}
	tree := t.Info.Tree()
	dir, _ := tree.Lookup(Root, "d100")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := tree.Lookup(dir, "f10050"); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkCreate(b *testing.B) {
	path := filepath.Join(b.TempDir(), "data")
	const size = 256 << 20
	if err := os.WriteFile(path, make([]byte, size), 0o666); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Create(b.Context(), path, CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
