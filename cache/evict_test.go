package cache

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestDiskUseStaysBelowTheBudget(t *testing.T) {
	const budget = 64 << 20
	data, g := content(4, 1<<20, 96<<20)
	opts := Options{Dir: fastDir(t), Budget: budget, Memory: 8 << 20, floor: 1}
	s := openStore(t, opts)
	v := openVolume(t, s, 1, g)
	evicted := make(chan int, 10000)
	v.Notify(func(piece int) { evicted <- piece }, nil)
	var peak int64
	for i := range 4 * g.NumPieces() {
		i %= g.NumPieces()
		if !v.Has(i) {
			put(t, v, data, i)
		}
		used, err := diskUsage(filepath.Join(opts.Dir, "pieces"))
		if err != nil {
			t.Fatal(err)
		}
		peak = max(peak, used)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	st := s.Stats()
	t.Logf("peak %d MiB of %d, live %d MiB, %d written, %d evicted", peak>>20, budget>>20, st.DiskLive>>20, st.Written, st.Evicted)
	if peak > budget*105/100 {
		t.Errorf("disk use reached %d bytes with a budget of %d", peak, budget)
	}
	if st.DiskLive < budget/2 {
		t.Errorf("only %d bytes are kept with a budget of %d", st.DiskLive, budget)
	}
	if <-evicted != 0 {
		t.Error("the piece written first was not evicted first")
	}
	for i := range g.NumPieces() {
		if v.Has(i) {
			wantPiece(t, v, data, i)
		}
	}
	closeStore(t, s)
	if held := wantAllRight(t, opts, data, g); int64(held)<<20 != st.DiskLive {
		t.Errorf("%d pieces after a restart, %d MiB before", held, st.DiskLive>>20)
	}
}

func TestRunsOfSmallPiecesAreDroppedAsOne(t *testing.T) {
	s := openStore(t, Options{})
	_, g := content(1, BlockSize, 1024*BlockSize)
	v := openVolume(t, s, 1, g)
	s.mu.Lock()
	defer s.mu.Unlock()
	v.disk[700] = diskPiece{chunks: 1, bytes: BlockSize}
	var victims []spot
	for i := range uint32(600) {
		victims = append(victims, spot{v, i})
	}
	got := dropPrefixes(victims)
	long := slices.DeleteFunc(slices.Clone(got), func(p []byte) bool { return len(p) == 24 })
	if len(got) != 2+88 || len(long) != 88 {
		t.Errorf("%d prefixes, %d of them of single pieces; want 90 and 88", len(got), len(long))
	}
	for _, p := range got {
		if strings.HasPrefix(string(piecePrefix(v.id, 700)), string(p)) {
			t.Errorf("prefix %x covers a piece that stays", p)
		}
	}
}

func TestADiskWithoutRoomLeavesPiecesInRAM(t *testing.T) {
	data, g := content(1, 256<<10, 4<<20)
	s := openStore(t, Options{Dir: fastDir(t), Budget: 64 << 20, Memory: 2 << 20, floor: 1 << 60})
	v := openVolume(t, s, 1, g)
	for i := range g.NumPieces() {
		put(t, v, data, i)
		wantPiece(t, v, data, i)
	}
	if err := s.Degraded(); !errors.Is(err, errDiskFull) || !strings.Contains(err.Error(), "free some, use another --data folder, or a smaller --min-free") {
		t.Errorf("degraded: %v", err)
	}
	if st := s.Stats(); st.Written != 0 || st.MemoryUsed > 2<<20 {
		t.Errorf("%+v", st)
	}
}

func TestAnUnusableFolderLeavesPiecesInRAM(t *testing.T) {
	data, g := content(1, 256<<10, 1<<20)
	file := filepath.Join(fastDir(t), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, Options{Dir: filepath.Join(file, "below"), Budget: 64 << 20})
	if s.Degraded() == nil {
		t.Error("not degraded")
	}
	v := openVolume(t, s, 1, g)
	put(t, v, data, 0)
	wantPiece(t, v, data, 0)
}

func TestADamagedDatabaseIsMovedAside(t *testing.T) {
	data, g := content(1, 256<<10, 1<<20)
	opts := Options{Dir: fastDir(t), Budget: 64 << 20}
	for range 2 { // the second replaces what the first moved
		s := openStore(t, opts)
		put(t, openVolume(t, s, 1, g), data, 0)
		closeStore(t, s)
		if err := os.WriteFile(filepath.Join(opts.Dir, "pieces", "MANIFEST"), []byte("not a manifest"), 0o644); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, opts)
		v := openVolume(t, s, 1, g)
		if err := s.Degraded(); err != nil {
			t.Fatal(err)
		}
		if v.Has(0) {
			t.Error("a piece survived the loss of the manifest")
		}
		put(t, v, data, 1)
		wantPiece(t, v, data, 1)
		closeStore(t, s)
		if _, err := os.Stat(filepath.Join(opts.Dir, "pieces.broken", "MANIFEST")); err != nil {
			t.Error(err)
		}
	}
}

// Badger is killed between cutting a log and removing it, or between making
// one and giving it its size.
func TestEmptyLogsDoNotCostTheDatabase(t *testing.T) {
	data, g := content(1, 256<<10, 1<<20)
	opts := Options{Dir: fastDir(t), Budget: 64 << 20}
	s := openStore(t, opts)
	put(t, openVolume(t, s, 1, g), data, 0)
	closeStore(t, s)
	for _, name := range []string{"000000.vlog", "000099.vlog", "00099.mem"} {
		if err := os.WriteFile(filepath.Join(opts.Dir, "pieces", name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if held := wantAllRight(t, opts, data, g); held != 1 {
		t.Errorf("%d pieces held, want 1", held)
	}
}

func TestThreeDeadOpeningsMoveTheDatabaseAside(t *testing.T) {
	data, g := content(1, 256<<10, 1<<20)
	opts := Options{Dir: fastDir(t), Budget: 64 << 20}
	for dead, want := range []bool{true, true, true, false} {
		s := openStore(t, opts)
		v := openVolume(t, s, 1, g)
		if dead > 0 && v.Has(0) != want {
			t.Errorf("after %d openings that did not end: held %v, want %v", dead, v.Has(0), want)
		}
		if !v.Has(0) {
			put(t, v, data, 0)
		}
		closeStore(t, s)
		if err := os.WriteFile(filepath.Join(opts.Dir, "pieces.opening"), make([]byte, dead+1), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestASecondStoreOnOneFolderIsRefusedByName(t *testing.T) {
	opts := Options{Dir: fastDir(t), Budget: 64 << 20}
	s := openStore(t, opts)
	_, err := Open(opts)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Dir != opts.Dir {
		t.Errorf("second store: %v", err)
	}
	closeStore(t, s)
	closeStore(t, openStore(t, opts))
}

func TestClosedStoreRefuses(t *testing.T) {
	data, g := content(1, 256<<10, 1<<20)
	s := openStore(t, Options{Dir: fastDir(t), Budget: 64 << 20})
	v := openVolume(t, s, 1, g)
	put(t, v, data, 0)
	d, err := v.Draft(1, true)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, d, pieceOf(data, g, 1))
	closeStore(t, s)
	closeStore(t, s)
	if !d.Verify() {
		t.Error("a draft cannot be verified after close")
	}
	if err := d.Commit(); !errors.Is(err, ErrClosed) {
		t.Errorf("commit: %v", err)
	}
	if _, err := v.ReadAt(0, make([]byte, 1), 0); !errors.Is(err, ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if _, err := v.Draft(2, true); !errors.Is(err, ErrClosed) {
		t.Errorf("draft: %v", err)
	}
	if _, err := s.Volume([20]byte{1}, g); !errors.Is(err, ErrClosed) {
		t.Errorf("volume: %v", err)
	}
}

func TestDiskUsageCountsBlocksNotLengths(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Truncate(1<<30), unix.Fdatasync(int(f.Fd()))); err != nil {
		t.Fatal(err)
	}
	if got, err := diskUsage(dir); err != nil || got > 1<<20 {
		t.Errorf("an empty sparse file takes %d bytes, %v", got, err)
	}
}

func TestCloseEndsWithItsContext(t *testing.T) {
	data, g := content(1, 256<<10, 1<<20)
	stuck, begun := make(chan struct{}), make(chan struct{}, 1)
	s, err := Open(Options{Dir: fastDir(t), Budget: 64 << 20, openDisk: func(dir string, logFile int64, log *slog.Logger) (*disk, error) {
		d, err := openBadger(dir, logFile, log)
		if err != nil {
			return nil, err
		}
		write := d.write
		d.write = func(recs []record) error {
			begun <- struct{}{}
			<-stuck
			return write(recs)
		}
		return d, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, openVolume(t, s, 1, g), data, 0)
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("close with a stuck disk: %v", err)
	}
	close(stuck)
	s.tasks.Wait()
	s.done.Wait()
}

func TestAFailedWriteIsTriedAgainLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := true
		written := 0
		d := &disk{
			scan:    func() ([]foundPiece, error) { return nil, nil },
			drop:    func([][]byte) error { return nil },
			collect: func(float64) (bool, error) { return false, nil },
			clear:   func() error { return nil },
			sync:    func() error { return nil },
			close:   func() error { return nil },

			unsynced: func() error { return nil },
			write: func(recs []record) error {
				if fail {
					return errInjected
				}
				written += len(recs)
				return nil
			},
		}
		data, g := content(1, 256<<10, 2<<20)
		dir := fastDir(t)
		if err := os.Mkdir(filepath.Join(dir, "pieces"), 0o755); err != nil {
			t.Fatal(err)
		}
		s := openStore(t, Options{Dir: dir, Budget: 64 << 20, floor: 1, openDisk: func(string, int64, *slog.Logger) (*disk, error) { return d, nil }})
		v := openVolume(t, s, 1, g)
		step := func(piece, want int, degraded error) {
			t.Helper()
			put(t, v, data, piece)
			if err := s.Sync(); err != nil {
				t.Error(err)
			}
			if written != want || !errors.Is(s.Degraded(), degraded) {
				t.Errorf("piece %d: %d written, want %d; degraded: %v", piece, written, want, s.Degraded())
			}
		}
		step(0, 0, errInjected)
		fail = false
		step(1, 0, errInjected) // the disk is left alone for a while
		time.Sleep(retryMin)
		step(2, 3, nil) // with what failed before
		closeStore(t, s)
	})
}

// Badger does not count the garbage of a table whose keys all have a dropped prefix.
func TestSpaceOfAWholeTableComesBack(t *testing.T) {
	const size = 256 << 10
	dir := filepath.Join(fastDir(t), "pieces")
	d, err := openBadger(dir, 1<<20, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	var recs []record
	for i := range uint32(64) {
		recs = append(recs, record{key: pieceKey{piece: i, size: size, chunk: size}, chunks: [][]byte{make([]byte, size)}})
	}
	if err := d.write(recs); err != nil {
		t.Fatal(err)
	}
	if err := d.read(recs[0].key, make([]byte, size), 0); err != nil {
		t.Fatal(err)
	}
	// The first drop brings the keys into the table that the second is about.
	for _, prefix := range [][]byte{piecePrefix([20]byte{}, 63), piecePrefix([20]byte{}, 0)[:24]} {
		if err := d.drop([][]byte{prefix}); err != nil {
			t.Fatal(err)
		}
	}
	for some := true; some; {
		if some, err = d.collect(collectRatios[0]); err != nil {
			t.Fatal(err)
		}
	}
	if used, err := diskUsage(dir); err != nil || used > 3<<20 {
		t.Errorf("%d bytes on disk after all was dropped, %v", used, err)
	}
	if err := d.clear(); err != nil {
		t.Fatal(err)
	}
	if used, err := diskUsage(dir); err != nil || used > 100<<10 {
		t.Errorf("%d bytes on disk after all was cleared, %v", used, err)
	}
	if err := d.write(recs[:1]); err != nil {
		t.Fatal(err)
	}
	if err := d.read(recs[0].key, make([]byte, size), 0); err != nil {
		t.Errorf("a piece that was written after all was cleared: %v", err)
	}
}
