package cache

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var kills = flag.Int("kills", 40, "processes to kill that write to a store")

const (
	crashDirEnv = "SWARMFS_CACHE_CRASH_DIR"
	crashAtEnv  = "SWARMFS_CACHE_CRASH_AT"
	crashBudget = 40 << 20
	crashPieces = 256 << 10
	crashVolume = 48 << 20
)

// TestKilledChild is the process that TestKilledWriterLosesNothingThatWasWritten
// kills. It writes pieces and records for ever and says which are on disk.
func TestKilledChild(t *testing.T) {
	dir := os.Getenv(crashDirEnv)
	if dir == "" {
		return
	}
	data, g := content(9, crashPieces, crashVolume)
	// Evicted pieces leave the count, then there is a crash point, then they leave
	// the disk: what was said last is there.
	var opened atomic.Pointer[Store]
	sayLive := func() {
		if s := opened.Load(); s != nil {
			fmt.Println("live", s.Stats().DiskLive/crashPieces)
		}
	}
	die := crashAt(os.Getenv(crashAtEnv))
	crashpoint = func(name string) {
		sayLive()
		die(name)
	}
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
	state, err := OpenState(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	rec, _ := state.Record(idA)
	opened.Store(s)
	for i, n := 0, 0; ; i = (i + 1) % g.NumPieces() {
		if v.Has(i) {
			continue
		}
		put(t, v, data, i)
		sayLive()
		if n++; n%16 != 1 {
			continue
		}
		rec.Uploaded++
		state.SetRecord(idA, rec)
		if err := state.Put(idA, metainfoOf(rec.Uploaded)); err != nil {
			t.Fatal(err)
		}
		if err := state.Save(); err != nil {
			t.Fatal(err)
		}
		fmt.Println("saved", rec.Uploaded)
	}
}

// metainfoOf is one of many, which cannot be taken for another or for a part of it.
func metainfoOf(n int64) []byte { return fmt.Appendf(nil, "%d %s", n, strings.Repeat("x", 10_000)) }

// killed is what a child had said last when it ended: how many pieces were on the
// disk, or -1, and the record.
type killed struct{ live, saved int }

// killChild runs a child on a folder until it comes to a crash point, or for so long.
func killChild(t *testing.T, dir, at string, after time.Duration) (k killed) {
	t.Helper()
	k.live = -1
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledChild$")
	cmd.Env = append(os.Environ(), crashDirEnv+"="+dir, crashAtEnv+"="+at)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		fmt.Sscanf(lines.Text(), "live %d", &k.live)
		fmt.Sscanf(lines.Text(), "saved %d", &k.saved)
		said.WriteString(lines.Text() + "\n")
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child ended by itself: %v: %s", err, said.String())
	}
	return k
}

// TestKilledWriterLosesNothingThatWasWritten kills processes at random moments and
// at all crash points, and looks at what they leave.
func TestKilledWriterLosesNothingThatWasWritten(t *testing.T) {
	dir := fastDir(t)
	data, g := content(9, crashPieces, crashVolume)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 4))
	opts := Options{Dir: dir, Budget: crashBudget, Memory: 4 << 20, floor: 1}
	before, saved, atPoints := 0, int64(0), 0
	for round := range *kills {
		at, after := "", time.Duration(20+rng.IntN(400))*time.Millisecond
		if round%2 == 0 {
			name := crashPoints[round/2%len(crashPoints)]
			at, after = fmt.Sprintf("%s:%d", name, 1+rng.IntN(often(name))), 3*time.Second
		}
		began := time.Now()
		k := killChild(t, dir, at, after)
		if at != "" && time.Since(began) < after {
			atPoints++
		}
		opts.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
		held := wantAllRight(t, opts, data, g)
		if k.live < 0 {
			k.live = before // it ended before it had anything to say
		}
		if held < k.live {
			t.Errorf("%d pieces are held after the kill, %d were on the disk", held, k.live)
		}
		before = held
		if _, err := os.Stat(filepath.Join(dir, "pieces.broken")); err == nil {
			t.Error("the database was moved aside")
		}
		saved = wantSaved(t, dir, max(saved, int64(k.saved)))
		if t.Failed() {
			t.Fatalf("round %d: killed at %q or after %v", round, at, after)
		}
	}
	t.Logf("%d kills, %d of them at crash points", *kills, atPoints)
	if atPoints < *kills/4 {
		t.Errorf("only %d of %d kills were at crash points", atPoints, *kills)
	}
}

// often is how often a crash point comes up in a run that is not short.
func often(name string) int {
	switch name {
	case "opening", "opened":
		return 1
	case "file-made", "file-synced", "file-renamed", "file-copied":
		return 12
	case "dropping", "dropped", "collected":
		return 3
	default:
		return 20
	}
}

// wantSaved fails unless the state has all that was saved by the count, and
// returns what it has.
func wantSaved(t *testing.T, dir string, least int64) int64 {
	t.Helper()
	s, err := OpenState(dir, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	if lost := s.Check(t.Context()); len(lost) > 0 {
		t.Error("metainfo is lost")
	}
	rec, _ := s.Record(idA)
	if rec.Uploaded < least {
		t.Errorf("the record says %d, and %d was saved", rec.Uploaded, least)
	}
	data, err := s.Get(idA)
	if err != nil && least > 0 {
		t.Error(err)
	}
	// Put comes before Save: its file may be one ahead.
	if err == nil && !bytes.Equal(data, metainfoOf(rec.Uploaded)) && !bytes.Equal(data, metainfoOf(rec.Uploaded+1)) {
		t.Errorf("the metainfo is not that of %d or the next: %.20q", rec.Uploaded, data)
	}
	return rec.Uploaded
}
