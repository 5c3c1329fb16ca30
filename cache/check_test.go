package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// hookDisk opens a database that tells of each read before it happens.
func hookDisk(hook func(k pieceKey, bytes int)) func(string, int64, *slog.Logger) (*disk, error) {
	return func(dir string, logFile int64, log *slog.Logger) (*disk, error) {
		d, err := openBadger(dir, logFile, log)
		if err != nil {
			return nil, err
		}
		read := d.read
		d.read = func(k pieceKey, p []byte, off int) error {
			hook(k, len(p))
			return read(k, p, off)
		}
		return d, nil
	}
}

// stored returns the options of a store that an earlier run filled.
func stored(t testing.TB, data []byte, g Geometry) Options {
	t.Helper()
	opts := Options{Dir: fastDir(t), Budget: 64 << 20} // log files of 4 MiB
	s := openStore(t, opts)
	v := openVolume(t, s, 1, g)
	for i := range g.NumPieces() {
		put(t, v, data, i)
	}
	closeStore(t, s)
	return opts
}

// damage flips a bit of a piece where it is stored. Of the last log Badger would
// see it, and cut the log there.
func damage(t testing.TB, opts Options, piece []byte) {
	t.Helper()
	logs, _ := filepath.Glob(filepath.Join(opts.Dir, "pieces", "*.vlog"))
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(text, piece[:64]); at >= 0 {
			text[at+17] ^= 4
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("the piece is in no log")
}

func TestAFlippedBitCostsAFetchAndNothingElse(t *testing.T) {
	data, g := content(1, 600_000, 15_000_300) // the last piece is small enough to lie beside its key
	opts := stored(t, data, g)
	damage(t, opts, pieceOf(data, g, 2))
	s := openStore(t, opts)
	v := openVolume(t, s, 1, g)
	evicted := make(chan int, 10)
	v.Notify(func(piece int) { evicted <- piece }, nil)
	for i := range g.NumPieces() {
		if i != 2 {
			wantPiece(t, v, data, i)
		}
	}
	// The bit is in another chunk than what is read.
	if n, err := v.ReadAt(2, make([]byte, 10), 590_000); !errors.Is(err, ErrMissing) {
		t.Fatalf("read of the damaged piece: %d, %v", n, err)
	}
	if got := <-evicted; got != 2 {
		t.Errorf("piece %d is told as evicted, want 2", got)
	}
	if v.Has(2) || s.Stats().Lost != 1 {
		t.Errorf("held: %v, lost: %d", v.Has(2), s.Stats().Lost)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)

	s = openStore(t, opts)
	v = openVolume(t, s, 1, g)
	if v.Has(2) {
		t.Error("the damaged piece is held after the next start")
	}
	put(t, v, data, 2)
	closeStore(t, s)
	if held := wantAllRight(t, opts, data, g); held != g.NumPieces() {
		t.Errorf("%d pieces after it was fetched again, want %d", held, g.NumPieces())
	}
}

func TestAPieceFetchedAgainAtOnceIsKept(t *testing.T) {
	data, g := content(1, 256<<10, 12<<20)
	opts := stored(t, data, g)
	damage(t, opts, pieceOf(data, g, 1))
	s := openStore(t, opts)
	v := openVolume(t, s, 1, g)
	if wantHeldRight(t, v, data, 1) {
		t.Fatal("the damaged piece was served")
	}
	put(t, v, data, 1) // the damaged record may still be there
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	if e := s.policy.index[spot{v, 1}]; e.class == junk {
		t.Error("the new piece is still the first to go")
	}
	s.mu.Unlock()
	closeStore(t, s)
	if held := wantAllRight(t, opts, data, g); held != g.NumPieces() {
		t.Errorf("%d pieces held, want %d", held, g.NumPieces())
	}
}

func TestReadersOfAnUncheckedPieceWaitForOneCheck(t *testing.T) {
	const readers = 16
	data, g := content(1, 4<<20, 8<<20)
	opts := stored(t, data, g)
	begun, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var read atomic.Int64
	opts.openDisk = hookDisk(func(k pieceKey, bytes int) {
		if k.piece == 0 {
			read.Add(int64(bytes))
			once.Do(func() { close(begun); <-release })
		}
	})
	s := openStore(t, opts)
	v := openVolume(t, s, 1, g)
	const req = 64 << 10
	var group sync.WaitGroup
	for i := range readers {
		group.Go(func() {
			p, off := make([]byte, req), i*200_000
			if n, err := v.ReadAt(0, p, off); n != req || err != nil || !bytes.Equal(p, data[off:off+req]) {
				t.Errorf("reader %d: %d bytes, %v", i, n, err)
			}
		})
	}
	<-begun
	// The check holds up nobody else.
	wantPiece(t, v, data, 1)
	if got := s.Stats(); got.Checked != 1 {
		t.Errorf("%d checks done, want that of piece 1", got.Checked)
	}
	close(release)
	group.Wait()
	if got := s.Stats(); got.Checked != 2 {
		t.Errorf("%d checks, want one of each piece", got.Checked)
	}
	// Who did the check needs nothing more, the others what they asked for.
	if got, want := read.Load(), int64(4<<20+(readers-1)*req); got > want {
		t.Errorf("%d bytes read from the disk, want at most %d", got, want)
	}
	read.Store(0)
	wantPiece(t, v, data, 0)
	if got := read.Load(); got != 4<<20 || s.Stats().Checked != 2 {
		t.Errorf("the next read: %d bytes from the disk, %d checks", got, s.Stats().Checked)
	}
}

// A start hashes and reads no piece, until one is read; and then only that.
func TestAStartHashesNothingBeforeItIsRead(t *testing.T) {
	data, g := content(1, 256<<10, 8<<20)
	opts := stored(t, data, g)
	var read atomic.Int64
	opts.openDisk = hookDisk(func(_ pieceKey, bytes int) { read.Add(int64(bytes)) })
	s := openStore(t, opts)
	v := openVolume(t, s, 1, g)
	held := 0
	for i := range g.NumPieces() {
		if v.Has(i) {
			held++
		}
	}
	if err := s.Sync(); err != nil || held != g.NumPieces() || len(v.Pieces()) != 1 {
		t.Errorf("%d pieces of %d are held; %v", held, g.NumPieces(), err)
	}
	if got := s.Stats().Checked; got != 0 || read.Load() != 0 {
		t.Errorf("%d pieces hashed, %d bytes read before the first read", got, read.Load())
	}
	wantPiece(t, v, data, 5)
	if got := s.Stats().Checked; got != 1 || read.Load() != g.PieceLength {
		t.Errorf("%d pieces hashed, %d bytes read for one piece", got, read.Load())
	}
}

// Without a budget what an earlier run stored stays, and is told of.
func TestPiecesThatAreNotUsedAreToldOf(t *testing.T) {
	data, g := content(1, 256<<10, 8<<20)
	opts := stored(t, data, g)
	var said bytes.Buffer
	memory := Options{Dir: opts.Dir, Logger: slog.New(slog.NewTextHandler(&said, nil))}
	s := openStore(t, memory)
	if openVolume(t, s, 1, g).Has(0) {
		t.Error("a store without a budget uses the disk")
	}
	closeStore(t, s)
	if !strings.Contains(said.String(), "stay on disk unused") || !strings.Contains(said.String(), opts.Dir) {
		t.Errorf("the log does not tell: %q", said.String())
	}
	if held := wantAllRight(t, opts, data, g); held != g.NumPieces() {
		t.Errorf("%d pieces of %d are held after that", held, g.NumPieces())
	}
}

func TestChecksAtOnceAreBounded(t *testing.T) {
	data, g := content(1, 256<<10, 8<<20)
	opts := stored(t, data, g)
	var at, most atomic.Int64
	opts.openDisk = hookDisk(func(pieceKey, int) {
		now := at.Add(1)
		defer at.Add(-1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
		runtime.Gosched()
	})
	s := openStore(t, opts)
	v := openVolume(t, s, 1, g)
	var group sync.WaitGroup
	for i := range g.NumPieces() {
		group.Go(func() { wantHeldRight(t, v, data, i) })
	}
	group.Wait()
	if got := most.Load(); got > int64(runtime.GOMAXPROCS(0)) {
		t.Errorf("%d checks at once", got)
	}
	if got := s.Stats().Checked; got != int64(g.NumPieces()) {
		t.Errorf("%d checks, want %d", got, g.NumPieces())
	}
}

func TestWhatThisRunWroteIsNotChecked(t *testing.T) {
	data, g := content(1, 1<<20, 16<<20)
	s := openStore(t, Options{Dir: fastDir(t), Budget: 256 << 20, Memory: 2 << 20})
	v := openVolume(t, s, 1, g)
	for i := range g.NumPieces() {
		put(t, v, data, i)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	for i := range g.NumPieces() {
		wantPiece(t, v, data, i)
	}
	if st := s.Stats(); st.Checked != 0 || st.HitsDisk == 0 {
		t.Errorf("%d checks, %d reads from the disk", st.Checked, st.HitsDisk)
	}
}

// A log that is collected is cut and removed under its readers.
func TestReadsWhileLogsAreCollectedAreRight(t *testing.T) {
	data, g := content(6, 256<<10, 64<<20)
	opts := Options{Dir: fastDir(t), Budget: 48 << 20, Memory: 2 << 20, floor: 1}
	s := openStore(t, opts)
	v := openVolume(t, s, 1, g)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 5))
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					wantHeldRight(t, v, data, rng.IntN(g.NumPieces()))
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(8, 5))
	for range 4 * g.NumPieces() {
		if i := rng.IntN(g.NumPieces()); !v.Has(i) {
			put(t, v, data, i)
		}
	}
	close(stop)
	readers.Wait()
	st := s.Stats()
	t.Logf("%d reads from the disk, %d evicted, %d lost", st.HitsDisk, st.Evicted, st.Lost)
	if st.Lost != 0 || st.HitsDisk == 0 || st.Evicted == 0 {
		t.Error("pieces were lost, or nothing was tried")
	}
}

// The kernel takes 1024 buffers for one read.
func TestAVeryLargePieceIsReadAtOnce(t *testing.T) {
	const size = 521 * maxChunk // and what is between them
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i) ^ byte(i>>8) ^ byte(i>>16)
	}
	g := geometryOf(data, size)
	s := openStore(t, Options{Dir: fastDir(t), Budget: 16 << 30, Memory: 1 << 20, floor: 1}) // one log file
	v := openVolume(t, s, 1, g)
	put(t, v, data, 0)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct{ off, n int }{{0, size}, {size/2 + 5, 77}, {size - 3*maxChunk/2, 3 * maxChunk / 2}} {
		p := make([]byte, r.n)
		if n, err := v.ReadAt(0, p, r.off); n != r.n || err != nil || !bytes.Equal(p, data[r.off:][:r.n]) {
			t.Errorf("read %d bytes at %d: %d, %v", r.n, r.off, n, err)
		}
	}
	if st := s.Stats(); st.HitsDisk != 3 {
		t.Errorf("%d reads from the disk, want 3", st.HitsDisk)
	}
}

func TestReadersInOrderAreReadAheadFor(t *testing.T) {
	_, g := content(1, 1<<20, 64<<20)
	s := openStore(t, Options{})
	v := openVolume(t, s, 1, g)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range uint32(g.NumPieces()) {
		v.disk[i] = diskPiece{checked: true}
	}
	var got []int
	for i := range 4 { // two readers in turn, one at random between them
		for _, piece := range []int{10 + i, 10 + i, 40 + i, 63 - 7*i} {
			if ahead := v.inOrder(piece); ahead > 0 {
				got = append(got, ahead)
			}
		}
	}
	if want := []int{15, 45, 16, 46, 17, 47}; len(got) != len(want) || got[0] != want[0] || got[5] != want[5] {
		t.Errorf("read ahead %v, want %v", got, want)
	}
	if ahead := v.inOrder(14) + v.inOrder(59) + v.inOrder(60); ahead != 18 {
		t.Errorf("read ahead %d; want 18: nothing is beyond the end", ahead)
	}
}

func TestCountsOfGarbageThatCannotBeRightAreForgotten(t *testing.T) {
	dir := t.TempDir()
	for _, log := range []uint32{1, 2, 3, 4} {
		if err := os.WriteFile(logPath(dir, log), make([]byte, 100), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	counts := func(pairs ...uint64) []byte {
		text := make([]byte, 0, discardSize)
		for _, n := range pairs {
			text = binary.BigEndian.AppendUint64(text, n)
		}
		return text[:discardSize]
	}
	name := filepath.Join(dir, discardName)
	for what, c := range map[string]struct{ text, want []byte }{
		"good":           {counts(1, 0, 2, 100, 4, 7), counts(1, 0, 2, 100, 4, 7)},
		"no such log":    {counts(1, 5, 1<<40|2, 6, 3, 7, 5, 8), counts(1, 5, 3, 7)},
		"too much":       {counts(1, 101, 2, 1<<63, 3, 9), counts(3, 9)},
		"twice":          {counts(1, 5, 1, 6, 2, 7), counts(1, 5, 2, 7)},
		"zero, not last": {counts(1, 5, 0, 6, 2, 7), counts(1, 5, 2, 7)},
		"cut":            {counts(1, 5, 2, 7)[:24], counts(1, 5)},
	} {
		if err := os.WriteFile(name, c.text, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := mendDiscards(dir); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %d bytes, beginning with %x, %v", what, len(got), got[:48], err)
		}
	}
}

func TestCheckFindsWhatChangedAfterItWasRead(t *testing.T) {
	data, g := content(1, 256<<10, 12<<20)
	opts := stored(t, data, g)
	s := openStore(t, opts)
	v := openVolume(t, s, 1, g)
	for i := range g.NumPieces() {
		wantPiece(t, v, data, i)
	}
	damage(t, opts, pieceOf(data, g, 3))
	for i := range g.NumPieces() {
		if err := v.Check(i); (i == 3) != errors.Is(err, ErrMissing) || i != 3 && err != nil {
			t.Errorf("check of piece %d: %v", i, err)
		}
	}
	if v.Has(3) || s.Stats().Lost != 1 {
		t.Errorf("held: %v, lost: %d", v.Has(3), s.Stats().Lost)
	}
	if err := v.Check(3); !errors.Is(err, ErrMissing) {
		t.Errorf("check of a piece that is not held: %v", err)
	}
	put(t, v, data, 3) // in memory, or on the disk by now
	if err := v.Check(3); err != nil {
		t.Errorf("check of a new piece: %v", err)
	}
}
