package integration

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var mountKills = flag.Int("mountkills", 12, "mounts to kill in the middle of a copy")

// killPoints are the crash points of the cache that a mount comes to, and the
// number of times each comes up in a second of copying. Those of eviction need a
// small cache.
var killPoints = []struct {
	name  string
	times int
	evict bool
}{
	{"opening", 1, false},
	{"opened", 1, false},
	{"writing", 8, false},
	{"transaction", 16, false},
	{"written", 8, false},
	{"file-made", 4, false},
	{"file-synced", 4, false},
	{"file-renamed", 4, false},
	{"file-copied", 4, false},
	{"dropping", 2, true},
	{"dropped", 2, true},
	{"collected", 4, true},
}

// What is not on disk yet is in memory or on the way from the seeder.
const (
	killMemory = 8 << 20
	killOnWire = 4 << 20
)

// killRun is a data folder whose mount is killed again and again.
type killRun struct {
	t     *testing.T
	c     *content
	l     *libtorrent
	n     *node
	opts  mountOptions
	evict bool // the cache does not hold the whole file

	kills int   // since held was looked at
	sent  int64 // bytes that the seeder sent to these mounts since then
	held  int64 // bytes
}

// A mount is killed at random moments and at all crash points. It starts every
// time, every byte that was copied is right, and what was on disk is not
// fetched again.
func TestAMountKilledAtAnyMomentStartsWithAllThatWasOnDisk(t *testing.T) {
	t.Parallel()
	binary := buildWithCrashPoints(t)
	c := single(t, "killed often", 48<<20, 256<<10)
	l := seedLibtorrentWith(t, newNode(t), c, libtorrentOptions{limit: 24 << 20})
	n := newNode(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	var all, small *killRun
	fresh := func(evict bool, size string) *killRun {
		return &killRun{t: t, c: c, l: l, n: n, evict: evict, opts: mountOptions{
			binary: binary, point: t.TempDir(), data: t.TempDir(),
			flags: []string{"--peer", l.address, "--memory", strconv.Itoa(killMemory), "--cache-size", size},
		}}
	}
	all, small = fresh(false, "1GiB"), fresh(true, "32MiB")
	atPoints := 0
	for round := range *mountKills {
		r, at := all, ""
		if round%2 == 0 {
			p := killPoints[round/2%len(killPoints)]
			at = fmt.Sprintf("%s:%d", p.name, 1+rng.IntN(p.times))
			if p.evict {
				r = small
			}
		}
		if !r.evict && r.held >= c.size {
			r.finish()
			all = fresh(false, "1GiB")
			r = all
		}
		if r.kill(at, time.Duration(50+rng.IntN(750))*time.Millisecond) {
			atPoints++
		}
		if t.Failed() {
			t.Fatalf("round %d, killed at %q", round, at)
		}
	}
	all.finish()
	small.finish()
	t.Logf("%d kills, %d of them at crash points", *mountKills, atPoints)
	if atPoints < *mountKills/4 {
		t.Errorf("only %d of %d kills were at crash points", atPoints, *mountKills)
	}
}

// kill mounts, copies, and kills the mount at a crash point, or after a time when
// there is none, or it does not come up. It reports whether the point was met.
func (r *killRun) kill(at string, after time.Duration) bool {
	r.t.Helper()
	opts := r.opts
	opts.env = []string{"CRASHPOINT=" + at}
	before := r.l.uploaded()
	defer func() { r.sent += r.l.uploaded() - before }()
	began := time.Now()
	m := startMount(r.t, r.n, opts, r.c.torrent)
	eventually(r.t, readyLimit, "the mount, or its end", func() bool {
		return readyLine.MatchString(m.output()) || !m.running()
	})
	r.kills++
	if !m.running() {
		r.wantKilled(m, at)
		return true
	}
	if took := time.Since(began); took > 5*time.Second {
		r.t.Errorf("the mount was ready after %v", took)
	}
	if at == "" {
		r.look(m)
	}
	out := filepath.Join(r.t.TempDir(), "copy")
	cp := start(r.t, "cp", exec.Command("cp", m.path(r.c, r.c.files[0]), out))
	if at != "" {
		after = 2 * time.Second
	}
	select {
	case <-m.done:
		r.wantKilled(m, at)
	case <-time.After(after):
		at = ""
		m.kill()
	}
	cp.wait(10 * time.Second)
	r.wantPrefix(out)
	return at != ""
}

var readyLine = regexp.MustCompile("(?m)^ready: ")

// wantKilled fails unless the process ended as at a crash point.
func (r *killRun) wantKilled(m *mounted, at string) {
	r.t.Helper()
	if code := m.wait(time.Second); code != -1 || at == "" {
		r.t.Errorf("the mount ended by itself with code %d", code)
	}
}

// wantPrefix fails unless a copy that was cut short is a part of the original.
func (r *killRun) wantPrefix(path string) {
	r.t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		return // cp had not begun
	}
	part := filepath.Join(r.t.TempDir(), "part")
	mustRun(r.t, copyLimit, "dd", "if="+r.c.original(r.c.files[0]), "of="+part, "iflag=count_bytes", "bs=1M", fmt.Sprintf("count=%d", info.Size()))
	compareFiles(r.t, path, part)
}

// look compares what is held with what the seeder sent since it was last looked
// at: what is missing was lost by the kills in between.
func (r *killRun) look(m *mounted) {
	r.t.Helper()
	held := int64(m.status().Torrents[0].PiecesHeld) * r.c.pieceLength
	lost := r.sent - (held - r.held)
	if most := int64(r.kills) * (killMemory + killOnWire); !r.evict && lost > most {
		r.t.Errorf("%d bytes were lost by %d kills, want at most %d", lost, r.kills, most)
	}
	// A second copy that was not yet made is repaired with a warning: no damage.
	if log := m.output(); strings.Contains(log, "moved aside") || strings.Contains(log, " lost") {
		r.t.Errorf("the start found damage: %s", tail(log, 1000))
	}
	r.kills, r.sent, r.held = 0, 0, held
}

// finish mounts once more and copies all of it.
func (r *killRun) finish() {
	r.t.Helper()
	m := mount(r.t, r.n, r.opts, r.c.torrent)
	r.look(m)
	r.c.copyOut(r.t, m.point)
	m.unmount()
}

// buildWithCrashPoints builds the command so that CRASHPOINT ends it.
func buildWithCrashPoints(t testing.TB) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "swarmfs")
	mustRun(t, 5*time.Minute, "go", "build", "-tags", "crashpoints", "-o", binary, "swarmfs/cmd/swarmfs")
	return binary
}
