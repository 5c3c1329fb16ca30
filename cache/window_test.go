package cache

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Without a disk, drafts that nobody waits for leave what a reader is about to read,
// and are told of room when the reader has moved on.
func TestAWindowHoldsInMemory(t *testing.T) {
	data, g := content(1, 1<<20, 16<<20)
	s := openStore(t, Options{Memory: 8 << 20})
	v := openVolume(t, s, 1, g)
	room := make(chan struct{}, 8)
	v.Notify(nil, func() { room <- struct{}{} })
	v.Window(1, Span{0, 16})
	for i := range 6 {
		put(t, v, data, i)
	}
	if _, err := v.Draft(6, false); !errors.Is(err, ErrNoRoom) {
		t.Fatalf("a draft beside six pieces in a window: %v", err)
	}
	wantPiece(t, v, data, 0)
	v.Window(1, Span{1, 16})
	<-room
	put(t, v, data, 6)
	for i := 1; i < 7; i++ {
		if !v.Has(i) {
			t.Errorf("piece %d is not held", i)
		}
	}
	v.CloseWindows()
	for i := 7; i < 16; i++ {
		put(t, v, data, i)
	}
	if s.Stats().MemoryUsed != 8<<20 {
		t.Errorf("%d bytes used when nothing is read, want all 8 MiB", s.Stats().MemoryUsed)
	}
}

// A piece that a reader waits for gets its memory although windows hold all of it:
// that of the piece which will be read last.
func TestWindowsGiveWayToAReaderThatWaits(t *testing.T) {
	data, g := content(1, 1<<20, 16<<20)
	s := openStore(t, Options{Memory: 8 << 20})
	v := openVolume(t, s, 1, g)
	for i := range 8 {
		put(t, v, data, i)
	}
	v.Window(1, Span{0, 8})
	v.Window(2, Span{5, 6}) // 5 is as near as 0
	for _, gone := range []int{7, 6, 4} {
		d, err := v.Draft(8+gone, true)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Discard()
		if v.Has(gone) {
			t.Errorf("piece %d has not given way", gone)
		}
	}
	for _, i := range []int{0, 1, 2, 3, 5} {
		if !v.Has(i) {
			t.Errorf("piece %d has given way", i)
		}
	}
}

// The kernel's READs overtake each other: the piece that a reader is about to leave
// stays for those that come late, but not for long.
func TestAPieceThatIsBeingReadStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data, g := content(1, 1<<20, 16<<20)
		s := openStore(t, Options{Memory: 2 << 20})
		defer closeStore(t, s)
		v := openVolume(t, s, 1, g)
		put(t, v, data, 0)
		put(t, v, data, 1)
		read := func(piece, n int) {
			t.Helper()
			if _, err := v.ReadAt(piece, make([]byte, n), 0); err != nil {
				t.Fatal(err)
			}
		}
		read(0, 1000)
		read(1, 1000)
		draft := func(piece int) *Draft {
			t.Helper()
			d, err := v.Draft(piece, true)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		d := draft(2)
		if !v.Has(0) || !v.Has(1) {
			t.Error("a piece went while it was being read")
		}
		read(0, 1<<20)
		if v.Has(0) {
			t.Error("the memory is over its budget, and a piece that was read stays")
		}
		d.Discard()
		time.Sleep(lateFor)
		put(t, v, data, 0)
		draft(3).Discard()
		if v.Has(1) {
			t.Error("a piece that nobody has read for a while stays")
		}
	})
}

// A reader in order, whatever its window, gets each piece once.
func TestAReaderInOrderGetsEachPieceOnce(t *testing.T) {
	for _, tc := range []struct {
		memory, piece int64
		window        int // pieces
	}{
		{8 << 20, 256 << 10, 4},
		{8 << 20, 256 << 10, 128},
		{8 << 20, 2 << 20, 16},
		{2 << 20, 2 << 20, 8},
		{1 << 20, 2 << 20, 8},
	} {
		data, g := content(1, tc.piece, 32<<20)
		s := openStore(t, Options{Memory: tc.memory})
		v := openVolume(t, s, 1, g)
		n := g.NumPieces()
		for at := range n {
			end := min(at+tc.window, n)
			v.Window(1, Span{at, end})
			if !v.Has(at) {
				putFor(t, v, data, at, true)
			}
			for next := at + 1; next < end; next++ {
				if v.Has(next) {
					continue
				}
				d, err := v.Draft(next, false)
				if err != nil {
					break
				}
				fill(t, d, pieceOf(data, g, next))
				if !d.Verify() || d.Commit() != nil {
					t.Fatal("a piece is not committed")
				}
			}
			wantPiece(t, v, data, at)
		}
		if got := s.Stats().Committed; got != int64(n) {
			t.Errorf("%s, pieces of %s, %d ahead: %d pieces fetched for %d", sizeText(tc.memory), sizeText(tc.piece), tc.window, got, n)
		}
	}
}

// The sums of what windows hold are right whatever happens, and the memory has its
// bound.
func TestWindowsAreCountedRight(t *testing.T) {
	data, g := content(1, 64<<10, 4<<20)
	n := g.NumPieces()
	rapid.Check(t, func(rt *rapid.T) {
		s, err := Open(Options{Memory: 1 << 20})
		if err != nil {
			rt.Fatal(err)
		}
		defer closeStore(t, s)
		v := openVolume(t, s, 1, g)
		piece := rapid.IntRange(0, n-1)
		rt.Repeat(map[string]func(*rapid.T){
			"window": func(rt *rapid.T) {
				first := piece.Draw(rt, "first")
				v.Window(rapid.Uint32Range(0, 3).Draw(rt, "reader"), Span{first, first + rapid.IntRange(0, n).Draw(rt, "pieces")})
			},
			"close": func(*rapid.T) { v.CloseWindows() },
			"put": func(rt *rapid.T) {
				i := piece.Draw(rt, "piece")
				d, err := v.Draft(i, rapid.Bool().Draw(rt, "urgent"))
				if err != nil {
					return
				}
				fill(t, d, pieceOf(data, g, i))
				if !d.Verify() || d.Commit() != nil {
					rt.Fatal("a piece is not committed")
				}
			},
			"read": func(rt *rapid.T) {
				i := piece.Draw(rt, "piece")
				_, _ = v.ReadAt(i, make([]byte, rapid.IntRange(1, 64<<10).Draw(rt, "bytes")), 0)
			},
			"": func(rt *rapid.T) { wantCounted(rt, s, v) },
		})
	})
}

func wantCounted(rt *rapid.T, s *Store, v *Volume) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ahead, clean := int64(0), 0
	for _, b := range v.ram {
		d := v.distance(b.piece)
		if want := !b.fresh && (d > 0 || d == 0 && !b.isRead()); b.ahead != want {
			rt.Fatalf("piece %d, %d before a reader: held by a window: %v, want %v", b.piece, d, b.ahead, want)
		}
		if b.ahead {
			ahead += int64(b.room)
		}
		if !b.fresh {
			clean++
		}
	}
	if s.ahead != ahead || v.ahead != ahead || len(s.clean.index) != clean {
		rt.Fatalf("%d and %d bytes are counted, %d are held; %d pieces of %d", s.ahead, v.ahead, ahead, len(s.clean.index), clean)
	}
	if s.reserved > s.opts.Memory+overdraft {
		rt.Fatalf("%d bytes are reserved", s.reserved)
	}
}
