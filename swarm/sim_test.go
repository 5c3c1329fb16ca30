package swarm

import (
	"bufio"
	"cmp"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	simSeeds = flag.Int("seeds", 0, "run the random players of seeds 1 to this; 0: only those in testdata/lab/seeds.txt")
	simFrom  = flag.Int("from", 1, "with -seeds: the first seed")
	simLog   = flag.Bool("simlog", false, "log all that happens in the scenarios of testdata/lab")
	simSeed  = flag.Uint64("seed", 0, "run the random player of this seed alone, and log all that happens")
)

// randomPlayer expands a seed to a player in a swarm that has 1.2 to 3 times the
// bitrate, unevenly.
func randomPlayer(seed uint64) string {
	rng := rand.New(rand.NewPCG(seed, 0x51))
	between := func(low, high float64) float64 { return low + rng.Float64()*(high-low) }
	bitrate := 125e3 * math.Exp(rng.Float64()*math.Log(8)) // 1 to 8 Mbit/s
	file := int(bitrate*between(20, 40)) >> 14 << 14
	var sizes []int
	for size := 64 << 10; size <= 1<<20; size *= 2 {
		if float64(size) <= 2*bitrate {
			sizes = append(sizes, size)
		}
	}
	piece := sizes[rng.IntN(len(sizes))]
	var b strings.Builder
	fmt.Fprintf(&b, "option seed=%d\ntorrent film file=%d piece=%dKiB\n", seed, file, piece>>10)

	n := 2 + rng.IntN(9)
	weights, sum := make([]float64, n), 0.0
	for i := range weights {
		weights[i] = 0.05 + rng.ExpFloat64()
		sum += weights[i]
	}
	capacity := bitrate * between(1.2, 3)
	fmt.Fprintf(&b, "# %.2f times the bitrate\n", capacity/bitrate)
	covered := false
	for i, w := range weights {
		pieces := "all"
		switch x := rng.Float64(); {
		case i == n-1 && !covered || x < 0.2:
			pieces = strconv.Itoa(30+rng.IntN(61)) + "%"
		case x < 0.35:
			pieces = "first"
		case x < 0.5:
			pieces = "second"
		}
		covered = covered || pieces == "all" || strings.HasSuffix(pieces, "%")
		fmt.Fprintf(&b, "peer p%d rate=%d latency=%dms pieces=%s\n", i, int(capacity*w/sum), int(between(5, 100)), pieces)
	}

	way := [...]string{"direct", "kernel"}[rng.IntN(2)]
	fmt.Fprintf(&b, "reader tv %s player bitrate=%d start=1s ahead=%ds for=%ds", way, int(bitrate), int(between(4, 10)), int(between(6, 12)))
	var seeks []string
	for range rng.IntN(3) {
		seeks = append(seeks, fmt.Sprintf("%ds:%d%%", int(between(3, 8)), rng.IntN(90)))
	}
	if len(seeks) > 0 {
		fmt.Fprintf(&b, " seek=%s", strings.Join(seeks, ","))
	}
	return b.String() + "\n"
}

// played is how one random player fared beside the oracle.
type played struct {
	seed        uint64
	text        string
	kernel      bool
	startup     float64 // ratio to the oracle's
	start       time.Duration
	seeks       []float64
	stalls      int // where there need be none
	unavoidable int
	duplicates  float64
	faults      []string
}

const (
	startupBound = 1.5
	// What the oracle needs less for is there at once.
	noticeable = 20 * time.Millisecond
)

func playSeed(t *testing.T, seed uint64, log func(string, ...any)) *played {
	p := &played{seed: seed, text: randomPlayer(seed)}
	sc, err := parseScenario(fmt.Sprint("seed ", seed), p.text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, p.text)
	}
	out := sc.run(t, "", log)
	m, film := out.readers["tv"], out.torrents["film"]
	p.kernel = m.spec.kernel
	o := newOracle(film.spec, sc.seed)
	for i := range m.segments {
		seg := &m.segments[i]
		v := o.judge(seg)
		log("oracle: segment %d starts in %v (we: %v), smooth %v (we: %d stalls)", i, v.startup, seg.startup, v.smooth, seg.stalls)
		ratio := seg.startup.Seconds() / v.startup.Seconds()
		switch {
		case i == 0:
			p.startup, p.start = ratio, seg.startup
			if seg.startup < v.startup {
				p.fault("startup %v is before the oracle's %v, which then is no bound", seg.startup, v.startup)
			}
			if ratio > startupBound {
				p.fault("startup %v is %.2f of the oracle's %v", seg.startup, ratio, v.startup)
			}
		case v.startup > noticeable:
			p.seeks = append(p.seeks, ratio)
		}
		switch {
		case seg.stalls > 0 && v.smooth:
			p.stalls += seg.stalls
			p.fault("%d stalls, in all %v, after start %d that need not be", seg.stalls, m.stalled, i)
		case seg.stalls > 0:
			p.unavoidable++
		}
	}
	for _, err := range m.errs {
		p.fault("%v", err)
	}
	p.duplicates = float64(film.stats.Duplicate) / max(1, float64(film.bytes()))
	return p
}

func (p *played) fault(format string, v ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, v...))
}

// TestSim plays random players in virtual time and compares them with the
// oracle: no stall where it has none, and a start within 1.5 times its.
func TestSim(t *testing.T) {
	list, open := keptSeeds(t)
	log := func(string, ...any) {}
	switch {
	case *simSeed != 0:
		list = []uint64{*simSeed}
		fmt.Println(randomPlayer(*simSeed))
		log = bubbleLog
	case *simSeeds != 0:
		list = append(list, open...)
		for seed := *simFrom; seed <= *simSeeds; seed++ {
			list = append(list, uint64(seed))
		}
		slices.Sort(list)
		list = slices.Compact(list)
	}
	began := time.Now()
	var mu sync.Mutex
	var all []*played
	t.Run("seeds", func(t *testing.T) {
		for _, seed := range list {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				p := playSeed(t, seed, log)
				mu.Lock()
				defer mu.Unlock()
				all = append(all, p)
			})
		}
	})
	if *simSeeds != 0 {
		fmt.Print(summary(all, time.Since(began)))
	}
	slices.SortFunc(all, func(a, b *played) int { return cmp.Compare(a.seed, b.seed) })
	shown := 0
	for _, p := range all {
		if len(p.faults) == 0 {
			t.Logf("seed %d is fine: startup %.2f of the oracle's, seeks %.2f", p.seed, p.startup, p.seeks)
			continue
		}
		t.Errorf("seed %d: %s", p.seed, strings.Join(p.faults, "; "))
		if shown++; shown <= 20 {
			t.Log(p.text)
		}
	}
}

func bubbleLog(format string, v ...any) {
	fmt.Printf("%9.3f ", time.Since(bubbleStart).Seconds())
	fmt.Printf(format+"\n", v...)
}

// keptSeeds are those that always run, and those that make sim always runs.
func keptSeeds(t *testing.T) (kept, open []uint64) {
	f, err := os.Open("testdata/lab/seeds.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		number, isOpen := strings.CutPrefix(strings.TrimSpace(text), "open ")
		if number == "" {
			continue
		}
		seed, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if isOpen {
			open = append(open, seed)
		} else {
			kept = append(kept, seed)
		}
	}
	if lines.Err() != nil {
		t.Fatal(lines.Err())
	}
	return kept, open
}

// summary is a table of how the players fared.
func summary(all []*played, took time.Duration) string {
	var starts, direct, seeks, dups []float64
	failed, slow, stalled, unavoidable := 0, 0, 0, 0
	for _, p := range all {
		if p.kernel {
			starts = append(starts, p.startup)
		} else {
			direct = append(direct, p.startup)
		}
		seeks = append(seeks, p.seeks...)
		dups = append(dups, p.duplicates)
		failed += b2i(len(p.faults) > 0)
		slow += b2i(p.startup > startupBound)
		stalled += b2i(p.stalls > 0)
		unavoidable += b2i(p.unavoidable > 0)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d players in %.0f s: %d fail; %d start too late, %d stall though they need not; %d stall and have to\n",
		len(all), took.Seconds(), failed, slow, stalled, unavoidable)
	fmt.Fprintf(&b, "%-28s %6s %6s %6s %6s %6s\n", "", "p50", "p90", "p95", "p99", "max")
	for _, row := range []struct {
		name string
		list []float64
	}{{"start by kernel / oracle's", starts}, {"start direct / oracle's", direct}, {"seeks / oracle's", seeks}, {"share fetched twice", dups}} {
		slices.Sort(row.list)
		fmt.Fprintf(&b, "%-28s", row.name)
		for _, q := range []float64{0.5, 0.9, 0.95, 0.99, 1} {
			v := 0.0
			if n := len(row.list); n > 0 {
				v = row.list[min(int(q*float64(n)), n-1)]
			}
			fmt.Fprintf(&b, " %6.3f", v)
		}
		fmt.Fprintln(&b)
	}
	slices.SortFunc(all, func(a, b *played) int { return cmp.Compare(b.startup, a.startup) })
	fmt.Fprint(&b, "latest starts:")
	for _, p := range all[:min(len(all), 5)] {
		fmt.Fprintf(&b, " seed %d %.2f (%.2f s)", p.seed, p.startup, p.start.Seconds())
	}
	return b.String() + "\n"
}

// TestOneSeedGivesOneRun plays swarms twice in one process, and compares all
// that has happened, and when.
func TestOneSeedGivesOneRun(t *testing.T) {
	for seed := uint64(1); seed <= 8; seed++ {
		sc, err := parseScenario(fmt.Sprint("seed ", seed), randomPlayer(seed))
		if err != nil {
			t.Fatal(err)
		}
		quiet := func(string, ...any) {}
		if a, b := sc.run(t, "", quiet).trace, sc.run(t, "", quiet).trace; a != b {
			t.Errorf("seed %d: trace %x, then %x", seed, a, b)
		}
	}
}
