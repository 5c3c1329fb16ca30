package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// closeSoon closes a store that has nothing left to write.
func closeSoon(t *testing.T, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// fillHoles gives the database's file of counts, which is sparse, all of its MiB, as
// it has it after many collections.
func fillHoles(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, piecesName, "DISCARD")
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAStartWithAMuchSmallerBudgetEnds(t *testing.T) {
	for _, budget := range []int64{MinBudget, 6 << 20} {
		t.Run(sizeText(budget), func(t *testing.T) {
			opts := budgetOptions(t)
			opts.Budget = 200 << 20
			s, _, _ := filledStore(t, opts, 256<<10)
			closeStore(t, s)
			fillHoles(t, opts.Dir)
			opts.Budget = budget
			data, g := content(8, 256<<10, 8<<20)
			s = openStore(t, opts)
			v := openVolume(t, s, 2, g)
			eventually(t, "a piece on disk", func() bool {
				for i := range g.NumPieces() {
					if !v.Has(i) {
						put(t, v, data, i)
					}
				}
				return s.Stats().DiskLive >= 512<<10 && folderUsage(opts.Dir) <= budget
			})
			closeSoon(t, s)
		})
	}
}

// What others have in the data folder may leave the database nothing, and less.
func TestABudgetThatOthersHaveTakenIsNoEndlessLoop(t *testing.T) {
	opts := budgetOptions(t)
	s, _, _ := filledStore(t, opts, 256<<10)
	closeStore(t, s)
	fillHoles(t, opts.Dir)
	if err := os.WriteFile(filepath.Join(opts.Dir, "log"), make([]byte, 16<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	opts.Budget = 8 << 20
	s = openStore(t, opts)
	data, g := content(8, 256<<10, 1<<20)
	v := openVolume(t, s, 2, g)
	put(t, v, data, 0)
	eventually(t, "an answer of the writer", func() bool { return s.Degraded() != nil })
	if err := s.Degraded(); !strings.Contains(err.Error(), "a cache of 8.0 MiB is too small: give at least 19.0 MiB") {
		t.Errorf("degraded: %v", err)
	}
	closeSoon(t, s)
}

func TestSmallPiecesAreWrittenInBatchesThatASmallBudgetHolds(t *testing.T) {
	opts := budgetOptions(t)
	opts.Budget = MinBudget
	s, v, data := filledStore(t, opts, 16<<10)
	if st := s.Stats(); st.WriteErrors > 0 || st.DiskLive < 1<<20 {
		t.Errorf("%d batches failed, %d bytes are live", st.WriteErrors, st.DiskLive)
	}
	heldPieces(t, v, data)
}

func TestABudgetTooSmallForAnythingIsRefused(t *testing.T) {
	opts := budgetOptions(t)
	for _, budget := range []int64{1, 5, 1 << 20, MinBudget - 1} {
		opts.Budget = budget
		var small *BudgetError
		if _, err := Open(opts); !errors.As(err, &small) || small.Min != MinBudget {
			t.Errorf("open with %d bytes: %v", budget, err)
		}
	}
	opts.Budget = 0
	s := openStore(t, opts)
	if err := s.SetBudget(1 << 20); !errors.As(err, new(*BudgetError)) {
		t.Errorf("1 MiB at run time: %v", err)
	}
}

func TestADiskTooFullToOpenSaysWhatToDo(t *testing.T) {
	dir := fastDir(t)
	s := openStore(t, Options{Dir: dir, Budget: 64 << 20, freeSpace: func(string) (int64, error) { return 63 << 20, nil }})
	want := "open piece database: 63 MiB free on the disk of " + dir + ", 64 needed: free some, or use another --data folder"
	if err := s.Degraded(); err == nil || err.Error() != want {
		t.Errorf("degraded: %v, want %s", err, want)
	}
}
