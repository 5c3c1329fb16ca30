package cache

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// copyDir copies a folder that is being written to, as a crash would leave it
// or worse: the files are not of one moment.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		src, err := os.Open(filepath.Join(from, e.Name()))
		if err != nil {
			continue // collected meanwhile
		}
		dst, err := os.Create(filepath.Join(to, e.Name()))
		if err == nil {
			_, err = io.Copy(dst, src)
			dst.Close()
		}
		src.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// wantAllRight opens a store and reads all it holds. It returns how much.
func wantAllRight(t *testing.T, opts Options, data []byte, g Geometry) int {
	t.Helper()
	s := openStore(t, opts)
	defer closeStore(t, s)
	v := openVolume(t, s, 1, g)
	held := 0
	for i := range g.NumPieces() {
		if v.Has(i) {
			if wantHeldRight(t, v, data, i) {
				held++
			} else if v.Has(i) {
				t.Errorf("piece %d is held and cannot be read", i)
			}
		}
	}
	return held
}

func TestCopyOfTheFolderAtAnyMomentHoldsOnlyRightPieces(t *testing.T) {
	data, g := content(7, 200_000, 24<<20)
	dir := fastDir(t)
	opts := Options{Dir: filepath.Join(dir, "live"), Budget: 24 << 20, Memory: 4 << 20, floor: 1}
	s := openStore(t, opts)
	v := openVolume(t, s, 1, g)
	rng := rand.New(rand.NewPCG(1, 2))
	copies, useful := 0, 0
	for range 3 {
		for i := range g.NumPieces() {
			if !v.Has(i) {
				put(t, v, data, i)
			}
			if rng.IntN(20) != 0 {
				continue
			}
			copied := filepath.Join(dir, "copy")
			copyDir(t, filepath.Join(opts.Dir, "pieces"), filepath.Join(copied, "pieces"))
			after := opts
			after.Dir = copied
			copies++
			if wantAllRight(t, after, data, g) > 0 {
				useful++
			}
			if err := os.RemoveAll(copied); err != nil {
				t.Fatal(err)
			}
		}
	}
	if useful < copies/2 {
		t.Errorf("only %d of %d copies held anything", useful, copies)
	}
}

const (
	crashDirEnv  = "SWARMFS_CACHE_CRASH_DIR"
	crashBudget  = 40 << 20
	crashPieces  = 256 << 10
	crashVolume  = 48 << 20
	crashRunning = "running"
)

// TestKilledChild is the process that TestKilledWriterLosesNothingThatWasWritten
// kills. It writes pieces for ever and says which are on disk.
func TestKilledChild(t *testing.T) {
	dir := os.Getenv(crashDirEnv)
	if dir == "" {
		return
	}
	data, g := content(9, crashPieces, crashVolume)
	s, err := Open(Options{Dir: dir, Budget: crashBudget, Memory: 4 << 20, floor: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Degraded(); err != nil {
		t.Fatal(err)
	}
	v, err := s.Volume([20]byte{1}, g)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(crashRunning)
	for i := 0; ; i = (i + 1) % g.NumPieces() {
		if v.Has(i) {
			continue
		}
		put(t, v, data, i)
		fmt.Println(s.Stats().Written)
	}
}

func TestKilledWriterLosesNothingThatWasWritten(t *testing.T) {
	dir := fastDir(t)
	data, g := content(9, crashPieces, crashVolume)
	rng := rand.New(rand.NewPCG(3, 4))
	rounds := 24
	if testing.Short() {
		rounds = 4
	}
	before := 0
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledChild$")
		cmd.Env = append(os.Environ(), crashDirEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		written := 0
		for stop := 1 + rng.IntN(300); stop > 0 && lines.Scan(); stop-- {
			if text := lines.Text(); text == crashRunning && round%4 == 3 {
				break // hardly begun
			}
			fmt.Sscan(lines.Text(), &written)
		}
		cmd.Process.Kill()
		io.Copy(io.Discard, out)
		cmd.Wait()
		log := slog.New(slog.NewTextHandler(t.Output(), nil))
		held := wantAllRight(t, Options{Dir: dir, Budget: crashBudget, Memory: 4 << 20, Logger: log, floor: 1}, data, g)
		// What is evicted at once is a 20th of the budget and one batch.
		if want := min(before+written, int(liveTarget(crashBudget)-crashBudget/evictShare-batchBytes)/crashPieces) - 1; held < want {
			t.Errorf("round %d: %d pieces held after the kill, %d before and %d written; want at least %d", round, held, before, written, want)
		}
		before = held
		if _, err := os.Stat(filepath.Join(dir, "pieces.broken")); err == nil {
			t.Fatal("the database was moved aside")
		}
	}
}
