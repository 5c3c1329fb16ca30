package cache

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// homeOptions are of a store that looks often at its folder, which is the only
// one in another that the test may do with as it likes.
func homeOptions(t *testing.T) Options {
	t.Helper()
	return Options{Dir: filepath.Join(fastDir(t), "data"), Budget: 32 << 20, Memory: 4 << 20, floor: 1, look: 10 * time.Millisecond}
}

// eventually waits for a condition that has no event of its own.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s", what)
		}
	}
}

// heldPieces counts the pieces that are held, all of which must be right.
func heldPieces(t *testing.T, v *Volume, data []byte) int {
	t.Helper()
	n := 0
	for i := range v.geometry.NumPieces() {
		if v.Has(i) && wantHeldRight(t, v, data, i) {
			n++
		}
	}
	return n
}

func TestACacheWhoseFolderIsDeletedBeginsAnew(t *testing.T) {
	for _, what := range []string{"", "pieces"} {
		t.Run("data/"+what, func(t *testing.T) {
			data, g := content(5, 256<<10, 8<<20)
			opts := homeOptions(t)
			s := openStore(t, opts)
			v := openVolume(t, s, 1, g)
			gone := make(chan int, 1000)
			v.Notify(func(piece int) { gone <- piece }, nil)
			for i := range g.NumPieces() {
				put(t, v, data, i)
			}
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(opts.Dir, what)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the loss to be told", func() bool { return len(gone) > g.NumPieces()/3 })
			eventually(t, "the cache to begin anew", func() bool {
				_, err := os.Stat(filepath.Join(opts.Dir, "pieces", "MANIFEST"))
				return err == nil && s.Degraded() == nil
			})
			for i := range g.NumPieces() {
				if !v.Has(i) {
					put(t, v, data, i)
				}
			}
			eventually(t, "the pieces to be written", func() bool { return s.Stats().Unwritten == 0 })
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			if held := heldPieces(t, v, data); held != g.NumPieces() {
				t.Errorf("%d of %d pieces are held", held, g.NumPieces())
			}
			closeStore(t, s)
			if held := wantAllRight(t, opts, data, g); held < g.NumPieces()/2 {
				t.Errorf("%d of %d pieces are held after a start", held, g.NumPieces())
			}
		})
	}
}

func TestACacheMovesIntoTheFolderThatTookThePlaceOfItsOwn(t *testing.T) {
	data, g := content(5, 256<<10, 8<<20)
	opts := homeOptions(t)
	parent := filepath.Dir(opts.Dir)
	// Another data folder, with other pieces.
	other := opts
	other.Dir = filepath.Join(parent, "other")
	s := openStore(t, other)
	v := openVolume(t, s, 1, g)
	for i := 0; i < g.NumPieces(); i += 2 {
		put(t, v, data, i)
	}
	closeStore(t, s)

	s = openStore(t, opts)
	defer closeStore(t, s)
	v = openVolume(t, s, 1, g)
	for i := 1; i < g.NumPieces(); i += 2 {
		put(t, v, data, i)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	found := make(chan int, 1000)
	v.NotifyFound(func(piece int) { found <- piece })
	lock, err := Lock(other.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(opts.Dir, filepath.Join(parent, "away")), os.Rename(other.Dir, opts.Dir)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the lock of the other folder to be noticed", func() bool { return errors.As(s.Degraded(), new(*LockedError)) })
	put(t, v, data, 0) // into memory
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other folder to be used", func() bool { return s.Degraded() == nil })
	eventually(t, "its pieces to be told", func() bool { return len(found) == g.NumPieces()/2 })
	for i := 0; i < g.NumPieces(); i += 2 {
		if !wantHeldRight(t, v, data, i) {
			t.Errorf("piece %d of the other folder is not held", i)
		}
	}
}

func TestACacheWhoseFolderCannotBeMadeComesWhenItCan(t *testing.T) {
	data, g := content(5, 256<<10, 1<<20)
	opts := homeOptions(t)
	inTheWay := filepath.Dir(opts.Dir) + "/file"
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	opts.Dir = filepath.Join(inTheWay, "data")
	s := openStore(t, opts)
	defer closeStore(t, s)
	v := openVolume(t, s, 1, g)
	if err := s.Degraded(); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("degraded: %v", err)
	}
	put(t, v, data, 0)
	wantHeldRight(t, v, data, 0)
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cache on disk", func() bool { return s.Degraded() == nil })
	put(t, v, data, 1)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats().DiskLive; got != 512<<10 {
		t.Errorf("%d bytes are on disk, want two pieces: that of before, and the new one", got)
	}
}
