package cache

import (
	"testing"
	"time"
)

// churn commits pieces that nobody reads again until the store has written so many
// bytes.
func churn(t *testing.T, s *Store, v *Volume, data []byte, bytes int64) {
	t.Helper()
	until := s.Stats().BytesWritten + bytes
	for i := 0; s.Stats().BytesWritten < until; i = (i + 1) % v.geometry.NumPieces() {
		if !v.Has(i) {
			put(t, v, data, i)
		}
		if i%8 == 0 {
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// held counts the pieces that are held of the first n.
func heldOf(v *Volume, n int) (held int) {
	for i := range n {
		if v.Has(i) {
			held++
		}
	}
	return held
}

// TestHintsDecideWhatIsKept fills a store several times over beside a few pieces.
func TestHintsDecideWhatIsKept(t *testing.T) {
	data, g := content(1, 256<<10, 4<<20)
	film, filmG := content(2, 256<<10, 80<<20)
	n := g.NumPieces()
	for _, x := range []struct {
		name string
		hint func(s *Store, v *Volume)
		kept int
	}{
		{"nothing", func(*Store, *Volume) {}, 0},
		{"window", func(_ *Store, v *Volume) { v.Window(1, Span{0, n}) }, n},
		{"window that has gone on", func(_ *Store, v *Volume) {
			v.Window(1, Span{0, n})
			v.Window(1, Span{})
		}, 0},
		{"windows of a torrent that is gone", func(_ *Store, v *Volume) {
			v.Window(1, Span{0, n})
			v.CloseWindows()
		}, 0},
		{"edges", func(_ *Store, v *Volume) { v.Protect(Span{-1, 4}, Span{n - 2, n + 9}) }, 6},
		{"read again", func(s *Store, v *Volume) { readLater(t, s, v, (*Volume).ReadAt) }, n},
		{"uploaded again", func(s *Store, v *Volume) { readLater(t, s, v, (*Volume).Peek) }, 0},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := openStore(t, Options{Dir: fastDir(t), Budget: 32 << 20, Memory: 2 << 20, floor: 1})
			v := openVolume(t, s, 1, g)
			for i := range n {
				put(t, v, data, i)
			}
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			x.hint(s, v)
			churn(t, s, openVolume(t, s, 2, filmG), film, 100<<20)
			if got := heldOf(v, n); got != x.kept {
				t.Errorf("%d of %d pieces are kept, want %d", got, n, x.kept)
			}
		})
	}
}

// readLater reads all pieces an hour after they were written.
func readLater(t *testing.T, s *Store, v *Volume, read func(*Volume, int, []byte, int) (int, error)) {
	t.Helper()
	s.mu.Lock()
	s.began = s.began.Add(-time.Hour)
	s.mu.Unlock()
	for i := range v.geometry.NumPieces() {
		if _, err := read(v, i, make([]byte, 1), 0); err != nil {
			t.Fatal(err)
		}
	}
}
