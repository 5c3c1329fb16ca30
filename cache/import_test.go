package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// imported is a volume over files, and what it was told.
type imported struct {
	*Imported
	t       testing.TB
	data    []byte
	dir     string
	extents []Extent
	imports *Imports

	mu     sync.Mutex
	told   map[int]bool // the last news of a piece: it is held
	counts int          // of recounts
}

// newImports does not wait long for files that were just written.
func newImports(t testing.TB) *Imports {
	im := NewImports(nil)
	im.settle = 20 * time.Millisecond
	t.Cleanup(func() {
		if err := im.Close(); err != nil {
			t.Error(err)
		}
	})
	return im
}

func openImported(t testing.TB, im *Imports, v *Volume, known ImportRecord, extents []Extent) *imported {
	f := &imported{t: t, imports: im, extents: extents, told: make(map[int]bool)}
	f.Imported = im.Open(v, known, func() []Extent { return f.extents })
	f.Notify(func(piece int) { f.tell(piece, false) }, nil)
	f.NotifyFound(func(piece int) { f.tell(piece, true) })
	f.NotifyRecount(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.counts++
	})
	t.Cleanup(f.Imported.Close)
	return f
}

func (f *imported) tell(piece int, held bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told[piece] = held
}

// layImport writes files of these lengths, negative ones are padding, and imports them.
func layImport(t *testing.T, pieceLength int64, lengths ...int64) *imported {
	t.Helper()
	var total int64
	for _, n := range lengths {
		total += max(n, -n)
	}
	data, _ := content(9, pieceLength, total)
	at := int64(0)
	for _, n := range lengths {
		if n < 0 {
			clear(data[at : at-n])
		}
		at += max(n, -n)
	}
	g := geometryOf(data, pieceLength)
	dir, extents := layFiles(t, data, lengths...)
	s := openStore(t, Options{Memory: 16 << 20})
	f := openImported(t, newImports(t), openVolume(t, s, 1, g), ImportRecord{}, extents)
	f.data, f.dir = data, dir
	return f
}

// serve goes through all pieces.
func (f *imported) serve() {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.imports.Serve(ctx)
	}()
	f.await("all pieces to be decided", func() bool {
		return f.Undecided(0, f.geometry.NumPieces()) == f.geometry.NumPieces()
	})
	cancel()
	<-done
}

func (f *imported) await(what string, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// touching returns the pieces that have a part in some extents.
func (f *imported) touching(extents ...Extent) bitmap {
	set := newBitmap(f.geometry.NumPieces())
	for _, e := range extents {
		for i := range f.geometry.NumPieces() {
			from, to := int64(i)*f.geometry.PieceLength, int64(i)*f.geometry.PieceLength+int64(f.geometry.PieceSize(i))
			if e.Offset < to && from < e.Offset+e.Length {
				set.set(i)
			}
		}
	}
	return set
}

// check reads all pieces: right ones where want says so, else none.
func (f *imported) check(want func(piece int) bool) {
	f.t.Helper()
	for i := range f.geometry.NumPieces() {
		right := pieceOf(f.data, f.geometry, i)
		for _, off := range []int{0, len(right) / 3} {
			got := make([]byte, len(right))
			n, err := f.ReadAt(i, got, off)
			switch {
			case want(i) && (err != nil || !slices.Equal(got[:n], right[off:])):
				f.t.Errorf("piece %d from %d: %d bytes, %v", i, off, n, err)
			case !want(i) && !errors.Is(err, ErrMissing):
				f.t.Errorf("piece %d from %d: %d bytes, %v, want it missing", i, off, n, err)
			}
		}
		if f.Has(i) != want(i) {
			f.t.Errorf("piece %d: has it: %v", i, f.Has(i))
		}
	}
}

func all(int) bool  { return true }
func none(int) bool { return false }

// The third piece spans two files, padding and a file without bytes.
var importLengths = []int64{120_000, 0, 30_000, -20_000, 0, 80_001, 250_000}

const importPiece = 50_000

func overwrite(path string, at int64, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0) // it may be a pipe by now
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), at)
	return errors.Join(err, f.Close())
}

// importFaults are what becomes of a file, and which of its bytes are no good then.
var importFaults = []struct {
	name string
	do   func(e Extent) error
	bad  func(e Extent) Extent
}{
	{"nothing", func(Extent) error { return nil }, func(Extent) Extent { return Extent{} }},
	{"wrong byte", func(e Extent) error { return overwrite(e.Path, e.Length-1, "\x00\x01"[:1]) }, func(e Extent) Extent {
		return Extent{Offset: e.Offset + e.Length - 1, Length: 1}
	}},
	{"shorter", func(e Extent) error { return os.Truncate(e.Path, e.Length/2) }, func(e Extent) Extent {
		return Extent{Offset: e.Offset + e.Length/2, Length: e.Length - e.Length/2}
	}},
	{"a hole", func(e Extent) error {
		return errors.Join(os.Truncate(e.Path, e.Length/2), os.Truncate(e.Path, e.Length))
	}, func(e Extent) Extent {
		return Extent{Offset: e.Offset + e.Length/2, Length: e.Length - e.Length/2}
	}},
	{"empty", func(e Extent) error { return os.Truncate(e.Path, 0) }, func(e Extent) Extent { return e }},
	{"gone", func(e Extent) error { return os.Remove(e.Path) }, func(e Extent) Extent { return e }},
	{"longer", func(e Extent) error { return overwrite(e.Path, e.Length, "more") }, func(e Extent) Extent { return Extent{} }},
	{"a pipe", func(e Extent) error {
		return errors.Join(os.Remove(e.Path), unix.Mkfifo(e.Path, 0o644))
	}, func(e Extent) Extent { return e }},
	{"a folder", func(e Extent) error {
		return errors.Join(os.Remove(e.Path), os.Mkdir(e.Path, 0o755))
	}, func(e Extent) Extent { return e }},
	{"another file", func(e Extent) error {
		return errors.Join(os.WriteFile(e.Path+".new", make([]byte, e.Length), 0o644), os.Rename(e.Path+".new", e.Path))
	}, func(e Extent) Extent { return e }},
}

func TestWhatFilesDoNotHoldIsMissing(t *testing.T) {
	for _, fault := range importFaults {
		for i, n := range importLengths {
			if n <= 0 {
				continue
			}
			for _, how := range []string{"read", "served"} {
				t.Run(fmt.Sprint(fault.name, i, how), func(t *testing.T) {
					f := layImport(t, importPiece, importLengths...)
					if err := fault.do(f.extents[i]); err != nil {
						t.Fatal(err)
					}
					if how == "served" {
						f.serve()
					}
					bad := f.touching(fault.bad(f.extents[i]))
					f.check(func(piece int) bool { return !bad.has(piece) })
					if got, want := f.Imported.Status().Held, f.geometry.NumPieces()-bad.count(); got != want {
						t.Errorf("status: %d pieces held, want %d", got, want)
					}
				})
			}
		}
	}
}

func TestAFileThatChangesIsWithdrawnAndTakenUpAgain(t *testing.T) {
	for _, fault := range importFaults[1:] {
		for i, n := range importLengths {
			if n <= 0 {
				continue
			}
			t.Run(fmt.Sprint(fault.name, i), func(t *testing.T) {
				f := layImport(t, importPiece, importLengths...)
				f.serve()
				f.check(all)
				e := f.extents[i]
				if err := fault.do(e); err != nil {
					t.Fatal(err)
				}
				lost := f.touching(e)
				kept := func(piece int) bool { return !lost.has(piece) }
				f.check(kept)
				st := f.Imported.Status()
				if st.Troubled != 1 || len(st.Troubles) != 1 || st.Troubles[0].Path != e.Path {
					t.Errorf("status: %+v", st)
				}
				f.await("news", func() bool {
					f.mu.Lock()
					defer f.mu.Unlock()
					return f.counts == 2
				})
				if err := errors.Join(os.RemoveAll(e.Path), os.WriteFile(e.Path, f.data[e.Offset:e.Offset+e.Length], 0o644)); err != nil {
					t.Fatal(err)
				}
				if next := f.lookAgain(time.Now().Add(time.Hour)); !next.IsZero() {
					t.Errorf("to be looked for again at %v", next)
				}
				f.serve()
				f.check(all)
				if st := f.Imported.Status(); st.Troubled != 0 || st.Held != f.geometry.NumPieces() {
					t.Errorf("status: %+v", st)
				}
			})
		}
	}
}

// A sector that cannot be read costs its piece, and no other.
func TestAnUnreadableSectorCostsOnePiece(t *testing.T) {
	f := layImport(t, importPiece, importLengths...)
	f.serve()
	bad := f.extents[6]
	f.imports.pread = func(file *os.File, off int64, p []byte) error {
		if file.Name() == bad.Path && off <= 150_000 && 150_000 < off+int64(len(p)) {
			return syscall.EIO
		}
		return readFull(file, off, p)
	}
	lost := f.touching(Extent{Offset: bad.Offset + 150_000, Length: 1})
	f.check(func(piece int) bool { return !lost.has(piece) })
	if st := f.Imported.Status(); st.Troubled != 1 || !errors.Is(st.Troubles[0].Why, syscall.EIO) {
		t.Errorf("status: %+v", st)
	}
	f.await("news", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		held, told := f.told[lost.next(0, f.geometry.NumPieces())]
		return told && !held
	})
}

// What a file lacks is kept in the cache, beside what it has.
func TestFilesAndCacheAreOneVolume(t *testing.T) {
	f := layImport(t, importPiece, importLengths...)
	if err := os.Remove(f.extents[2].Path); err != nil {
		t.Fatal(err)
	}
	f.serve()
	lost := f.touching(f.extents[2])
	for i := range f.geometry.NumPieces() {
		if lost.has(i) {
			put(t, f.Volume, f.data, i)
		} else if _, err := f.Draft(i, true); !errors.Is(err, ErrHeld) {
			t.Errorf("draft of piece %d: %v", i, err)
		}
	}
	f.check(all)
	if got := f.Volume.Pieces(); !slices.Equal(got, lost) {
		t.Errorf("cached %b, want %b", got, lost)
	}
}

func TestARestartHashesNothingAgain(t *testing.T) {
	f := layImport(t, importPiece, importLengths...)
	if err := errors.Join(overwrite(f.extents[6].Path, 99_999, "wrong"), os.Remove(f.extents[2].Path)); err != nil {
		t.Fatal(err)
	}
	f.extents[2].Path = ""
	f.serve()
	want := f.Pieces()
	f.Imported.Close()
	known := f.Record()

	again := func(hashed int64) *imported {
		t.Helper()
		im := newImports(t)
		g := openImported(t, im, f.Volume, known, f.extents)
		g.data = f.data
		g.serve()
		if got := g.Imported.Status().Hashed; got != hashed {
			t.Errorf("%d bytes hashed, want %d", got, hashed)
		}
		if got := g.Pieces(); !slices.Equal(got, want) {
			t.Errorf("held %b, want %b", got, want)
		}
		return g
	}
	g := again(0)
	if !g.Record().equal(known) {
		t.Error("what is remembered has changed")
	}
	// The first read of a piece hashes it, the second does not.
	for range 2 {
		if _, err := g.ReadAt(0, make([]byte, 10), 5); err != nil {
			t.Fatal(err)
		}
	}
	if got := g.Imported.Status().Hashed; got != importPiece {
		t.Errorf("%d bytes hashed by reads, want a piece", got)
	}
	g.Imported.Close()

	// Of a file that was touched all is hashed, of others nothing.
	now := time.Now()
	if err := os.Chtimes(f.extents[0].Path, now, now); err != nil {
		t.Fatal(err)
	}
	again(2 * importPiece).Imported.Close() // the third piece needs the file that is gone
}

// A flipped bit that no time tells of is found by the first read of the next run.
func TestWhatIsRememberedIsHashedBeforeItIsServed(t *testing.T) {
	f := layImport(t, importPiece, 200_000)
	f.serve()
	known := f.Record()
	f.Imported.Close()
	path := f.extents[0].Path
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(overwrite(path, 60_000, "x"), os.Chtimes(path, fi.ModTime(), fi.ModTime())); err != nil {
		t.Fatal(err)
	}
	g := openImported(t, newImports(t), f.Volume, known, f.extents)
	g.data = f.data
	g.look()
	if !g.Has(1) {
		t.Fatal("the change was seen: nothing is tested")
	}
	g.check(func(piece int) bool { return piece != 1 })
}

func TestReadersOfAPieceWaitForOneHash(t *testing.T) {
	f := layImport(t, 8<<20, 8<<20)
	var readers sync.WaitGroup
	for i := range 8 {
		readers.Go(func() {
			got := make([]byte, 1000)
			if _, err := f.Peek(0, got, i*1000); err != nil || !slices.Equal(got, f.data[i*1000:i*1000+1000]) {
				t.Errorf("reader %d: %v", i, err)
			}
		})
	}
	readers.Wait()
	if got := f.Imported.Status().Hashed; got != 8<<20 {
		t.Errorf("%d bytes hashed", got)
	}
}

// What readers are about to read is decided before all the rest.
func TestWindowsAreLookedAtFirst(t *testing.T) {
	f := layImport(t, BlockSize, 400*BlockSize)
	f.Window(1, Span{300, 310})
	ctx, cancel := context.WithCancel(t.Context())
	f.NotifyFound(func(piece int) {
		f.tell(piece, true)
		if piece < 300 || piece >= 310 {
			cancel()
		}
	})
	_ = f.imports.Serve(ctx)
	for piece := 300; piece < 310; piece++ {
		if f.Undecided(piece, piece+1) == piece {
			t.Errorf("piece %d is undecided", piece)
		}
	}
	if n := f.Undecided(0, 300); n > 20 {
		t.Errorf("%d pieces were looked at before it was noticed", n)
	}
}

func TestAFileBeingWrittenIsLeftAlone(t *testing.T) {
	f := layImport(t, importPiece, 200_000, 100_000)
	f.imports.settle = 200 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for ctx.Err() == nil {
			now := time.Now()
			_ = os.Chtimes(f.extents[0].Path, now, now)
			time.Sleep(time.Millisecond)
		}
	})
	f.look()
	cancel()
	writer.Wait()
	f.check(func(piece int) bool { return piece >= 4 })
	if st := f.Imported.Status(); st.Troubled != 1 || !errors.Is(st.Troubles[0].Why, errFileBusy) {
		t.Errorf("status: %+v", st)
	}
}

func TestFilesThatDoNotCoverTheVolumeAreNotImported(t *testing.T) {
	f := layImport(t, importPiece, 200_000)
	f.extents[0].Length--
	f.serve()
	f.check(none)
}

// Whatever happens to the files, no wrong byte is served, and what is whole again is
// found again.
func TestImportedAgreesWithAModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var lengths []int64
		for range rapid.IntRange(1, 5).Draw(rt, "files") {
			n := rapid.SampledFrom([]int64{0, 1, 10_000, 50_000, 123_456}).Draw(rt, "length")
			if lengths = append(lengths, n); rapid.IntRange(0, 5).Draw(rt, "pad") == 0 {
				lengths = append(lengths, -10_000) // BEP 47: less than a piece
			}
		}
		lengths = append(lengths, 70_000)
		f := layImport(t, 20_000, lengths...)
		f.imports.settle = 15 * time.Millisecond
		cached := make(map[int]bool)
		var clock time.Duration
		lookAgain := func() {
			clock += time.Hour // beyond all pauses
			f.lookAgain(time.Now().Add(clock))
		}
		file := func(t *rapid.T) Extent {
			return rapid.SampledFrom(slices.DeleteFunc(slices.Clone(f.extents), func(e Extent) bool { return e.Zero || e.Length == 0 })).Draw(t, "file")
		}
		rt.Repeat(map[string]func(*rapid.T){
			"read": func(t *rapid.T) {
				piece := rapid.IntRange(0, f.geometry.NumPieces()-1).Draw(t, "piece")
				want := pieceOf(f.data, f.geometry, piece)
				got := make([]byte, len(want))
				n, err := f.ReadAt(piece, got, 0)
				if err != nil && !errors.Is(err, ErrMissing) || err == nil && !slices.Equal(got[:n], want) {
					t.Fatalf("piece %d: %d bytes, %v", piece, n, err)
				}
				if err != nil && cached[piece] {
					t.Fatalf("piece %d is cached and missing", piece)
				}
			},
			"damage": func(t *rapid.T) {
				fault := importFaults[rapid.IntRange(1, len(importFaults)-1).Draw(t, "fault")]
				e := file(t)
				time.Sleep(15 * time.Millisecond) // a tick of the clock of files
				_ = fault.do(e)                   // it may be gone
			},
			"restore": func(t *rapid.T) {
				e := file(t)
				if err := errors.Join(os.RemoveAll(e.Path), os.WriteFile(e.Path, f.data[e.Offset:e.Offset+e.Length], 0o644)); err != nil {
					t.Fatal(err)
				}
			},
			"look again": func(*rapid.T) { lookAgain() },
			"serve":      func(*rapid.T) { f.serve() },
			"cache": func(t *rapid.T) {
				piece := rapid.IntRange(0, f.geometry.NumPieces()-1).Draw(t, "piece")
				if !f.Has(piece) {
					putFor(f.t, f.Volume, f.data, piece, true)
					cached[piece] = true
				}
			},
			"restart": func(*rapid.T) {
				known := f.Record()
				f.Imported.Close()
				g := openImported(f.t, f.imports, f.Volume, known, f.extents)
				g.data, g.dir = f.data, f.dir
				f = g
			},
			"": func(t *rapid.T) {
				for piece := range cached {
					if !f.Has(piece) {
						t.Fatalf("piece %d is cached and not held", piece)
					}
				}
			},
		})
		for _, e := range f.extents {
			if e.Zero {
				continue
			}
			if err := errors.Join(os.RemoveAll(e.Path), os.WriteFile(e.Path, f.data[e.Offset:e.Offset+e.Length], 0o644)); err != nil {
				rt.Fatal(err)
			}
		}
		f.look()
		// A file that replaced one is seen by a read, and then looked for; a piece that
		// has a part in several may tell of one at a time.
		for range len(f.extents) + 1 {
			for i := range f.geometry.NumPieces() {
				_, _ = f.ReadAt(i, make([]byte, f.geometry.PieceSize(i)), 0)
			}
			lookAgain()
			f.serve()
		}
		for i := range f.geometry.NumPieces() {
			want := pieceOf(f.data, f.geometry, i)
			got := make([]byte, len(want))
			if n, err := f.ReadAt(i, got, 0); err != nil || !slices.Equal(got[:n], want) {
				rt.Fatalf("piece %d when all is whole again: %v; %+v", i, err, f.Imported.Status())
			}
		}
	})
}
