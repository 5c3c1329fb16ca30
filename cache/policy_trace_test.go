package cache

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// use is an access of a trace.
type use struct {
	at     time.Duration
	piece  uint32
	kind   useKind
	isEdge bool
}

type useKind uint8

const (
	play useKind = iota
	daily
	scan
	upload
	useKinds
)

// household is where the pieces of its files are.
type household struct {
	rng   *rand.Rand
	next  uint32
	trace []use
}

type simFileOf struct{ first, n uint32 }

func (h *household) file(pieces uint32) simFileOf {
	f := simFileOf{h.next, pieces}
	h.next += pieces
	return f
}

// touch is a read of a file's piece. The first and the last are its edges.
func (h *household) touch(at time.Duration, kind useKind, f simFileOf, piece uint32) {
	piece = min(piece, f.n-1)
	h.trace = append(h.trace, use{at, f.first + piece, kind, piece == 0 || piece == f.n-1})
}

// recorded replays a recorded trace over a file: an offset in the first half counts
// from the beginning, another from the end. It returns when the last read came.
func (h *household) recorded(at time.Duration, kind useKind, f simFileOf, t recording) (end time.Duration) {
	for _, r := range t.reads {
		for off := r.off; off < r.off+r.n; off += simPiece / 4 {
			if off < t.size/2 {
				h.touch(at+r.at, kind, f, uint32(off/simPiece))
			} else {
				h.touch(at+r.at, kind, f, f.n-1-min(f.n-1, uint32((t.size-1-off)/simPiece)))
			}
		}
		end = at + r.at
	}
	return end
}

// watch plays a film: what the player really did at its start, then all of it in
// order, in requests of 256 KiB.
func (h *household) watch(at time.Duration, f simFileOf, t recording) {
	end := h.recorded(at, play, f, t)
	const length = 100 * time.Minute
	for i := range f.n {
		for range 2 {
			h.touch(end+length*time.Duration(i)/time.Duration(f.n), play, f, i)
		}
	}
}

// recording is the reads of one of the recorded traces.
type recording struct {
	size  int64
	reads []struct {
		at     time.Duration
		off, n int64
	}
}

func recordings(t *testing.T, pattern string) []recording {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", "swarm", "testdata", "traces", pattern))
	if err != nil || len(names) == 0 {
		t.Fatal("no recorded traces:", pattern, err)
	}
	var all []recording
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		var r recording
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var ms, waited float64
			var handle int
			var off, n int64
			if _, err := fmt.Sscanf(lines.Text(), "%f %d open %d", &ms, &handle, &n); err == nil {
				r.size = n
			} else if k, _ := fmt.Sscanf(lines.Text(), "%f %d %d %d %f", &ms, &handle, &off, &n, &waited); k == 5 {
				r.reads = append(r.reads, struct {
					at     time.Duration
					off, n int64
				}{time.Duration(ms * float64(time.Millisecond)), off, n})
			}
		}
		f.Close()
		all = append(all, r)
	}
	return all
}

// mix says what a household does each day.
type mix struct {
	films, filmPieces  int // watched once, 100 minutes each, two at a time
	again              int // percent of films that are watched a second time the day after
	scanned            int // files whose edges a library scanner looks at
	dailyFiles, dailyN int // read in full every day
	uploads            int // random pieces of what was stored
}

func days(t *testing.T, seed uint64, n int, m mix) []use {
	h := &household{rng: rand.New(rand.NewPCG(seed, 1))}
	players, scanners := recordings(t, "mpv-*.txt"), recordings(t, "scanner-*.txt")
	players = append(players, recordings(t, "vlc-*.txt")...)
	var library, favourites []simFileOf
	for range m.scanned {
		library = append(library, h.file(uint32(200+h.rng.IntN(4000))))
	}
	for range m.dailyFiles {
		favourites = append(favourites, h.file(uint32(m.dailyN)))
	}
	var rewatch []simFileOf
	const day = 24 * time.Hour
	for d := range n {
		morning := time.Duration(d) * day
		for i, f := range library {
			h.recorded(morning+3*time.Hour+time.Duration(i)*5*time.Second, scan, f, scanners[i%len(scanners)])
		}
		for i, f := range favourites {
			start := morning + time.Duration(7+i%12)*time.Hour + time.Duration(h.rng.IntN(3600))*time.Second
			for p := range f.n {
				h.touch(start+time.Duration(p)*time.Second, daily, f, p)
			}
		}
		tonight := rewatch
		rewatch = nil
		for range m.films {
			f := h.file(uint32(m.filmPieces/2 + h.rng.IntN(m.filmPieces)))
			tonight = append(tonight, f)
			if h.rng.IntN(100) < m.again {
				rewatch = append(rewatch, f)
			}
		}
		for i, f := range tonight {
			h.watch(morning+time.Duration(18*60+i*60+h.rng.IntN(30))*time.Minute, f, players[h.rng.IntN(len(players))])
		}
		for range m.uploads {
			h.trace = append(h.trace, use{morning + time.Duration(h.rng.Int64N(int64(day))), uint32(h.rng.IntN(int(h.next))), upload, false})
		}
	}
	slices.SortStableFunc(h.trace, func(a, b use) int { return int(a.at - b.at) })
	return h.trace
}
