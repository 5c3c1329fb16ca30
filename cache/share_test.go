package cache

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// borrower is a volume with the news it was told.
type borrower struct {
	*Volume
	data []byte

	mu     sync.Mutex
	told   map[int]bool // the last news of a piece: it is held
	counts int
}

// openBorrower opens a volume, holding some pieces, and lets it share.
func openBorrower(t testing.TB, s *Store, id byte, data []byte, g Geometry, held ...int) *borrower {
	t.Helper()
	b := &borrower{Volume: openVolume(t, s, id, g), data: data, told: make(map[int]bool)}
	for _, piece := range held {
		commitPiece(t, b.Volume, piece, pieceOf(data, g, piece))
	}
	b.watch()
	b.Share()
	b.settle()
	return b
}

func (b *borrower) watch() {
	tell := func(held bool) func(int) {
		return func(piece int) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.told[piece] = held
		}
	}
	b.Notify(tell(false), nil)
	b.NotifyFound(tell(true))
	b.NotifyRecount(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.counts++
	})
}

// settle waits until it is known what is on loan.
func (b *borrower) settle() {
	b.store.mu.Lock()
	wait := b.matching
	b.store.mu.Unlock()
	if wait != nil {
		<-wait
	}
}

func (b *borrower) undecided() (all []int) {
	n := b.geometry.NumPieces()
	for piece := b.Undecided(0, n); piece < n; piece = b.Undecided(piece+1, n) {
		all = append(all, piece)
	}
	return all
}

// check reads a piece, from a third of it on.
func (b *borrower) check(t rapid.TB, piece int, want error) {
	t.Helper()
	right := pieceOf(b.data, b.geometry, piece)
	off := len(right) / 3
	got := make([]byte, len(right))
	n, err := b.ReadAt(piece, got, off)
	if !errors.Is(err, want) || err == nil && !slices.Equal(got[:n], right[off:]) {
		t.Errorf("piece %d: %d bytes, %v, want %v", piece, n, err, want)
	}
}

func commitPiece(t testing.TB, v *Volume, piece int, data []byte) {
	t.Helper()
	d, err := v.Draft(piece, true)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(data); at += BlockSize {
		if _, err := d.WriteBlock(at, data[at:min(at+BlockSize, len(data))]); err != nil {
			t.Fatal(err)
		}
	}
	if !d.Verify() {
		t.Fatal("piece does not verify")
	}
	if err := d.Commit(); err != nil {
		t.Fatal(err)
	}
}

func allPieces(g Geometry) (all []int) {
	for piece := range g.NumPieces() {
		all = append(all, piece)
	}
	return all
}

// rearranged makes a volume of pieces of another, and of new ones (negative).
func rearranged(data []byte, g Geometry, pieces ...int) ([]byte, Geometry) {
	var out []byte
	for _, piece := range pieces {
		if piece < 0 {
			fresh, _ := content(uint64(1000-piece), g.PieceLength, g.PieceLength)
			out = append(out, fresh...)
		} else {
			out = append(out, pieceOf(data, g, piece)...)
		}
	}
	return out, geometryOf(out, g.PieceLength)
}

// sumLonger has the sum of the shorter last piece for a piece of another size.
func sumLonger(data []byte, g Geometry) ([]byte, Geometry) {
	out, h := rearranged(data, g, -1, -2)
	copy(h.Sums, g.Sums[(g.NumPieces()-1)*sha1.Size:])
	return out, h
}

func TestPiecesOfOtherVolumesAreFound(t *testing.T) {
	const length = 20_000
	data, g := content(1, length, 6*length-777)
	last := g.NumPieces() - 1
	for name, c := range map[string]struct {
		held   []int // by the other volume
		pieces []int // of the one that is opened
		want   []int
	}{
		"all, in order":        {held: allPieces(g), pieces: []int{0, 1, 2, 3, 4, 5}, want: []int{0, 1, 2, 3, 4, 5}},
		"in another order":     {held: allPieces(g), pieces: []int{-1, 3, 2, -2, 0, 1, last}, want: []int{1, 2, 4, 5, 6}},
		"only what is held":    {held: []int{1, 4}, pieces: []int{0, 1, 2, 3, 4, 5}, want: []int{1, 4}},
		"the same twice":       {held: []int{2}, pieces: []int{2, -1, 2}, want: []int{0, 2}},
		"nothing is the same":  {held: allPieces(g), pieces: []int{-1, -2}},
		"nothing is held":      {pieces: []int{0, 1}},
		"a sum but not a size": {held: []int{last}},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, Options{Memory: 16 << 20})
			openBorrower(t, s, 1, data, g, c.held...)
			mine, h := rearranged(data, g, c.pieces...)
			if c.pieces == nil {
				mine, h = sumLonger(data, g)
			}
			b := openBorrower(t, s, 2, mine, h)
			if got := b.undecided(); !slices.Equal(got, c.want) {
				t.Fatalf("undecided: %v, want %v", got, c.want)
			}
			for piece := range h.NumPieces() {
				var want error
				if !slices.Contains(c.want, piece) {
					want = ErrMissing
				}
				b.check(t, piece, want)
			}
			if got := b.undecided(); got != nil {
				t.Errorf("undecided after all was read: %v", got)
			}
			if got := b.Borrowed(); got != int64(len(c.want)) {
				t.Errorf("%d pieces were copied, want %d", got, len(c.want))
			}
		})
	}
}

// Who comes later offers what it holds to those who were there, pieces that lie in
// files as well.
func TestWhatIsOpenedLaterIsOffered(t *testing.T) {
	const length = 20_000
	data, g := content(1, length, 5*length)
	t.Run("cache", func(t *testing.T) {
		s := openStore(t, Options{Memory: 16 << 20})
		b := openBorrower(t, s, 2, data, g)
		openBorrower(t, s, 1, data, g, 1, 2)
		if got := b.undecided(); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("undecided: %v", got)
		}
		await(t, "a recount", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.counts > 0 })
	})
	t.Run("files", func(t *testing.T) {
		s := openStore(t, Options{Memory: 16 << 20})
		mine, h := rearranged(data, g, 4, 3, -1, 0, 2)
		b := openBorrower(t, s, 2, mine, h)
		_, extents := layFiles(t, data, 5*length)
		spoil(t, extents[0].Path, 3*length+5)
		f := openImported(t, newImports(t), openVolume(t, s, 1, g), ImportRecord{}, extents)
		f.Share()
		f.look() // which Imports.Serve does
		(&borrower{Volume: f.Volume}).settle()
		if got := b.undecided(); !slices.Equal(got, []int{0, 1, 3, 4}) {
			t.Fatalf("undecided: %v", got)
		}
		for piece, want := range []error{nil, ErrMissing, ErrMissing, nil, nil} {
			b.check(t, piece, want)
		}
		f.Close()
		if b.beneath() != nil || f.beneath() != nil {
			t.Error("files are offered after they were closed")
		}
	})
}

// spoil changes a byte of a file.
func spoil(t testing.TB, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// What is wanted is copied although nobody reads it, and told; nothing else is.
func TestWhatIsWantedIsCopied(t *testing.T) {
	data, g := content(1, 20_000, 100_000)
	for _, urgent := range []bool{false, true} {
		t.Run(fmt.Sprint(urgent), func(t *testing.T) {
			s := openStore(t, Options{Memory: 16 << 20})
			openBorrower(t, s, 1, data, g, allPieces(g)...)
			b := openBorrower(t, s, 2, data, g)
			b.Decide(3, urgent)
			await(t, "the news", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.told[3] })
			if got := b.undecided(); !slices.Equal(got, []int{0, 1, 2, 4}) {
				t.Errorf("undecided: %v", got)
			}
		})
	}
}

// What the other volume lost, or has no more as it should be, is missing, is told to be,
// and costs no second look.
func TestALenderThatFailsIsNotAskedAgain(t *testing.T) {
	data, g := content(1, 20_000, 100_000)
	for name, fail := range map[string]func(t *testing.T, lender *Volume){
		"evicted": func(t *testing.T, lender *Volume) {
			lender.store.mu.Lock()
			defer lender.store.mu.Unlock()
			lender.store.drop(lender.ram[2])
		},
		"other bytes": func(t *testing.T, lender *Volume) {
			lender.ram[2].chunks[0].Load().b[7] ^= 1
		},
	} {
		for _, how := range []string{"read", "decide"} {
			t.Run(name+", "+how, func(t *testing.T) {
				s := openStore(t, Options{Memory: 16 << 20})
				lender := openBorrower(t, s, 1, data, g, allPieces(g)...)
				b := openBorrower(t, s, 2, data, g)
				b.told[2] = true
				await(t, "memory that can be dropped", func() bool {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.expire()
					return !lender.ram[2].fresh
				})
				fail(t, lender.Volume)
				if how == "read" {
					b.check(t, 2, ErrMissing)
				} else {
					b.Decide(2, false)
				}
				await(t, "the news", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return !b.told[2] })
				if got := b.undecided(); !slices.Equal(got, []int{0, 1, 3, 4}) {
					t.Errorf("undecided: %v", got)
				}
				b.check(t, 2, ErrMissing)
				b.check(t, 1, nil)
			})
		}
	}
}

// Without memory for a copy, and while peers are sending the piece, it is read where it
// lies. A copy that was evicted is made again.
func TestAPieceIsReadWhereItLies(t *testing.T) {
	data, g := content(1, 40_000, 160_000)
	s := openStore(t, Options{Memory: 16 << 20})
	openBorrower(t, s, 1, data, g, allPieces(g)...)
	b := openBorrower(t, s, 2, data, g)
	d, err := b.Draft(1, true)
	if err != nil {
		t.Fatal(err)
	}
	b.check(t, 1, nil)
	if b.Has(1) || b.Borrowed() != 0 {
		t.Error("the piece is held, beside a draft of it")
	}
	d.Discard()
	for range 2 {
		b.check(t, 1, nil)
		s.mu.Lock()
		if buf := b.ram[1]; buf == nil {
			t.Error("the piece was not copied")
		} else {
			s.drop(buf)
		}
		s.mu.Unlock()
	}
}

// What an earlier run stored of a volume that nobody has opened since is offered, and is
// right when it is opened after all.
func TestWhatIsNotOpenIsOffered(t *testing.T) {
	data, g := content(1, 20_000, 100_000)
	opts := Options{Dir: fastDir(t), Budget: 256 << 20, floor: 1}
	s := openStore(t, opts)
	for _, id := range []byte{1, 3} {
		for _, piece := range []int{1, 3} {
			put(t, openVolume(t, s, id, g), data, piece)
		}
	}
	closeStore(t, s)

	s = openStore(t, opts)
	mine, h := rearranged(data, g, 3, -1, 0, 1)
	b := openBorrower(t, s, 2, mine, h)
	if got := b.undecided(); got != nil {
		t.Fatalf("undecided: %v", got)
	}
	if got := s.Unopened(); len(got) != 2 || got[0] != ([20]byte{1}) || got[1] != ([20]byte{3}) {
		t.Fatalf("unopened: %v", got)
	}
	other, _ := content(2, 20_000, 100_000)
	if err := s.Offer([20]byte{1}, geometryOf(other, 20_000)); err != nil {
		t.Fatal(err)
	}
	if got := s.Unopened(); len(got) != 2 || b.undecided() != nil {
		t.Errorf("unopened: %v, undecided %v, after nothing was the same", got, b.undecided())
	}
	if err := s.Offer([20]byte{1}, g); err != nil {
		t.Fatal(err)
	}
	await(t, "a recount", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.counts > 0 })
	for piece, want := range []error{nil, ErrMissing, ErrMissing, nil} {
		b.check(t, piece, want)
	}
	if got := s.Unopened(); len(got) != 1 {
		t.Errorf("unopened: %v", got)
	}
	if v := openVolume(t, s, 1, g); !v.Has(1) || v.Has(2) || !v.Has(3) {
		t.Error("the volume does not hold what it did")
	}
}

// Closing the store ends who waits for what others hold.
func TestCloseEndsBorrowing(t *testing.T) {
	_, g := content(1, 20_000, 100_000)
	s := openStore(t, Options{})
	v := openVolume(t, s, 1, g)
	s.mu.Lock()
	v.matching = make(chan struct{}) // that nobody will close
	s.mu.Unlock()
	done := make(chan error)
	go func() {
		_, err := v.ReadAt(0, make([]byte, 10), 0)
		done <- err
	}()
	closeStore(t, s)
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// However the pieces of volumes are arranged and whatever is evicted: what is on loan is
// what others hold, a read is right, or missing if nobody holds the piece.
func TestBorrowingAgreesWithAModel(t *testing.T) {
	const length = 20_000
	pool, g := content(3, length, 12*length)
	rapid.Check(t, func(rt *rapid.T) {
		s := openStore(t, Options{Dir: fastDir(t), Budget: 256 << 20, Memory: 8 << 20, floor: 1})
		defer closeStore(t, s)
		numbers := rapid.SliceOfN(rapid.IntRange(0, 11), 1, 10)
		var volumes []*borrower
		var holds [][]int // what each piece is of the pool
		held := make(map[[2]int]bool)
		for id := range rapid.IntRange(2, 4).Draw(rt, "volumes") {
			pieces := numbers.Draw(rt, "pieces")
			data, h := rearranged(pool, g, pieces...)
			var mine []int
			for i := range pieces {
				if rapid.Bool().Draw(rt, "held") {
					mine = append(mine, i)
					held[[2]int{id, i}] = true
				}
			}
			volumes = append(volumes, openBorrower(t, s, byte(id), data, h, mine...))
			holds = append(holds, pieces)
		}
		offered := func(id, piece int) bool {
			for at := range held {
				if at[0] != id && holds[at[0]][at[1]] == holds[id][piece] {
					return true
				}
			}
			return false
		}
		for id, b := range volumes {
			var want []int
			for piece := range holds[id] {
				if !held[[2]int{id, piece}] && offered(id, piece) {
					want = append(want, piece)
				}
			}
			if got := b.undecided(); !slices.Equal(got, want) {
				rt.Fatalf("volume %d: undecided %v, want %v", id, got, want)
			}
		}
		for range rapid.IntRange(0, 30).Draw(rt, "reads") {
			id := rapid.IntRange(0, len(volumes)-1).Draw(rt, "volume")
			piece := rapid.IntRange(0, len(holds[id])-1).Draw(rt, "piece")
			var want error
			if !held[[2]int{id, piece}] && !offered(id, piece) { // what is copied is not offered
				want = ErrMissing
			}
			volumes[id].check(rt, piece, want)
		}
	})
}

// A search in parts finds what one in one go does.
func TestASearchInPartsFindsAll(t *testing.T) {
	data, g := content(1, 20_000, 1_000_000)
	s := openStore(t, Options{Memory: 16 << 20})
	a := openBorrower(t, s, 1, data, g, allPieces(g)...)
	b := openVolume(t, s, 2, g)
	for _, most := range []int{1, 7, 50, 1000} {
		found := make(map[*Volume][]match)
		pair([]*Volume{a.Volume, b}, []*Volume{b}, most, found)
		l := loans{}.with(found[b], g.NumPieces())
		if l.set.count() != g.NumPieces() || len(l.runs) != 1 {
			t.Errorf("%d at once: %d pieces in %d runs", most, l.set.count(), len(l.runs))
		}
	}
}

// With a thousand torrents a search takes no memory that lasts, and little time.
func BenchmarkShare(b *testing.B) {
	s := openStore(b, Options{Memory: 64 << 20})
	var all []*Volume
	for i := range 1000 {
		g := Geometry{PieceLength: BlockSize, Length: 2000 * BlockSize, Sums: make([]byte, 2000*sha1.Size)}
		for piece := range 2000 {
			sum := sha1.Sum(fmt.Append(nil, i/2, piece))
			copy(g.Sums[piece*sha1.Size:], sum[:])
		}
		v, err := s.Volume([20]byte{byte(i), byte(i >> 8)}, g)
		if err != nil {
			b.Fatal(err)
		}
		if i%2 == 0 { // as if it were stored
			for piece := range uint32(1000) {
				v.disk[piece] = diskPiece{}
			}
		}
		all = append(all, v)
	}
	b.ReportAllocs()
	for b.Loop() {
		found := make(map[*Volume][]match)
		pair(all, all, maxOffers, found)
		if len(found) != 500 {
			b.Fatal(len(found))
		}
	}
}
