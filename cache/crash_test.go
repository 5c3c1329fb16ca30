package cache

import (
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// copyDir copies a folder that is being written to, as a crash would leave it
// or worse: the files are not of one moment.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		src, err := os.Open(filepath.Join(from, e.Name()))
		if err != nil {
			continue // collected meanwhile
		}
		dst, err := os.Create(filepath.Join(to, e.Name()))
		if err == nil {
			_, err = io.Copy(dst, src)
			dst.Close()
		}
		src.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// wantAllRight opens a store and reads all it holds. It returns how much.
func wantAllRight(t *testing.T, opts Options, data []byte, g Geometry) int {
	t.Helper()
	s := openStore(t, opts)
	defer closeStore(t, s)
	if err := s.Degraded(); err != nil {
		t.Errorf("the store does not start: %v", err)
	}
	v := openVolume(t, s, 1, g)
	held := 0
	for i := range g.NumPieces() {
		if v.Has(i) {
			if wantHeldRight(t, v, data, i) {
				held++
			} else if v.Has(i) {
				t.Errorf("piece %d is held and cannot be read", i)
			}
		}
	}
	return held
}

func TestCopyOfTheFolderAtAnyMomentHoldsOnlyRightPieces(t *testing.T) {
	data, g := content(7, 200_000, 24<<20)
	dir := fastDir(t)
	opts := Options{Dir: filepath.Join(dir, "live"), Budget: 24 << 20, Memory: 4 << 20, floor: 1}
	s := openStore(t, opts)
	v := openVolume(t, s, 1, g)
	rng := rand.New(rand.NewPCG(1, 2))
	copies, useful := 0, 0
	for range 3 {
		for i := range g.NumPieces() {
			if !v.Has(i) {
				put(t, v, data, i)
			}
			if rng.IntN(20) != 0 {
				continue
			}
			if copies%2 == 0 { // the others are taken in the middle of writing
				if err := s.Sync(); err != nil {
					t.Fatal(err)
				}
			}
			copied := filepath.Join(dir, "copy")
			copyDir(t, filepath.Join(opts.Dir, "pieces"), filepath.Join(copied, "pieces"))
			after := opts
			after.Dir = copied
			copies++
			if wantAllRight(t, after, data, g) > 0 {
				useful++
			}
			if err := os.RemoveAll(copied); err != nil {
				t.Fatal(err)
			}
		}
	}
	if useful < copies/2 {
		t.Errorf("only %d of %d copies held anything", useful, copies)
	}
}

// smallLog makes a database whose pieces are all in its last log file, and returns
// the folder that pieces/ is in, and that file.
func smallLog(t *testing.T, data []byte, g Geometry) (dir, log string) {
	t.Helper()
	dir = fastDir(t)
	s := openStore(t, Options{Dir: dir, Budget: cutBudget, Memory: 4 << 20, floor: 1})
	v := openVolume(t, s, 1, g)
	for i := range g.NumPieces() {
		put(t, v, data, i)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	// As kill -9 leaves it: closing would write everything.
	killed := filepath.Join(dir, "killed")
	copyDir(t, filepath.Join(dir, "pieces"), filepath.Join(killed, "pieces"))
	closeStore(t, s)
	logs, err := filepath.Glob(filepath.Join(killed, "pieces", "*.vlog"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("log files: %q, %v, want one", logs, err)
	}
	return killed, logs[0]
}

const cutBudget = 1 << 30

var cuts = flag.Int("cuts", 30, "places to damage the value log at; 0: every 4 KiB")

// TestLogThatIsCutOrTornAnywhereHoldsOnlyRightPieces cuts the value log, as a
// crash of the machine may, and fills pages of it with zeros, as one does that
// writes pages out of order. What is not in it any more is missing, the rest is
// right.
func TestLogThatIsCutOrTornAnywhereHoldsOnlyRightPieces(t *testing.T) {
	const page = 4 << 10
	data, g := content(11, 256<<10, 8<<20)
	dir, log := smallLog(t, data, g)
	used := g.Length * 101 / 100
	var places []int64
	if *cuts == 0 {
		for at := int64(0); at < used; at += page {
			places = append(places, at)
		}
	} else {
		rng := rand.New(rand.NewPCG(5, 6))
		for range *cuts {
			places = append(places, rng.Int64N(used))
		}
	}
	for _, torn := range []bool{false, true} {
		opts := Options{Dir: filepath.Join(dir, "copy"), Budget: cutBudget, Memory: 4 << 20, floor: 1}
		held, fewest := 0, g.NumPieces()
		for _, at := range places {
			copyDir(t, filepath.Join(dir, "pieces"), filepath.Join(opts.Dir, "pieces"))
			path := filepath.Join(opts.Dir, "pieces", filepath.Base(log))
			if torn {
				tear(t, path, at/page*page, page)
			} else if err := os.Truncate(path, at); err != nil {
				t.Fatal(err)
			}
			n := wantAllRight(t, opts, data, g)
			held, fewest = held+n, min(fewest, n)
			if t.Failed() {
				t.Fatalf("log damaged at %d, torn %v", at, torn)
			}
			if err := os.RemoveAll(opts.Dir); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("torn %v, %d places: %d of %d pieces are held on average, %d at least", torn, len(places), held/len(places), g.NumPieces(), fewest)
		if held == 0 {
			t.Errorf("torn %v: nothing was held whatever was damaged", torn)
		}
	}
}

func tear(t *testing.T, path string, at, n int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, n), at); err != nil {
		t.Fatal(err)
	}
}
