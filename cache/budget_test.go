package cache

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// otherBytes is what a store knows to be in its data folder beside the database.
func otherBytes(s *Store) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.space.rest
}

// folderUsage returns the bytes of disk blocks in a whole data folder.
func folderUsage(dir string) int64 { return treeUsage(dir) }

// filledStore opens a store with a budget and fills it beyond.
func filledStore(t *testing.T, opts Options, pieceLength int64) (*Store, *Volume, []byte) {
	t.Helper()
	data, g := content(7, pieceLength, 80<<20)
	s := openStore(t, opts)
	v := openVolume(t, s, 1, g)
	for i := range g.NumPieces() {
		put(t, v, data, i)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	return s, v, data
}

func budgetOptions(t *testing.T) Options {
	t.Helper()
	return Options{Dir: fastDir(t), Budget: 64 << 20, Memory: 4 << 20, floor: 1, look: 10 * time.Millisecond}
}

func TestASmallerBudgetIsKeptWithoutAWrite(t *testing.T) {
	for _, pieceLength := range []int64{16 << 10, 256 << 10, 2 << 20} {
		t.Run(sizeText(pieceLength), func(t *testing.T) { shrinkIdle(t, pieceLength) })
	}
}

func shrinkIdle(t *testing.T, pieceLength int64) {
	opts := budgetOptions(t)
	s, v, data := filledStore(t, opts, pieceLength)
	before := heldPieces(t, v, data)
	const smaller = 24 << 20
	if err := s.SetBudget(smaller); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the folder to be small enough", func() bool { return folderUsage(opts.Dir) <= smaller*105/100 })
	if held := heldPieces(t, v, data); held >= before || int64(held)*pieceLength < 5<<20 {
		t.Errorf("%d pieces are held, %d before", held, before)
	}
	if st := s.Stats(); st.Budget != smaller || st.DiskLive > smaller {
		t.Errorf("%+v", st)
	}
	if err := s.SetBudget(opts.Budget); err != nil {
		t.Fatal(err)
	}
	for i := range v.geometry.NumPieces() {
		if !v.Has(i) {
			put(t, v, data, i)
		}
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if live := s.Stats().DiskLive; live < smaller {
		t.Errorf("%d bytes are kept after the budget was made larger again", live)
	}
}

func TestReadsGoOnWhileTheBudgetShrinks(t *testing.T) {
	opts := budgetOptions(t)
	s, v, data := filledStore(t, opts, 256<<10)
	const smaller = 16 << 20
	if err := s.SetBudget(smaller); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		for i := range v.geometry.NumPieces() {
			if !v.Has(i) {
				put(t, v, data, i)
			}
			wantHeldRight(t, v, data, i)
		}
		if used := folderUsage(opts.Dir); round > 0 && used > smaller*105/100 {
			t.Errorf("round %d: %d bytes on disk with a budget of %d", round, used, smaller)
		}
	}
	if err := s.Degraded(); err != nil {
		t.Errorf("degraded: %v", err)
	}
}

func TestTheCacheCanLeaveTheDiskAndComeBack(t *testing.T) {
	opts := budgetOptions(t)
	s, v, data := filledStore(t, opts, 256<<10)
	if err := s.SetBudget(0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the database to go", func() bool {
		_, err := os.Stat(filepath.Join(opts.Dir, piecesName))
		return errors.Is(err, os.ErrNotExist)
	})
	if err := s.Degraded(); err != nil {
		t.Errorf("degraded, though memory is all that is asked for: %v", err)
	}
	for i := range 40 {
		if !v.Has(i) {
			put(t, v, data, i)
		}
		wantHeldRight(t, v, data, i)
	}
	if used := folderUsage(opts.Dir); used > 64<<10 {
		t.Errorf("%d bytes on disk with no budget", used)
	}
	if err := s.SetBudget(32 << 20); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pieces on disk again", func() bool {
		for i := range 20 {
			if !v.Has(i) {
				put(t, v, data, i)
			}
		}
		return s.Stats().DiskLive >= 4<<20
	})
	closeStore(t, s)
	if held := wantAllRight(t, opts, data, v.geometry); held < 16 {
		t.Errorf("%d pieces after a restart", held)
	}
}

func TestACacheThatBeganInMemoryCanGoToDisk(t *testing.T) {
	opts := budgetOptions(t)
	opts.Budget = 0
	data, g := content(7, 256<<10, 4<<20)
	s := openStore(t, opts)
	v := openVolume(t, s, 1, g)
	if err := s.SetBudget(32 << 20); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a piece on disk", func() bool {
		for i := range g.NumPieces() {
			if !v.Has(i) {
				put(t, v, data, i)
			}
		}
		return s.Stats().DiskLive > 0
	})
}

func TestABudgetThatCannotBeIsRefused(t *testing.T) {
	opts := budgetOptions(t)
	s, v, _ := filledStore(t, opts, 256<<10)
	if err := s.SetBudget(8 << 20); !errors.As(err, new(*BudgetError)) {
		t.Errorf("a budget below four log files: %v", err)
	}
	if err := s.SetBudget(-1); err == nil {
		t.Error("a negative budget is taken")
	}
	if err := v.Pin(Span{0, 80}); err != nil { // 20 MiB
		t.Fatal(err)
	}
	if err := s.SetBudget(20 << 20); !errors.As(err, new(*PinError)) {
		t.Errorf("a budget below the pins: %v", err)
	}
	if err := s.SetBudget(0); !errors.Is(err, ErrNoPins) {
		t.Errorf("no budget with pins: %v", err)
	}
	if got := s.Stats().Budget; got != opts.Budget {
		t.Errorf("the budget is %d after refusals, want %d", got, opts.Budget)
	}
	closeStore(t, s)
	if err := s.SetBudget(opts.Budget); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed store: %v", err)
	}
	if err := openStore(t, Options{}).SetBudget(1 << 30); err == nil {
		t.Error("a store without a folder takes a budget")
	}
}

func TestOtherFilesInTheFolderCount(t *testing.T) {
	opts := budgetOptions(t)
	_, v, data := filledStore(t, opts, 256<<10)
	for _, name := range []string{"log", "torrents/x.meta", "torrents/y.meta"} {
		path := filepath.Join(opts.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, make([]byte, 10<<20), 0o644)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the pieces to make room for "+name, func() bool { return folderUsage(opts.Dir) <= opts.Budget*105/100 })
	}
	if held := heldPieces(t, v, data); held < 20 {
		t.Errorf("%d pieces are held", held)
	}
}

func TestTheCacheMakesRoomForOthersOnTheDisk(t *testing.T) {
	var filled atomic.Int64 // what we took when others filled the disk up to 80 MiB
	opts := budgetOptions(t)
	opts.floor, opts.MinFree = 0, 100<<20
	opts.freeSpace = func(string) (int64, error) {
		if base := filled.Load(); base > 0 {
			return 80<<20 + base - treeUsage(opts.Dir), nil
		}
		return 1 << 40, nil
	}
	s, v, data := filledStore(t, opts, 256<<10)
	full := s.Stats().DiskLive
	base := folderUsage(opts.Dir)
	filled.Store(base)
	eventually(t, "the floor to be free again", func() bool { return base-folderUsage(opts.Dir) >= 20<<20 })
	if live := s.Stats().DiskLive; live > base-20<<20 || live == 0 { // garbage goes before pieces
		t.Errorf("%d bytes are kept of %d", live, full)
	}
	for i := range v.geometry.NumPieces() {
		if !v.Has(i) {
			put(t, v, data, i)
		}
		wantHeldRight(t, v, data, i)
	}
}
