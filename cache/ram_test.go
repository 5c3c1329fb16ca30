package cache

import (
	"errors"
	"testing"
	"time"
)

func TestDraftsAreAdmittedByBytes(t *testing.T) {
	t.Run("disk", func(t *testing.T) { testAdmission(t, Options{Dir: t.TempDir(), Budget: 1 << 30}, 6, 8) })
	t.Run("memory only", func(t *testing.T) { testAdmission(t, Options{}, 4, 6) })
}

// testAdmission opens drafts of 1 MiB in 8 MiB: so many that nobody waits for,
// and so many in all.
func testAdmission(t *testing.T, opts Options, quiet, all int) {
	_, g := content(1, 1<<20, 16<<20)
	opts.Memory = 8 << 20
	s := openStore(t, opts)
	v := openVolume(t, s, 1, g)
	var open []*Draft
	draft := func(urgent bool) error {
		d, err := v.Draft(len(open), urgent)
		if err == nil {
			open = append(open, d)
		}
		return err
	}
	for draft(false) == nil {
	}
	if len(open) != quiet {
		t.Errorf("%d drafts that nobody waits for, want %d", len(open), quiet)
	}
	for draft(true) == nil {
	}
	if len(open) != all {
		t.Errorf("%d drafts, want %d", len(open), all)
	}
	if err := draft(true); !errors.Is(err, ErrNoRoom) {
		t.Errorf("one more: %v", err)
	}
	if _, err := v.Draft(0, true); !errors.Is(err, ErrDraftOpen) {
		t.Errorf("the same piece: %v", err)
	}
	_, other := content(2, 32<<20, 64<<20)
	w := openVolume(t, s, 2, other)
	big, err := w.Draft(0, false)
	if err != nil {
		t.Errorf("the first draft of a volume, larger than the memory: %v", err)
	}
	if _, err := w.Draft(1, true); !errors.Is(err, ErrNoRoom) {
		t.Errorf("the second: %v", err)
	}
	room := make(chan struct{}, 1)
	v.Notify(nil, func() { room <- struct{}{} })
	big.Discard()
	for _, d := range open {
		d.Discard()
	}
	<-room
	if st := s.Stats(); st.MemoryUsed != 0 || st.Drafts != 0 {
		t.Errorf("after all discards: %+v", st)
	}
}

// What was read to its end goes first, then what came first.
func TestRAMDropsWhatWasRead(t *testing.T) {
	data, g := content(1, 1<<20, 6<<20)
	s := openStore(t, Options{Memory: 4 << 20})
	v := openVolume(t, s, 1, g)
	gone := make(chan int, 8)
	v.Notify(func(piece int) { gone <- piece }, nil)
	for i := range 4 {
		put(t, v, data, i)
	}
	wantPiece(t, v, data, 1)
	put(t, v, data, 4)
	if got := <-gone; got != 1 {
		t.Errorf("dropped piece %d, want 1", got)
	}
	if _, err := v.ReadAt(1, make([]byte, 1), 0); !errors.Is(err, ErrMissing) {
		t.Errorf("read of a dropped piece: %v", err)
	}
	if got := v.Pieces()[0]; got != 0b11101 {
		t.Errorf("held %b, want 11101", got)
	}
	if _, err := v.Draft(0, true); !errors.Is(err, ErrHeld) {
		t.Errorf("draft of a held piece: %v", err)
	}
	put(t, v, data, 5)
	if got := <-gone; got != 0 {
		t.Errorf("dropped piece %d, want 0", got)
	}
	if st := s.Stats(); st.MemoryUsed != 4<<20 {
		t.Errorf("%d bytes used, want all 4 MiB", st.MemoryUsed)
	}
}

// Without a disk, pieces that readers wait for are not pushed out by the drafts of
// others before they were read once.
func TestAFreshPieceStaysUntilItIsRead(t *testing.T) {
	data, g := content(1, 1<<20, 6<<20)
	s := openStore(t, Options{Memory: 4 << 20})
	v := openVolume(t, s, 1, g)
	for i := range 3 {
		putFor(t, v, data, i, true)
	}
	if _, err := v.Draft(3, true); !errors.Is(err, ErrNoRoom) {
		t.Errorf("a draft beside three pieces that nobody has read: %v", err)
	}
	for i := range 3 {
		wantPiece(t, v, data, i)
	}
	for i := 3; i < 6; i++ {
		d, err := v.Draft(i, true)
		if err != nil {
			t.Fatalf("a draft when all was read: %v", err)
		}
		defer d.Discard()
	}
	if v.Has(0) || v.Has(1) || !v.Has(2) {
		t.Error("not the pieces read longest ago were dropped")
	}
}

func TestSizeClassesShareTheirMemory(t *testing.T) {
	a := arena{limit: 1 << 20}
	for round := range 3 {
		for size := minChunk; size <= maxChunk; size <<= 1 {
			var got []*chunk
			seen := make(map[*byte]bool)
			for range (1 << 20) / size {
				c, err := a.get(size)
				if err != nil {
					t.Fatal(err)
				}
				if len(c.b) != size || cap(c.b) != size || seen[&c.b[0]] {
					t.Fatalf("chunk of %d bytes (capacity %d), want %d; twice: %v", len(c.b), cap(c.b), size, seen[&c.b[0]])
				}
				seen[&c.b[0]] = true
				got = append(got, c)
			}
			for i := range got {
				a.put(got[(i+round*3)%len(got)])
			}
			if a.mapped != 1<<20 || len(a.free) != 4 || len(a.partial[classOf(size)]) != 0 {
				t.Fatalf("after %d: %d bytes mapped, %d slabs free, %d chunks free", size, a.mapped, len(a.free), len(a.partial[classOf(size)]))
			}
		}
	}
	a.close()
	if a.mapped != 0 {
		t.Errorf("%d bytes mapped after close", a.mapped)
	}
}

// Each torrent that is read gets a first piece beyond the budget, but not a hundred
// of them with large pieces.
func TestFirstPiecesTogetherAreBounded(t *testing.T) {
	const piece, memory = 32 << 20, 64 << 20
	s := openStore(t, Options{Memory: memory})
	_, g := content(1, piece, piece)
	room := make(chan int, 100)
	var open []*Draft
	try := func(i int) error {
		d, err := openVolume(t, s, byte(i), g).Draft(0, true)
		if err == nil {
			open = append(open, d)
		}
		return err
	}
	for i := range 12 {
		openVolume(t, s, byte(i), g).Notify(nil, func() { room <- i })
		if err := try(i); err != nil && !errors.Is(err, ErrNoRoom) {
			t.Fatal(err)
		}
	}
	if got, want := s.Stats().MemoryFirm, int64(memory+overdraft); got != want {
		t.Errorf("first pieces take %d bytes, want %d", got, want)
	}
	open[0].Discard()
	select {
	case i := <-room:
		if err := try(i); err != nil {
			t.Errorf("a volume that was told of room: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody is told of room")
	}
	for _, d := range open {
		d.Discard()
	}
	_, huge := content(2, 200<<20, 200<<20)
	d, err := openVolume(t, s, 100, huge).Draft(0, false)
	if err != nil {
		t.Fatalf("the only draft, larger than all bounds: %v", err)
	}
	d.Discard()
}
