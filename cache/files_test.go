package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// layFiles writes data as files of these lengths; a negative one is padding.
func layFiles(t *testing.T, data []byte, lengths ...int64) (string, []Extent) {
	t.Helper()
	dir := t.TempDir()
	var extents []Extent
	at := int64(0)
	for i, n := range lengths {
		e := Extent{Offset: at, Length: max(n, -n), Zero: n < 0, Path: filepath.Join(dir, fmt.Sprint(i))}
		if !e.Zero {
			if err := os.WriteFile(e.Path, data[at:at+n], 0o644); err != nil {
				t.Fatal(err)
			}
		}
		extents = append(extents, e)
		at += e.Length
	}
	return dir, extents
}

func openFiles(t *testing.T, extents []Extent, g Geometry) *Files {
	t.Helper()
	f, err := OpenFiles(extents, g)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// manyFiles is a volume of more files than are kept open, with padding and
// empty files between them.
func manyFiles(t *testing.T) (data []byte, g Geometry, dir string, extents []Extent) {
	data, _ = content(5, 50_000, 1_000_000)
	lengths := []int64{0, 30_000, -20_000, 250_000}
	clear(data[30_000:50_000])
	for range 200 {
		lengths = append(lengths, 3000, 0)
	}
	lengths = append(lengths, 100_000)
	dir, extents = layFiles(t, data, lengths...)
	g = geometryOf(data, 50_000)
	return data, g, dir, extents
}

func TestFilesServeWhatTheyVerified(t *testing.T) {
	data, g, _, extents := manyFiles(t)
	f := openFiles(t, extents, g)
	if _, err := f.ReadAt(0, make([]byte, 1), 0); !errors.Is(err, ErrMissing) {
		t.Errorf("read before verify: %v", err)
	}
	var found atomic.Int32
	err := f.Verify(t.Context(), 4, func(piece int, ok bool) {
		if !ok || !f.Has(piece) {
			t.Errorf("piece %d: %v", piece, ok)
		}
		found.Add(1)
	})
	if err != nil || int(found.Load()) != g.NumPieces() {
		t.Fatalf("verify: %d pieces, %v", found.Load(), err)
	}
	for i := range g.NumPieces() {
		want := pieceOf(data, g, i)
		for _, off := range []int{0, 1, 29_999, len(want) - 1, len(want)} {
			got := make([]byte, len(want))
			n, err := f.ReadAt(i, got, off)
			if err != nil || !slices.Equal(got[:n], want[off:]) {
				t.Fatalf("piece %d from %d: %d bytes, %v", i, off, n, err)
			}
		}
	}
	if n := len(f.fds.open); n > maxOpenFiles {
		t.Errorf("%d files are open", n)
	}
	if _, err := f.Draft(0, true); !errors.Is(err, ErrReadOnly) {
		t.Errorf("draft: %v", err)
	}
}

func TestDamagedFilesMakeTheirPiecesMissing(t *testing.T) {
	_, g, _, extents := manyFiles(t)
	short, gone, wrong, fifo := extents[1], extents[3], extents[10], extents[len(extents)-1]
	err := errors.Join(
		os.Truncate(short.Path, short.Length-1),
		os.Remove(gone.Path),
		os.WriteFile(wrong.Path, make([]byte, wrong.Length), 0o644),
		os.Remove(fifo.Path), unix.Mkfifo(fifo.Path, 0o644),
	)
	if err != nil {
		t.Fatal(err)
	}
	want := newBitmap(g.NumPieces())
	for i := range g.NumPieces() {
		from, to := int64(i)*g.PieceLength, int64(i)*g.PieceLength+int64(g.PieceSize(i))
		if !slices.ContainsFunc([]Extent{short, gone, wrong, fifo}, func(e Extent) bool {
			return e.Offset < to && from < e.Offset+e.Length
		}) {
			want.set(i)
		}
	}
	f := openFiles(t, extents, g)
	if err := f.Verify(t.Context(), 2, nil); err != nil {
		t.Fatal(err)
	}
	if got := f.Pieces(); !slices.Equal(got, want) {
		t.Errorf("held %b, want %b", got, want)
	}
}

func TestAFileThatShrinksLaterIsMissedOnce(t *testing.T) {
	data, g := content(1, 50_000, 100_000)
	_, extents := layFiles(t, data, 100_000)
	f := openFiles(t, extents, g)
	if err := f.Verify(t.Context(), 1, nil); err != nil {
		t.Fatal(err)
	}
	var told []int
	f.Notify(func(piece int) { told = append(told, piece) }, nil)
	if err := os.Truncate(extents[0].Path, 70_000); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := f.ReadAt(1, make([]byte, 50_000), 0); !errors.Is(err, ErrMissing) {
			t.Errorf("read of what is gone: %v", err)
		}
	}
	if !slices.Equal(told, []int{1}) || !f.Has(0) || f.Has(1) {
		t.Errorf("told of %v, has %v %v", told, f.Has(0), f.Has(1))
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	_, g, _, extents := manyFiles(t)
	f := openFiles(t, extents, g)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := f.Verify(ctx, 1, func(int, bool) {
		n++
		cancel()
	})
	if !errors.Is(err, context.Canceled) || n != 1 {
		t.Errorf("%d pieces after the end, %v", n-1, err)
	}
}

func TestExtentsMustCoverTheVolume(t *testing.T) {
	_, g := content(1, 50_000, 100_000)
	for name, extents := range map[string][]Extent{
		"none":       nil,
		"gap":        {{Path: "a", Length: 10}, {Path: "b", Offset: 20, Length: 99_980}},
		"overlap":    {{Path: "a", Length: 60_000}, {Path: "b", Offset: 50_000, Length: 50_000}},
		"short":      {{Path: "a", Length: 99_999}},
		"long":       {{Path: "a", Length: 100_001}},
		"negative":   {{Path: "a", Length: 100_000}, {Path: "b", Offset: 0, Length: -1}},
		"overflow":   {{Path: "a", Length: 100}, {Path: "b", Offset: 100, Length: 1<<63 - 1}},
		"far offset": {{Path: "a", Offset: 1 << 62, Length: 1 << 62}},
	} {
		if _, err := OpenFiles(extents, g); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestGeometryIsChecked(t *testing.T) {
	sums := make([]byte, 40)
	for _, c := range []struct {
		g  Geometry
		ok bool
	}{
		{Geometry{1 << 20, 2 << 20, sums}, true},
		{Geometry{1 << 20, 1<<20 + 1, sums}, true},
		{Geometry{1, 2, sums}, true},
		{Geometry{1 << 20, 0, nil}, true},
		{Geometry{1 << 20, 1 << 20, sums}, false},
		{Geometry{1 << 20, 2<<20 + 1, sums}, false},
		{Geometry{0, 2, sums}, false},
		{Geometry{-1, 2, sums}, false},
		{Geometry{1, -2, sums}, false},
		{Geometry{1, 2, sums[1:]}, false},
		{Geometry{maxPieceLength + 1, 1 << 40, sums}, false},
		{Geometry{1 << 20, 1<<63 - 1, sums}, false},
	} {
		if err := c.g.check(); (err == nil) != c.ok {
			t.Errorf("piece length %d, length %d, %d sums: %v", c.g.PieceLength, c.g.Length, len(c.g.Sums)/20, err)
		}
	}
}
