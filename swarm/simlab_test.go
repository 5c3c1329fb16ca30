package swarm

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"swarmfs/swarm/engine"
)

// metric returns what an expectation is about, times in seconds.
func (out *outcome) metric(of, name string) (float64, error) {
	if m := out.readers[of]; m != nil {
		if v, ok := m.metric(name); ok {
			return v, nil
		}
	}
	if f := out.torrents[of]; f != nil {
		if v, ok := f.metric(name); ok {
			return v, nil
		}
	}
	return 0, fmt.Errorf("%s has no %s", of, name)
}

func (m *measured) metric(name string) (float64, bool) {
	switch name {
	case "startup":
		return m.segments[0].startup.Seconds(), len(m.segments) > 0
	case "seek":
		longest := time.Duration(0)
		for _, seg := range m.segments[1:] {
			longest = max(longest, seg.startup)
		}
		return longest.Seconds(), true
	case "stalls":
		return float64(m.stalls), true
	case "stalled":
		return m.stalled.Seconds(), true
	case "time":
		return m.time.Seconds(), true
	case "p50":
		return m.quantile(0.5).Seconds(), true
	case "p95":
		return m.quantile(0.95).Seconds(), true
	case "max":
		return m.quantile(1).Seconds(), true
	case "errors":
		return float64(len(m.errs)), true
	}
	return 0, false
}

func (f *fetched) metric(name string) (float64, bool) {
	touched := float64(f.touched.Count()) * float64(f.spec.piece)
	switch name {
	case "fetched":
		return float64(f.bytes()) / touched, true
	case "duplicates":
		return float64(f.stats.Duplicate) / float64(f.bytes()), true
	case "excess":
		return float64(f.stats.Held)*float64(f.spec.piece) - touched, true
	case "late":
		return float64(f.late), true
	case "held":
		return float64(f.stats.Held) / float64(f.stats.Pieces), true
	case "bans":
		return float64(f.stats.Bans), true
	}
	return 0, false
}

// ideal returns what an omniscient scheduler needs for the same.
func (out *outcome) ideal(of, name string, seed uint64) (float64, error) {
	m := out.readers[of]
	if m == nil {
		return 0, fmt.Errorf("%s is no reader", of)
	}
	o := newOracle(m.torrent, seed)
	switch name {
	case "startup":
		return o.judge(&m.segments[0]).startup.Seconds(), nil
	case "seek":
		longest := time.Duration(0)
		for i := range m.segments[1:] {
			longest = max(longest, o.judge(&m.segments[i+1]).startup)
		}
		return longest.Seconds(), nil
	case "time":
		f := out.torrents[m.torrent.name]
		var pieces []int
		for i := range o.layout.NumPieces() {
			if f.touched.Has(i) {
				pieces = append(pieces, i)
			}
		}
		t, ok := o.soonest(pieces)
		if !ok {
			return 0, errors.New("nobody has all of it")
		}
		return t.Seconds(), nil
	}
	return 0, fmt.Errorf("nobody knows the ideal %s", name)
}

// check returns what was measured, and whether it is as expected.
func (sc *scenario) check(t *testing.T, e expectation, out *outcome) (got float64, ok bool) {
	t.Helper()
	got, err := out.metric(e.of, e.metric)
	unit := 1.0
	switch {
	case err != nil:
	case e.ideal:
		unit, err = out.ideal(e.of, e.metric, sc.seed)
	case e.without != "":
		unit, err = sc.run(t, e.without, func(string, ...any) {}).metric(e.of, e.metric)
	}
	if err != nil {
		t.Fatalf("%s: %v", e.line, err)
	}
	got /= unit
	switch e.op {
	case "<=":
		return got, got <= e.value
	case ">=":
		return got, got >= e.value
	}
	return got, got == e.value || math.IsNaN(got)
}

// TestLab plays the scenarios of testdata/lab.
func TestLab(t *testing.T) {
	paths, err := filepath.Glob("testdata/lab/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		if name == "seeds" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			playText(t, path, string(text))
		})
	}
}

// playText plays a scenario and holds it against what is expected.
func playText(t *testing.T, name, text string) {
	t.Helper()
	sc, err := parseScenario(name, text)
	if err != nil {
		t.Fatal(err)
	}
	log := func(string, ...any) {}
	if *simLog {
		log = bubbleLog
	}
	out := sc.run(t, "", log)
	failing := map[string]bool{}
	for _, e := range sc.expects {
		failing[e.of] = failing[e.of] || e.metric == "errors"
		got, ok := sc.check(t, e, out)
		t.Logf("%s: %.4g", e.line, got)
		if !ok && (!e.goal || *simSeeds != 0) {
			t.Errorf("expected %s, got %.4g", e.line, got)
		}
	}
	for name, m := range out.readers {
		if len(m.errs) > 0 && !failing[name] {
			t.Errorf("%s: %d reads failed, the first with %v", name, len(m.errs), m.errs[0])
		}
	}
}

// costly are programs whose probes cost more than one piece beyond those that
// they touch, and how many: they read so far in sequence that a window opens.
var costly = map[string]int{"file-flac": 8, "file-mp4": 5, "mediainfo-mp4": 3, "scanner-mp4": 5}

// TestRealProgramsProbeCheaply replays what was recorded of real programs that
// look at a file: it costs the pieces that they touch and one more at the most,
// but for the costly ones, which fail make sim.
func TestRealProgramsProbeCheaply(t *testing.T) {
	for _, tr := range loadTraces(t) {
		if tr.kind != "probe" {
			continue
		}
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			more := max(1, costly[tr.name])
			if *simSeeds != 0 {
				more = 1
			}
			playText(t, tr.name, fmt.Sprintf(`
				torrent film file=%d piece=256KiB
				peer p x4 rate=2MiB latency=40ms
				reader prog direct trace file=%s
				expect film excess <= %dKiB`, tr.size, tr.name, 256*more))
		})
	}
}

// TestScenariosAreRefusedWithTheLine: what is not understood is not passed over.
func TestScenariosAreRefusedWithTheLine(t *testing.T) {
	const good = "torrent t\npeer p\nreader r direct copy\n"
	if _, err := parseScenario("good", good); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", "peer p", "torrent t x=1", good + "peers p", good + "peer p rate=1GiB/s", good + "peer p pieces=few",
		good + "reader r copy", good + "reader r direct sing", good + "reader r direct player seek=5s", good + "reader r direct player seek=5s:100%",
		good + "expect r time < 1s", good + "expect r time <= soon", good + "expect r time <= 1 about", good + "option background=some",
		good + "peer p rate=-1",
	} {
		if _, err := parseScenario("bad", text); err == nil || !strings.HasPrefix(err.Error(), "bad:") {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// TestARandomPlayersPiecesAreAllSomewhere: no seed is impossible.
func TestARandomPlayersPiecesAreAllSomewhere(t *testing.T) {
	for seed := range uint64(300) {
		sc, err := parseScenario("random", randomPlayer(seed))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		spec := sc.torrents[0]
		all := engine.NewBitmap(int((spec.file + spec.piece - 1) / spec.piece))
		for _, r := range spec.rosters(sc.seed) {
			for i := range all {
				all[i] |= r.has[i]
			}
		}
		if n := all.Count(); n != int((spec.file+spec.piece-1)/spec.piece) {
			t.Errorf("seed %d: only %d pieces are anywhere", seed, n)
		}
	}
}
