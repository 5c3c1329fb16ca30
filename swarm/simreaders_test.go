package swarm

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"swarmfs/swarm/engine"
)

// read reads as the pattern says.
func (s *seat) read() {
	start := time.Now()
	switch s.spec.pattern {
	case "copy":
		s.copy()
	case "player":
		s.player()
	case "random":
		s.random()
	case "probes":
		if s.at(0, s.spec.size) == nil {
			_ = s.at(max(0, int64(len(s.c.data))-s.spec.size), s.spec.size) // it is kept
		}
	case "trace":
		s.replay()
	case "steps":
		s.steps()
	}
	s.all.done(time.Since(start))
}

func (s *seat) copy() {
	end := s.spec.to
	if end == 0 {
		end = int64(len(s.c.data))
	}
	start := time.Now()
	for off := s.spec.from; off < end; off += s.spec.chunk {
		if s.at(off, min(s.spec.chunk, end-off)) != nil {
			return
		}
		if s.spec.rate > 0 {
			s.pause(seconds(float64(off+s.spec.chunk-s.spec.from)/float64(s.spec.rate)) - time.Since(start))
		}
	}
}

func (s *seat) random() {
	rng := rand.New(rand.NewPCG(s.sc.seed, s.key+5000))
	for range s.spec.count {
		if s.at(rng.Int64N(max(1, int64(len(s.c.data))-s.spec.size)), s.spec.size) != nil {
			return
		}
		s.pause(s.spec.think)
	}
}

// replay reads as a trace says: a line is the time in milliseconds since the
// first, the offset and the length. Who is behind its time reads at once.
func (s *seat) replay() {
	f, err := os.Open(filepath.Join("testdata", "lab", s.spec.file))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	start := time.Now()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if strings.TrimSpace(text) == "" {
			continue
		}
		var ms float64
		var off, n int64
		if _, err := fmt.Sscan(text, &ms, &off, &n); err != nil {
			s.t.Fatalf("%s: %q: %v", s.spec.file, text, err)
		}
		s.pause(seconds(ms/1000) - time.Since(start))
		if s.at(off, n) != nil {
			return
		}
	}
	if lines.Err() != nil {
		s.t.Fatal(lines.Err())
	}
}

// steps does one thing after the other.
func (s *seat) steps() {
	for _, step := range s.spec.steps {
		verb, arg, _ := strings.Cut(step, ":")
		switch verb {
		case "read":
			at, size, _ := strings.Cut(arg, "+")
			off, err1 := parseAmount(at)
			n, err2 := parseAmount(size)
			if err1 != nil || err2 != nil {
				s.t.Fatalf("step %q", step)
			}
			for end := int64(off + n); int64(off) < end; off += readChunk {
				if s.at(int64(off), min(readChunk, end-int64(off))) != nil {
					return
				}
			}
		case "wait":
			d, err := parseAmount(arg)
			if err != nil {
				s.t.Fatalf("step %q", step)
			}
			s.pause(seconds(d))
		case "close":
			s.close()
		case "reopen":
			s.close()
			s.open()
		default:
			s.t.Fatalf("step %q is not known", step)
		}
	}
}

// segment is a part that a player plays without a seek.
type segment struct {
	playSpec
	first, stop int64 // of the file: what is played
	size        int64
	held        engine.Bitmap // when it began
	began       time.Duration
	startup     time.Duration
	stalls      int
}

const (
	playChunk = 64 << 10
	// A read that comes so late is no stall that anybody sees.
	stallSlack = 20 * time.Millisecond
)

// player plays the file, from one seek to the next.
func (s *seat) player() {
	pos := int64(0)
	seeks := s.spec.play.seeks
	for {
		dur, last := s.spec.play.dur, len(seeks) == 0
		if !last {
			dur = seeks[0].after
		}
		seg := s.playSegment(pos, dur)
		s.all.done(0, seg)
		if last {
			return
		}
		pos = int64(seeks[0].to*float64(len(s.c.data))) / playChunk * playChunk
		seeks = seeks[1:]
	}
}

// playSegment plays from a place on for some time; 0: to the end of the file.
func (s *seat) playSegment(first int64, dur time.Duration) segment {
	spec, size := s.spec.play, int64(len(s.c.data))
	rate := float64(spec.bitrate)
	seg := segment{playSpec: spec, first: first, stop: size, size: size, held: s.held(), began: s.now()}
	if dur > 0 {
		seg.stop = min(size, first+int64(rate*dur.Seconds()))
	}
	begun := time.Now()
	pos := first
	for pos < min(size, first+int64(rate*spec.start.Seconds())) {
		if s.at(pos, playChunk) != nil {
			return seg
		}
		pos += playChunk
	}
	clock := time.Now() // when the media at first is played
	seg.startup = clock.Sub(begun)
	s.log("%-10s   plays from %d after %v", s.spec.name, first, seg.startup)
	end := func() time.Time { return clock.Add(seconds(float64(seg.stop-first) / rate)) }
	for pos < size {
		due := clock.Add(seconds(float64(pos-first) / rate))
		if !due.Add(-spec.ahead).Before(end()) {
			break // the seek comes before it would be read
		}
		s.pause(time.Until(due.Add(-spec.ahead)))
		if s.at(pos, playChunk) != nil {
			return seg
		}
		late := time.Since(due)
		if pos < seg.stop && late > stallSlack {
			s.log("%-10s   STALL of %v at %d (piece %d)", s.spec.name, late, pos, pos/int64(s.c.pieceLen))
			s.all.stall(late)
			seg.stalls++
			clock = clock.Add(late)
		}
		pos += playChunk
	}
	s.pause(time.Until(end()))
	return seg
}
