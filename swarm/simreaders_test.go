package swarm

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
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
		if s.spec.second > 0 && s.at(s.spec.second+off-s.spec.from, s.spec.chunk) != nil {
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

// replay reads as a real program did. A read comes when all those are answered
// that the program had the answers of, and after as much time as it took to
// think: where we are slower than what was recorded, all comes later.
func (s *seat) replay() {
	i := slices.IndexFunc(loadTraces(s.t), func(tr *trace) bool { return tr.name == s.spec.file })
	if i < 0 {
		s.t.Fatalf("no trace %q", s.spec.file)
	}
	ops := loadTraces(s.t)[i].ops
	files := map[int]*seat{}
	done := make([]time.Duration, len(ops)) // when answered; 0: not yet
	var mu sync.Mutex
	answered := sync.NewCond(&mu)
	var g sync.WaitGroup
	last := s.now() // when the operation before came
	for i, op := range ops {
		begin := last
		if i > 0 {
			begin += op.at - ops[i-1].at
		}
		mu.Lock()
		for j, before := range ops[:i] {
			if end := before.at + before.waited; before.kind == traceRead && end <= op.at {
				for done[j] == 0 {
					answered.Wait()
				}
				begin = max(begin, done[j]+op.at-end)
			}
		}
		mu.Unlock()
		s.net.Sleep(max(begin-s.now(), time.Microsecond), s.key)
		last = s.now()
		switch op.kind {
		case traceOpen:
			files[op.handle] = s.another()
		case traceClose:
			files[op.handle].close()
		case traceRead:
			file := files[op.handle]
			g.Go(func() {
				_ = file.at(op.off, op.n) // it is kept
				mu.Lock()
				defer mu.Unlock()
				done[i] = s.now()
				answered.Broadcast()
			})
		}
	}
	g.Wait()
}

// another opens the file once more.
func (s *seat) another() *seat {
	file := *s
	file.open()
	return &file
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
		case "forget":
			s.all.forget()
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
	reads       [][2]int64    // the kernel's READs: offset and length
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
	place := func(share float64) int64 { return int64(share*float64(len(s.c.data))) / playChunk * playChunk }
	pos := place(s.spec.play.first)
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
		pos = place(seeks[0].to)
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
	if s.k != nil {
		seg.reads = s.all.reads
	}
	return seg
}
