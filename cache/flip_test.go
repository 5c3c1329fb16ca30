package cache

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var flips = flag.Int("flips", 160, "bits to flip in what is stored")

const (
	flipEnv    = "SWARMFS_CACHE_FLIP"
	flipBudget = 10 << 20
	flipPiece  = 40_000 // a chunk of 64 KiB
	flipVolume = 10 << 20
	flipTime   = time.Minute // for one damaged folder
	// flipEntry is how long an entry of a log is.
	flipEntry = 7 + keySize + 8 + flipPiece + 4
)

// kinds are the files in which bits are flipped, as patterns.
var kinds = []string{
	"pieces/*.vlog", "pieces/*.sst", "pieces/MANIFEST", "pieces/KEYREGISTRY", "pieces/*.mem", "pieces/DISCARD",
	"torrents/*", "lock",
}

// TestFlippedBitsAreNeverServed flips bits in copies of a folder that a killed
// process left, one in each, and uses them in processes of their own: what is read
// must be right or missing, and every start must succeed.
func TestFlippedBitsAreNeverServed(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 6))
	dir := fastDir(t)
	whole := flipTemplate(t, filepath.Join(dir, "whole"))
	child := startFlipChild(t)
	all := child.use(copyWhole(t, whole, dir))
	type result struct{ flips, untouched, emptied int }
	results := make(map[string]*result)
	count := *flips
	if testing.Short() {
		count /= 4
	}
	for n := range count {
		kind := kinds[n%len(kinds)]
		damaged := copyWhole(t, whole, dir)
		where := flipBit(t, rng, damaged, kind)
		held := child.use(damaged)
		if !strings.HasPrefix(held, heldPrefix) {
			t.Errorf("bit flipped in %s: %s", where, held)
			child = startFlipChild(t)
		}
		r := results[kind]
		if r == nil {
			r = new(result)
			results[kind] = r
		}
		r.flips++
		if held == all {
			r.untouched++
		}
		if held == heldPrefix+"0" {
			r.emptied++
		}
	}
	for _, kind := range kinds {
		if r := results[kind]; r != nil {
			t.Logf("%-20s %d flips: %d cost nothing, %d cost all pieces", kind, r.flips, r.untouched, r.emptied)
		}
	}
}

// copyWhole makes a copy of a folder, in place of the one before.
func copyWhole(t *testing.T, whole, dir string) string {
	t.Helper()
	to := filepath.Join(dir, "damaged")
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	copyData(t, whole, to)
	return to
}

// fillVolume puts the pieces of a volume that are missing, so many at most.
func fillVolume(t *testing.T, v *Volume, data []byte, most int) {
	t.Helper()
	for i := range v.geometry.NumPieces() {
		if most > 0 && !v.Has(i) {
			put(t, v, data, i)
			most--
		}
	}
}

// flipTemplate makes a folder as a killed process leaves it, with every kind of
// file and something in each.
func flipTemplate(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "live"), 0o755); err != nil {
		t.Fatal(err)
	}
	filledState(t, filepath.Join(dir, "live"))
	data, g := content(5, flipPiece, flipVolume)
	opts := Options{Dir: filepath.Join(dir, "live"), Budget: flipBudget, Memory: 1 << 20, floor: 1}
	for range 2 { // each end writes a table
		s := openStore(t, opts)
		fillVolume(t, openVolume(t, s, 1, g), data, 200)
		closeStore(t, s)
	}
	s := openStore(t, opts)
	fillVolume(t, openVolume(t, s, 1, g), data, 200)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	whole := filepath.Join(dir, "copy")
	copyData(t, opts.Dir, whole)
	for _, kind := range kinds {
		if names, _ := filepath.Glob(filepath.Join(whole, kind)); len(names) == 0 {
			t.Fatalf("there is no %s", kind)
		}
	}
	closeStore(t, s)
	return whole
}

// flipBit flips a bit in a file of a kind, mostly in what is used of it and, in a
// log, often between the values. It returns where.
func flipBit(t *testing.T, rng *rand.Rand, dir, kind string) string {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(dir, kind))
	name := names[rng.IntN(len(names))]
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) == 0 {
		text = []byte{0}
	}
	used := max(len(bytes.TrimRight(text, "\x00")), 1)
	at := rng.IntN(used)
	switch rng.IntN(8) {
	case 0: // beyond what is used
		at = rng.IntN(len(text))
	case 1: // the beginning
		at = rng.IntN(min(64, used))
	case 2: // the end
		at = used - 1 - rng.IntN(min(64, used))
	case 3, 4: // the head of an entry of a log
		if strings.HasSuffix(kind, ".vlog") {
			at = min(20+rng.IntN(1+used/flipEntry)*flipEntry+rng.IntN(50), used-1)
		}
	}
	bit := byte(1) << rng.IntN(8)
	text[at] ^= bit
	if err := writeSparse(name, text); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s at %d, %#x", strings.TrimPrefix(name, dir), at, bit)
}

// flipChild is a process that uses damaged folders.
type flipChild struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	err   *bytes.Buffer
}

func startFlipChild(t *testing.T) *flipChild {
	t.Helper()
	c := &flipChild{t: t, cmd: exec.Command(os.Args[0], "-test.run=^TestFlippedChild$"), err: new(bytes.Buffer)}
	c.cmd.Env = append(os.Environ(), flipEnv+"=1")
	c.cmd.Stderr = c.err
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.in.Close()
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
	return c
}

// use has the child use a folder, and returns what it says of it.
func (c *flipChild) use(dir string) string {
	timer := time.AfterFunc(flipTime, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	_, _ = fmt.Fprintln(c.in, dir)
	var said strings.Builder
	for c.lines.Scan() {
		if strings.HasPrefix(c.lines.Text(), heldPrefix) {
			return c.lines.Text()
		}
		said.WriteString(c.lines.Text() + "\n")
	}
	err := c.cmd.Wait()
	said.WriteString(c.err.String())
	return fmt.Sprintf("the process ended: %v\n%s", err, said.String()[:min(said.Len(), 3000)])
}

// TestFlippedChild is the process that TestFlippedBitsAreNeverServed starts.
func TestFlippedChild(t *testing.T) {
	if os.Getenv(flipEnv) == "" {
		return
	}
	data, g := content(5, flipPiece, flipVolume)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Printf("%s%d\n", heldPrefix, useDamaged(t, lines.Text(), data, g))
	}
}

const heldPrefix = "held: "

// useDamaged does with a folder what a mount does, and returns how many pieces it
// could read at first.
func useDamaged(t *testing.T, dir string, data []byte, g Geometry) (held int) {
	state, _ := openState(t, dir)
	for _, id := range state.List() {
		if meta, err := state.Get(id); id != idA && id != idB || err == nil && !bytes.Equal(meta, id[:]) {
			t.Fatalf("torrent %x: %q", id, meta)
		}
	}
	opts := Options{Dir: dir, Budget: flipBudget, Memory: 1 << 20, floor: 1}
	for n := range 2 {
		s := openStore(t, opts)
		if err := s.Degraded(); err != nil {
			t.Fatalf("start %d: %v", n, err)
		}
		v := openVolume(t, s, 1, g)
		if got := wantAllHeldRight(t, v, data); n == 0 {
			held = got
		}
		fillVolume(t, v, data, 60)
		wantAllHeldRight(t, v, data)
		ctx, cancel := context.WithTimeout(t.Context(), flipTime)
		if err := s.Close(ctx); err != nil {
			t.Logf("close: %v", err)
		}
		cancel()
	}
	return held
}
