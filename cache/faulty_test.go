package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
)

var errInjected = errors.New("injected")

// faults lets the n-th operation of a disk fail, once or from then on.
type faults struct {
	mu     sync.Mutex
	n      int // operations until the failure
	sticky bool
	fired  bool
}

func (f *faults) fail() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n--
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
