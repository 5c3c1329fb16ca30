package cache

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPinnedPiecesAreNeverEvicted(t *testing.T) {
	const budget = 64 << 20
	data, g := content(4, 1<<20, 96<<20)
	s := openStore(t, Options{Dir: fastDir(t), Budget: budget, Memory: 8 << 20, floor: 1})
	v := openVolume(t, s, 1, g)
	// Those written first would go first; one is still to come.
	if err := v.Pin(Span{0, 10}, Span{90, 91}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for i := range g.NumPieces() {
			if !v.Has(i) {
				put(t, v, data, i)
			}
		}
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	st := s.Stats()
	if st.Evicted == 0 || st.Pinned != 11<<20 || s.Degraded() != nil {
		t.Errorf("got %+v, %v, want evictions around 11 MiB of pins", st, s.Degraded())
	}
	for _, i := range []int{0, 1, 9, 90} {
		wantPiece(t, v, data, i)
	}
	if st.DiskLive > liveTarget(budget, logFileSize(budget)) {
		t.Errorf("%d bytes are live, want at most %d", st.DiskLive, liveTarget(budget, logFileSize(budget)))
	}
	// Unpinned they go like the others.
	v.Unpin(Span{0, 1000})
	for i := range g.NumPieces() {
		if !v.Has(i) {
			put(t, v, data, i)
		}
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if v.Has(0) && v.Has(1) && v.Has(9) {
		t.Error("what was unpinned is still there, though it was written first")
	}
	if got := s.Stats().Pinned; got != 0 {
		t.Errorf("%d bytes are pinned, want 0", got)
	}
}

func TestWhatAStoreKeepsIsNotEvicted(t *testing.T) {
	const budget = 64 << 20
	data, g := content(4, 1<<20, 96<<20)
	s := openStore(t, Options{Dir: fastDir(t), Budget: budget, Memory: 8 << 20, floor: 1})
	v := openVolume(t, s, 1, g)
	before := s.Keeps()
	if err := v.Pin(Span{90, 94}); err != nil {
		t.Fatal(err)
	}
	if got := s.Keeps(); got != before-4<<20 {
		t.Errorf("with 4 MiB of pins %d bytes are kept, want so much less than %d", got, before)
	}
	for i := range 94 {
		if i < int(s.Keeps()>>20) || i >= 90 {
			put(t, v, data, i)
		}
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Evicted != 0 || st.DiskLive < budget/2 {
		t.Errorf("%d pieces were evicted, %d bytes are held", st.Evicted, st.DiskLive)
	}
	if got := openStore(t, Options{Memory: 8 << 20}).Keeps(); got != 4<<20 {
		t.Errorf("in memory alone %d bytes are kept, want half of it", got)
	}
}

func TestPinsThatDoNotFitAreRefusedWithNumbers(t *testing.T) {
	const budget = 64 << 20
	_, g := content(4, 1<<20, 96<<20)
	s := openStore(t, Options{Dir: fastDir(t), Budget: budget, Memory: 8 << 20, floor: 1})
	v := openVolume(t, s, 1, g)
	if err := v.Pin(Span{0, 5}); err != nil {
		t.Fatal(err)
	}
	var full *PinError
	if err := v.Pin(Span{0, 96}); !errors.As(err, &full) {
		t.Fatalf("got %v, want a PinError", err)
	}
	if *full != (PinError{Need: 91 << 20, Pinned: 5 << 20, Limit: pinLimit(budget-otherBytes(s), logFileSize(budget))}) {
		t.Errorf("got %+v", *full)
	}
	if text := full.Error(); !strings.Contains(text, "91.0 MiB do not fit: 5.0 MiB of the cache's ") {
		t.Errorf("got %q", text)
	}
	if got := s.Stats().Pinned; got != 5<<20 {
		t.Errorf("after the refusal %d bytes are pinned, want 5 MiB", got)
	}
	if err := v.Pin(Span{0, 5}); err != nil {
		t.Errorf("what is pinned already is refused: %v", err)
	}
}

func TestMemoryAlonePinsNothing(t *testing.T) {
	_, g := content(4, 1<<20, 4<<20)
	for name, opts := range map[string]Options{"no folder": {}, "no budget": {Dir: fastDir(t)}} {
		s := openStore(t, opts)
		if err := openVolume(t, s, 1, g).Pin(Span{0, 1}); !errors.Is(err, ErrNoPins) {
			t.Errorf("%s: got %v, want ErrNoPins", name, err)
		}
		why := errors.New("disk is gone")
		s.setDegraded(why)
		if err := openVolume(t, s, 1, g).Pin(Span{0, 1}); !errors.Is(err, ErrNoPins) || !errors.Is(err, why) {
			t.Errorf("%s: got %v, want ErrNoPins and the reason", name, err)
		}
	}
}

// Whatever is pinned and unpinned, the sum is that of the set of pieces.
func TestPinsAreCountedOnce(t *testing.T) {
	s := openStore(t, Options{Dir: fastDir(t), Budget: 1 << 30, Memory: 8 << 20, floor: 1})
	_, g := content(4, 1<<20, 40<<20+12345)
	id := byte(0)
	rapid.Check(t, func(rt *rapid.T) {
		id++
		v := openVolume(t, s, id, g)
		before, set := s.Stats().Pinned, map[int]bool{}
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			first := rapid.IntRange(-3, 45).Draw(rt, "first")
			span := Span{first, first + rapid.IntRange(-1, 45).Draw(rt, "n")}
			on := rapid.Bool().Draw(rt, "pin")
			for i := max(span.First, 0); i < min(span.End, g.NumPieces()); i++ {
				if on {
					set[i] = true
				} else {
					delete(set, i)
				}
			}
			if on {
				if err := v.Pin(span); err != nil {
					rt.Fatal(err)
				}
			} else {
				v.Unpin(span)
			}
			want := before
			for i := range set {
				want += int64(g.PieceSize(i))
			}
			if got := s.Stats().Pinned; got != want {
				rt.Fatalf("got %d bytes pinned, want %d", got, want)
			}
		}
		v.Unpin(Span{0, g.NumPieces()})
	})
}

func TestADiskFullOfPinsDoesNotHangTheWriter(t *testing.T) {
	data, g := content(4, 1<<20, 96<<20)
	s := openStore(t, Options{Dir: fastDir(t), Budget: 64 << 20, Memory: 8 << 20, floor: 1})
	v := openVolume(t, s, 1, g)
	s.mu.Lock() // as if the budget had been larger when they were pinned
	v.pins = newBitmap(g.NumPieces())
	for i := range g.NumPieces() {
		v.pins.set(i)
	}
	s.mu.Unlock()
	for i := range g.NumPieces() {
		put(t, v, data, i)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := s.Degraded(); !errors.Is(err, errDiskFull) {
		t.Errorf("got %v, want a full disk", err)
	}
}
