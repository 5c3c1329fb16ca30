package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var errInjected = errors.New("injected")

// faults lets the n-th operation of a disk fail, once or from then on.
type faults struct {
	mu     sync.Mutex
	n      int // operations until the failure
	sticky bool
	fired  bool
	healed bool // no more failures
}

func (f *faults) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.healed = true
}

func (f *faults) fail() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n--
	if f.healed {
		return nil
	}
	if f.n == -1 || f.n < -1 && f.sticky {
		f.fired = true
		return errInjected
	}
	return nil
}

// open opens a database whose functions fail.
func (f *faults) open(dir string, logFile int64, log *slog.Logger) (*disk, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	d, err := openBadger(dir, logFile, log)
	if err != nil {
		return nil, err
	}
	inner := *d
	d.scan = func() ([]foundPiece, error) {
		if err := f.fail(); err != nil {
			return nil, err
		}
		return inner.scan()
	}
	d.write = func(recs []record) error {
		if err := f.fail(); err != nil {
			// The worst of failures: a part is there.
			return errors.Join(err, inner.write(recs[:len(recs)/2]))
		}
		return inner.write(recs)
	}
	d.read = func(k pieceKey, p []byte, off int) error {
		if err := f.fail(); err != nil {
			return err
		}
		return inner.read(k, p, off)
	}
	d.drop = func(prefixes [][]byte) error {
		if err := f.fail(); err != nil {
			return err
		}
		return inner.drop(prefixes)
	}
	d.collect = func(ratio float64) (bool, error) {
		if err := f.fail(); err != nil {
			return false, err
		}
		return inner.collect(ratio)
	}
	d.sync = func() error { return errors.Join(f.fail(), inner.sync()) }
	d.unsynced = f.fail
	d.close = func() error { return errors.Join(f.fail(), inner.close()) }
	return d, nil
}

// TestNthFailureGivesRightDataOrAnError lets every operation of the database
// fail in turn, once and for ever, through writing, eviction and a restart.
func TestNthFailureGivesRightDataOrAnError(t *testing.T) {
	data, g := content(3, 256<<10, 5<<20)
	for _, sticky := range []bool{false, true} {
		fired := true
		for n := 0; fired; n++ {
			t.Run(fmt.Sprintf("%v/%d", sticky, n), func(t *testing.T) {
				f := &faults{n: n, sticky: sticky}
				faultRun(t, f, data, g)
				fired = f.fired
			})
		}
	}
}

func faultRun(t *testing.T, f *faults, data []byte, g Geometry) {
	// 6 MiB of budget leave 4 for pieces: there is eviction.
	opts := Options{Dir: fastDir(t), Budget: 6 << 20, Memory: 2 << 20, openDisk: f.open, floor: 1}
	rng := rand.New(rand.NewPCG(uint64(f.n), 0))
	for range 2 { // the second time with what the first left
		s := openStore(t, opts)
		v := openVolume(t, s, 1, g)
		for i := range g.NumPieces() {
			if v.Has(i) {
				continue
			}
			put(t, v, data, i)
			wantHeldRight(t, v, data, i)
			if i%4 == 3 {
				wantHeldRight(t, v, data, rng.IntN(i+1))
			}
		}
		wantHeldRight(t, v, data, rng.IntN(g.NumPieces()))
		if err := s.Close(t.Context()); err != nil && !errors.Is(err, errInjected) {
			t.Error(err)
		}
	}
}

// wantHeldRight reads a piece, which may be missing, but not wrong.
func wantHeldRight(t testing.TB, v *Volume, data []byte, piece int) bool {
	t.Helper()
	want := pieceOf(data, v.geometry, piece)
	got := make([]byte, len(want))
	n, err := v.ReadAt(piece, got, 0)
	if errors.Is(err, ErrMissing) {
		return false
	}
	if err != nil || n != len(want) || string(got) != string(want) {
		t.Fatalf("read piece %d: %d bytes, %v, right: %v", piece, n, err, string(got) == string(want))
	}
	return true
}

// TestAFaultThatEndsIsHealed lets everything fail from the n-th operation on, for a
// while. Then the store finds its way back to the disk by itself, although nothing is
// written any more, and what it had in memory meanwhile is there, too.
func TestAFaultThatEndsIsHealed(t *testing.T) {
	data, g := content(3, 256<<10, 3<<20)
	fired := true
	for n := 0; fired; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir := fastDir(t)
			f := &faults{n: n, sticky: true}
			synctest.Test(t, func(t *testing.T) { healRun(t, dir, f, data, g) })
			fired = f.fired
		})
	}
}

func healRun(t *testing.T, dir string, f *faults, data []byte, g Geometry) {
	opts := Options{Dir: dir, Budget: 16 << 20, Memory: 8 << 20, openDisk: f.open, floor: 1}
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	v := openVolume(t, s, 1, g)
	for i := range g.NumPieces() {
		put(t, v, data, i)
		wantHeldRight(t, v, data, i)
		time.Sleep(time.Second) // the writer looks about itself
	}
	f.heal()
	time.Sleep(2 * retryMax)
	synctest.Wait()
	if err := s.Degraded(); err != nil {
		t.Fatalf("the disk is not used again: %v", err)
	}
	if held := wantAllHeldRight(t, v, data); held < g.NumPieces() {
		t.Errorf("%d pieces of %d are held", held, g.NumPieces())
	}
	if err := s.Sync(); err != nil {
		t.Error(err)
	}
	if live := s.Stats().DiskLive; live != g.Length {
		t.Errorf("%d bytes are on the disk, want all %d", live, g.Length)
	}
}

// The first piece that is written after others could not be brings those with it.
func TestAWriteThatSucceedsBringsThoseThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data, g := content(3, 256<<10, 1<<20)
		f := &faults{n: 2, sticky: true} // it is opened and read
		s, err := Open(Options{Dir: fastDir(t), Budget: 16 << 20, openDisk: f.open, floor: 1, look: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer closeStore(t, s)
		v := openVolume(t, s, 1, g)
		for i := range 3 {
			put(t, v, data, i)
		}
		synctest.Wait()
		if err := s.Degraded(); !errors.Is(err, errInjected) {
			t.Fatalf("degraded: %v", err)
		}
		f.heal()
		time.Sleep(retryMax)
		put(t, v, data, 3)
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		if live := s.Stats().DiskLive; live != g.Length || s.Degraded() != nil {
			t.Errorf("%d bytes are on the disk, want %d; degraded: %v", live, g.Length, s.Degraded())
		}
	})
}

// After a sync has failed the kernel may give what was there before: what this run
// wrote is hashed again before it is read.
func TestAFailedSyncHasPiecesHashedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data, g := content(3, 256<<10, 2<<20)
		var fail atomic.Bool
		open := func(dir string, logFile int64, log *slog.Logger) (*disk, error) {
			d, err := openBadger(dir, logFile, log)
			if err != nil {
				return nil, err
			}
			read := d.read
			d.unsynced = func() error {
				if fail.CompareAndSwap(true, false) {
					return errInjected
				}
				return nil
			}
			d.read = func(k pieceKey, p []byte, off int) error {
				err := read(k, p, off)
				if k.piece == 3 {
					clear(p) // it was not written
				}
				return err
			}
			return d, nil
		}
		s, err := Open(Options{Dir: fastDir(t), Budget: 32 << 20, Memory: 512 << 10, openDisk: open, floor: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer closeStore(t, s)
		v := openVolume(t, s, 1, g)
		for i := range g.NumPieces() {
			put(t, v, data, i)
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		fail.Store(true)
		time.Sleep(lookEvery)
		synctest.Wait()
		if err := s.Degraded(); !errors.Is(err, errInjected) {
			t.Errorf("degraded: %v", err)
		}
		for i := range g.NumPieces() {
			if wantHeldRight(t, v, data, i) == (i == 3) {
				t.Errorf("piece %d is not as it should be", i)
			}
		}
		time.Sleep(retryMax)
		synctest.Wait()
		if err := s.Degraded(); err != nil {
			t.Errorf("degraded: %v", err)
		}
	})
}

func TestAFailedSyncIsTold(t *testing.T) {
	y := startSyncer(func() error { return errInjected }, func() {}, 10)
	defer y.stop()
	y.wrote(10)
	eventually(t, "the error to be told", func() bool { return errors.Is(y.failed(), errInjected) })
	if err := y.failed(); err != nil {
		t.Errorf("told again: %v", err)
	}
}

// A disk that takes what is written and gives nothing back is not asked for it again
// and again: what is read ahead stays in memory, and each piece is fetched once for
// each time that the file is read. When the disk gives again, so does the store.
func TestADiskThatCannotBeReadFetchesNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data, g := content(3, 256<<10, 16<<20)
		n, passes := g.NumPieces(), 3
		var failing atomic.Bool
		open := func(dir string, logFile int64, log *slog.Logger) (*disk, error) {
			d, err := openBadger(dir, logFile, log)
			if err != nil {
				return nil, err
			}
			read := d.read
			d.read = func(k pieceKey, p []byte, off int) error {
				if failing.Load() {
					return fmt.Errorf("read: %w", syscall.EIO)
				}
				return read(k, p, off)
			}
			return d, nil
		}
		s, err := Open(Options{Dir: fastDir(t), Budget: 64 << 20, Memory: 4 << 20, openDisk: open, floor: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer closeStore(t, s)
		v := openVolume(t, s, 1, g)
		pass := func() {
			for at := range n {
				readAhead(t, v, data, at, 32)
				time.Sleep(50 * time.Millisecond)
			}
		}
		failing.Store(true)
		for range passes {
			pass()
		}
		if got, most := s.Stats().Committed, int64(passes*n*11/10+maxUnread); got > most {
			t.Errorf("%d pieces fetched for %d readings of %d, want at most %d", got, passes, n, most)
		}
		t.Logf("%d pieces fetched for %d readings of %d", s.Stats().Committed, passes, n)
		if err := s.Degraded(); !errors.Is(err, syscall.EIO) {
			t.Errorf("degraded: %v", err)
		}
		failing.Store(false)
		time.Sleep(retryMax)
		pass()
		time.Sleep(lookEvery)
		if err := s.Degraded(); err != nil {
			t.Errorf("degraded: %v", err)
		}
		before := s.Stats().Committed
		pass()
		if got := s.Stats().Committed - before; got > 0 {
			t.Errorf("%d pieces fetched that the disk has", got)
		}
	})
}

// readAhead reads a piece in parts, with so many pieces in its window. What is missing is
// fetched, and what has room besides.
func readAhead(t *testing.T, v *Volume, data []byte, at, window int) {
	t.Helper()
	g := v.geometry
	end := min(at+window, g.NumPieces())
	v.Window(1, Span{at, end})
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
	want := pieceOf(data, g, at)
	part := make([]byte, 64<<10)
	for off := 0; off < len(want); off += len(part) {
		_, err := v.ReadAt(at, part, off)
		for errors.Is(err, ErrMissing) {
			putFor(t, v, data, at, true)
			_, err = v.ReadAt(at, part, off)
		}
		if err != nil || string(part) != string(want[off:off+len(part)]) {
			t.Fatalf("read piece %d: %v", at, err)
		}
	}
}
