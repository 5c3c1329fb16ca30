package cache

import (
	"bytes"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// copyData copies a data folder. See copyDir.
func copyData(t *testing.T, from, to string) {
	t.Helper()
	for _, sub := range []string{"", "pieces", "torrents"} {
		copyDir(t, filepath.Join(from, sub), filepath.Join(to, sub))
	}
}

// copyDir copies the files of a folder, not what is below it. It may be written
// to meanwhile: that is what a crash would leave or worse, as the files are not of
// one moment.
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
		if !e.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(from, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // collected meanwhile
		}
		if err == nil {
			err = writeSparse(filepath.Join(to, e.Name()), text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// writeSparse writes a file without the zeros at its end.
func writeSparse(path string, text []byte) error {
	used := bytes.TrimRight(text, "\x00")
	return errors.Join(os.WriteFile(path, used, 0o644), os.Truncate(path, int64(len(text))))
}

// wantAllHeldRight reads all pieces of a volume that it holds, and returns how many.
func wantAllHeldRight(t *testing.T, v *Volume, data []byte) (held int) {
	t.Helper()
	for i := range v.geometry.NumPieces() {
		if wantHeldRight(t, v, data, i) {
			held++
		} else if v.Has(i) {
			t.Fatalf("piece %d is held and cannot be read", i)
		}
	}
	return held
}

// wantAllRight opens a store and reads all it holds. It returns how much.
func wantAllRight(t *testing.T, opts Options, data []byte, g Geometry) int {
	t.Helper()
	s := openStore(t, opts)
	defer closeStore(t, s)
	if err := s.Degraded(); err != nil {
		t.Errorf("the store does not start: %v", err)
	}
	return wantAllHeldRight(t, openVolume(t, s, 1, g), data)
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
