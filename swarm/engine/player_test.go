package engine

import (
	"testing"
	"time"
)

const readSize = 64 << 10 // what the player asks for at a time

// kernel is Linux' read-ahead in front of one handle (mm/readahead.c), as it
// meets us: windows that grow from 128 KiB to 1 MiB, READs of 128 KiB at most.
type kernel struct {
	s        *swarm
	size     int64
	piece    int64
	cursor   Cursor
	window   Window
	seeks    int
	cached   map[int64]bool // by offset, of readSize each
	inFlight map[int64]bool
	reads    []*kernelRequest
	nextID   ReaderID

	start, length, marker, last int64 // of the read-ahead window; marker 0: none
}

type kernelRequest struct {
	id     ReaderID
	off, n int64
	seeks  int
	asked  Window
	goal   int
}

const (
	kernelAhead      = 1 << 20
	kernelRequestMax = 128 << 10
	reader1          = ReaderID(1)
)

func newKernel(s *swarm, size, piece int64) *kernel {
	k := &kernel{s: s, size: size, piece: piece, cached: map[int64]bool{}, inFlight: map[int64]bool{}, nextID: 2, last: -1}
	s.moved = func(int) { k.serve() }
	return k
}

// read has the kernel do what it does for a read at off, and reports whether its
// pages are there.
func (k *kernel) read(off int64) bool {
	switch {
	case k.cached[off] || k.inFlight[off]:
		if k.marker > 0 && off == k.marker {
			k.start += k.length
			k.length = min(2*k.length, kernelAhead)
			k.marker = k.start
			k.fetch(k.start, k.length)
		}
	case off == 0 || off == k.last+readSize:
		k.start, k.length, k.marker = off, 2*readSize, off+readSize
		k.fetch(off, k.length)
	default:
		k.marker = 0
		k.fetch(off, readSize)
	}
	if k.cached[off] {
		k.last = off
		return true
	}
	return false
}

// fetch sends READs for what is neither there nor on its way.
func (k *kernel) fetch(off, n int64) {
	for end := min(off+n, k.size); off < end; {
		size := min(kernelRequestMax, end-off)
		for o := off; o < off+size; o += readSize {
			k.inFlight[o] = true
		}
		ahead := k.cursor.Read(k.s.e.since(k.s.now), off, size, k.piece, 32<<20)
		if !ahead.Left {
			var w Window
			if ahead.Bytes > 0 {
				w = k.span(off, size+ahead.Bytes)
				w = Window{Pos: w.Need, End: w.NeedEnd}
			}
			k.look(w)
		}
		goal := 0
		if ahead.Goal > 0 {
			goal = k.span(off, ahead.Goal).NeedEnd
		}
		k.reads = append(k.reads, &kernelRequest{id: k.nextID, off: off, n: size, seeks: ahead.Seeks, goal: goal})
		k.nextID++
		off += size
	}
	k.serve()
}

func (k *kernel) span(off, n int64) Window {
	end := min(off+n, k.size)
	return Window{Need: int(off / k.piece), NeedEnd: int((end-1)/k.piece) + 1}
}

func (k *kernel) look(w Window) {
	if s := k.cursor.Seeks(); s != k.seeks {
		k.seeks = s
		for _, r := range k.reads {
			if r.seeks < s && r.asked != (Window{}) {
				k.s.e.Defer(k.s.now, r.id)
			}
		}
	}
	if w != k.window {
		k.window = w
		k.s.e.Want(k.s.now, reader1, w)
	}
}

// serve answers the READs whose pieces are held and lets the others wait.
func (k *kernel) serve() {
	left := k.reads[:0]
	for _, r := range k.reads {
		w := k.span(r.off, r.n)
		w.Goal = r.goal
		for w.Need < w.NeedEnd && k.s.e.Have(w.Need) {
			w.Need++
		}
		if w.Need == w.NeedEnd {
			if r.asked != (Window{}) {
				k.s.e.ReaderGone(k.s.now, r.id)
			}
			for o := r.off; o < r.off+r.n; o += readSize {
				k.cached[o] = true
				delete(k.inFlight, o)
			}
			continue
		}
		left = append(left, r)
		if w != r.asked {
			r.asked = w
			k.s.e.Want(k.s.now, r.id, w)
		}
	}
	k.reads = left
}

// player plays at a rate: it starts when it has a second of the film, is at most
// four ahead, and counts what it had to wait for.
type player struct {
	k       *kernel
	perSec  float64
	started []time.Duration
	stalls  int
	stalled time.Duration
}

// play plays [from, to) and returns false when that took too long.
func (p *player) play(from, to int64) bool {
	s := p.k.s
	begin := s.now
	pos := from / readSize * readSize
	first := pos
	var clock time.Time // when the film at first is shown
	inStall := false
	for limit := s.now.Add(5 * time.Minute); pos < to; {
		if s.now.After(limit) {
			return false
		}
		if clock.IsZero() && float64(pos-first) >= p.perSec {
			p.started = append(p.started, s.now.Sub(begin))
			clock = s.now
		}
		if !clock.IsZero() {
			due := clock.Add(time.Duration(float64(pos-first) / p.perSec * float64(time.Second)))
			if due.Sub(s.now) > 4*time.Second {
				s.run(s.batch)
				continue
			}
			if late := s.now.Sub(due); late > 20*time.Millisecond && !p.k.read(pos) {
				if !inStall {
					p.stalls++
				}
				inStall = true
				p.stalled += s.batch
				clock = clock.Add(s.batch)
			} else if late < -500*time.Millisecond {
				inStall = false
			}
		}
		if p.k.read(pos) {
			pos += readSize
			continue
		}
		s.run(s.batch)
	}
	return true
}

// uneven is the swarm of the streaming figure: 1.5 times the bitrate in all, one
// peer with everything, two with a half, one with pieces at random.
func uneven(pieces int) ([]path, []func(int) bool) {
	random := "10100010000110001000010000110010001000011111110000111110010101100111110011001111101100100100111001110111110000000010110011100111" // any will do
	peer := func(rate float64) path {
		return path{rate: rate, rtt: 40 * time.Millisecond, commit: 500 * time.Millisecond, chunky: true}
	}
	has := []func(int) bool{
		func(i int) bool { return random[i%len(random)] == '1' },
		func(int) bool { return true },
		func(i int) bool { return i < pieces/2 },
		func(i int) bool { return i >= pieces/2 },
	}
	return []path{peer(200_000), peer(250_000), peer(150_000), peer(150_000)}, has
}

// A film of 4 Mbit/s in a swarm of 6 plays without a stall, and starts and seeks
// nearly as soon as the peers' rates allow.
func TestAPlayerInAnUnevenSwarm(t *testing.T) {
	const piece, pieces = 256 << 10, 128
	paths, has := uneven(pieces)
	s := newSwarmOf(piece, pieces, time.Millisecond, has, paths...)
	p := &player{k: newKernel(s, pieces*piece, piece), perSec: 500_000}
	if !p.play(0, pieces*piece/4) || !p.play(pieces*piece*7/10, pieces*piece) {
		t.Fatal("five minutes did not do for the film")
	}
	start, seek := bound(paths, has, piece, 0, 2), bound(paths, has, piece, 89, 92)
	t.Logf("start %v of %.2f s, seek %v of %.2f s, %d stalls of %v", p.started[0], start, p.started[1], seek, p.stalls, p.stalled)
	if got := p.started[0].Seconds(); got > 1.3*start {
		t.Errorf("started after %.2f s, want %.2f s by 30 %% more at most", got, start)
	}
	if got := p.started[1].Seconds(); got > 1.3*seek {
		t.Errorf("went on after a seek after %.2f s, want %.2f s by 30 %% more at most", got, seek)
	}
	if p.stalls > 0 {
		t.Errorf("stalled %d times, %v in all", p.stalls, p.stalled)
	}
	if st := s.e.Stats(); float64(st.Duplicate) > 0.02*float64(st.Downloaded) {
		t.Errorf("got %d bytes twice of %d", st.Duplicate, st.Downloaded)
	}
}

// bound is how long the peers take at least for pieces [first, end): no set of
// them comes quicker than at the rates of all who have one of it.
func bound(paths []path, has []func(int) bool, piece int64, first, end int) float64 {
	most := 0.0
	for set := 1; set < 1<<(end-first); set++ {
		bytes, rate := 0.0, 0.0
		for i := range end - first {
			if set>>i&1 == 1 {
				bytes += float64(piece)
			}
		}
		for j := range paths {
			for i := range end - first {
				if set>>i&1 == 1 && has[j](first+i) {
					rate += paths[j].rate
					break
				}
			}
		}
		most = max(most, bytes/rate)
	}
	least := paths[0].rtt
	for i := range paths {
		least = min(least, paths[i].rtt)
	}
	return most + least.Seconds()
}
