package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

// path leads to a seed that serves requests in order.
type path struct {
	rate float64 // bytes/s
	rtt  time.Duration

	chunky bool          // the end of a block comes with the beginning of the next, if there is one
	commit time.Duration // so much of the queue is in its socket, where no cancel reaches it

	queue []transfer // asked for, in order
	bytes int64
}

type transfer struct {
	got         Got
	begin, done time.Time // sent from and received at
}

// swarm is a driver between an engine and seeds behind paths, in time of its own.
type swarm struct {
	e       *Engine
	mem     *memory
	paths   []path
	batch   time.Duration // arrivals are reported this often
	now     time.Time
	deepest int // most requests outstanding at the first peer
	moved   func(piece int)
}

// endless is memory that never runs out; generations tell drafts apart.
type endless struct{ gen uint32 }

func (m *endless) Open(int, bool) (uint32, bool) { m.gen++; return m.gen, true }
func (m *endless) Discard(int)                   {}

func newSwarm(pieces int, batch time.Duration, paths ...path) *swarm {
	return newSwarmOf(1<<20, pieces, batch, nil, paths...)
}

// newSwarmOf makes a swarm in which peers have the pieces that has tells; nil: all.
func newSwarmOf(piece int64, pieces int, batch time.Duration, has []func(int) bool, paths ...path) *swarm {
	now := time.Unix(1e9, 0)
	layout := metainfo.Layout{PieceLength: piece, Length: int64(pieces) * piece}
	s := &swarm{paths: paths, batch: batch, now: now, moved: func(int) {}}
	s.mem = &memory{room: 64, open: map[int]uint32{}, got: map[int]map[int]bool{}}
	s.e = New(Config{Drafts: s.mem}, layout, nil, rand.New(rand.NewPCG(1, 1)), now)
	for i := range paths {
		s.e.PeerJoined(now, PeerID(i+1), Caps{Fast: true})
		all := wire.Message{Kind: wire.HaveAll}
		if has != nil {
			w := NewBitmap(pieces)
			for piece := range pieces {
				if has[i](piece) {
					w.Set(piece)
				}
			}
			all = wire.Message{Kind: wire.Bitfield, Data: wire.AppendBitfield(nil, w, pieces)}
		}
		s.e.Message(now, PeerID(i+1), all)
		s.e.Message(now, PeerID(i+1), wire.Message{Kind: wire.Unchoke})
	}
	return s
}

// run lets time pass.
func (s *swarm) run(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); s.now = s.now.Add(s.batch) {
		for i := range s.paths {
			s.arrive(i)
		}
		s.e.Tick(s.now)
		s.perform()
		s.deepest = max(s.deepest, s.e.peers[0].requests.len())
	}
}

// arrive reports what has come from one seed since the last time.
func (s *swarm) arrive(i int) {
	p := &s.paths[i]
	var got []Got
	for len(p.queue) > 0 && !p.queue[0].done.After(s.now) {
		if p.chunky && len(p.queue) > 1 && p.queue[1].done.After(s.now) && !p.queue[1].begin.After(p.queue[0].done.Add(-p.rtt/2)) {
			break
		}
		g := p.queue[0].got
		p.queue = p.queue[1:]
		gen, open := s.mem.open[g.Piece]
		g.Gen, g.Kept = gen, open && s.mem.take([2]int{g.Piece, g.Block})
		got = append(got, g)
	}
	if len(got) > 0 {
		p.bytes += int64(len(got)) * blockSize
		s.e.Blocks(s.now, PeerID(i+1), got)
	}
}

func (s *swarm) perform() {
	for list := s.e.Drain(nil); len(list) > 0; list = s.e.Drain(list[:0]) {
		for _, a := range list {
			switch {
			case a.Kind == Verify:
				s.mem.end(a.Piece)
				s.e.Verified(s.now, a.Piece, true, nil)
				s.moved(a.Piece)
			case a.Kind == Send && a.Msg.Kind == wire.Request:
				s.paths[a.Peer-1].request(s.now, a.Msg)
			case a.Kind == Send && a.Msg.Kind == wire.Cancel:
				s.paths[a.Peer-1].cancel(s.now, a.Msg)
			}
		}
	}
}

func (p *path) request(now time.Time, m wire.Message) {
	t := transfer{got: Got{Piece: int(m.Index), Block: int(m.Begin / blockSize)}, begin: now.Add(p.rtt / 2)}
	p.queue = append(p.queue, t)
	p.reckon(len(p.queue) - 1)
}

// cancel comes half a round trip later: what is being sent by then arrives.
func (p *path) cancel(now time.Time, m wire.Message) {
	for i, t := range p.queue {
		if t.got.Piece == int(m.Index) && t.got.Block == int(m.Begin/blockSize) && t.begin.After(now.Add(p.rtt/2+p.commit)) {
			p.queue = append(p.queue[:i], p.queue[i+1:]...)
			p.reckon(i)
			return
		}
	}
}

// reckon times the transfers from the ith on: one after the other.
func (p *path) reckon(i int) {
	for ; i < len(p.queue); i++ {
		t := &p.queue[i]
		if i > 0 {
			if sent := p.queue[i-1].done.Add(-p.rtt / 2); sent.After(t.begin) || t.done != (time.Time{}) {
				t.begin = sent
			}
		}
		t.done = t.begin.Add(time.Duration(blockSize/p.rate*float64(time.Second)) + p.rtt/2)
	}
}

// A queue grows until the path is full, whatever its rate and delay and however
// many blocks arrive together, and stays shallow for as long as it is used.
func TestAQueueFillsThePathAndStaysShallow(t *testing.T) {
	for _, c := range []struct {
		mbyte      float64
		rtt, batch time.Duration
	}{
		{1, 20 * time.Millisecond, time.Millisecond},
		{1, 200 * time.Millisecond, time.Millisecond},
		{10, 100 * time.Millisecond, time.Millisecond},
		{20, 40 * time.Millisecond, 40 * time.Millisecond}, // all that is outstanding comes in one batch
		{30, 200 * time.Millisecond, time.Millisecond},
		{100, time.Millisecond, time.Millisecond},
	} {
		t.Run(fmt.Sprintf("%vMB over %v in batches of %v", c.mbyte, c.rtt, c.batch), func(t *testing.T) {
			rate := c.mbyte * 1e6
			s := newSwarm(int(c.mbyte*320)+200, c.batch, path{rate: rate, rtt: c.rtt})
			s.e.Want(s.now, 1, Window{End: s.e.n})
			s.run(5 * time.Second)
			can := min(rate, 500*blockSize/(c.rtt+c.batch).Seconds())
			start := s.paths[0].bytes
			s.run(5 * time.Second)
			if got, want := float64(s.paths[0].bytes-start)/5, 0.85*can; got < want {
				t.Errorf("got %.1f MB/s after 5 s, want %.1f", got/1e6, want/1e6)
			}
			s.deepest, start = 0, s.paths[0].bytes
			s.run(5 * time.Minute)
			if got, want := float64(s.paths[0].bytes-start)/300, 0.9*can; got < want {
				t.Errorf("got %.1f MB/s over 5 minutes, want %.1f", got/1e6, want/1e6)
			}
			holds, margin := rate*(c.rtt+c.batch).Seconds()/blockSize, rate*queueMargin.Seconds()/blockSize
			if limit := int(3*holds+2*margin) + 6; s.deepest > limit {
				t.Errorf("got a queue of %d blocks, want at most %d: the path holds %.0f", s.deepest, limit, holds)
			}
		})
	}
}

// What a sequential reader with a window of 8 MiB gets of several seeds, and what
// is fetched twice for it.
func TestAReaderGetsWhatTheSeedsGiveTogether(t *testing.T) {
	const window = 8 // pieces
	slow := path{rate: 1 << 10, rtt: 40 * time.Millisecond}
	fast := path{rate: 2 << 20, rtt: 40 * time.Millisecond}
	for _, c := range []struct {
		name  string
		most  float64 // times what the rates allow together
		paths []path
	}{
		{"four alike", 1.05, []path{fast, fast, fast, fast}},
		{"nine alike", 1.05, []path{fast, fast, fast, fast, fast, fast, fast, fast, fast}},
		{"nine and a slow one", 1.25, []path{slow, fast, fast, fast, fast, fast, fast, fast, fast, fast}},
		{"uneven", 1.05, []path{{rate: 256 << 10, rtt: 200 * time.Millisecond}, fast, {rate: 8 << 20, rtt: 10 * time.Millisecond}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSwarm(256, time.Millisecond, c.paths...)
			pos := 0
			want := func() {
				for pos < 256 && s.e.Have(pos) {
					pos++
				}
				s.e.Want(s.now, 1, Window{Need: pos, NeedEnd: min(pos+1, 256), Pos: pos, End: min(pos+window, 256)})
			}
			s.moved = func(int) { want() }
			want()
			sum := 0.0
			for _, p := range c.paths {
				sum += p.rate
			}
			start := s.now
			for pos < 256 && s.now.Sub(start) < time.Hour {
				s.run(100 * time.Millisecond)
			}
			took, ideal := s.now.Sub(start).Seconds(), 256*float64(1<<20)/sum
			if took > c.most*ideal {
				t.Errorf("got all after %.1f s, want at most %.2f times %.1f s", took, c.most, ideal)
			}
			if st := s.e.Stats(); float64(st.Duplicate) > 0.02*float64(st.Downloaded) {
				t.Errorf("got %d bytes twice of %d", st.Duplicate, st.Downloaded)
			}
			t.Logf("%.2f s, at the rates together %.2f s; %d blocks twice", took, ideal, s.e.Stats().Duplicate/blockSize)
		})
	}
}

// A peer that answered its first requests at once, and from then on all that is
// outstanding twice a second, is asked for more and more: neither its rate nor
// its round trip tells how much it would send.
func TestAQueueThatRunsDryGrows(t *testing.T) {
	mem := &endless{}
	now := time.Unix(1e9, 0)
	layout := metainfo.Layout{PieceLength: 1 << 20, Length: 1 << 30}
	e := New(Config{Drafts: mem}, layout, nil, rand.New(rand.NewPCG(1, 1)), now)
	e.PeerJoined(now, 1, Caps{Fast: true})
	e.Message(now, 1, wire.Message{Kind: wire.HaveAll})
	e.Message(now, 1, wire.Message{Kind: wire.Unchoke})
	e.Want(now, 1, Window{End: e.n})
	gens := map[int]uint32{}
	pause, burst := 5*time.Millisecond, 0
	for range 24 {
		var got []Got
		for _, a := range e.Drain(nil) {
			switch {
			case a.Kind == Verify:
				e.Verified(now, a.Piece, true, nil)
			case a.Msg.Kind == wire.Request:
				piece := int(a.Msg.Index)
				if gens[piece] == 0 {
					gens[piece] = e.open[piece].gen
				}
				got = append(got, Got{Piece: piece, Block: int(a.Msg.Begin / blockSize), Gen: gens[piece], Kept: true})
			}
		}
		now = now.Add(pause)
		e.Blocks(now, 1, got)
		e.Tick(now)
		pause, burst = 500*time.Millisecond, len(got)
	}
	if burst < 200 {
		t.Errorf("got %d requests outstanding after 12 s of answers in bursts, want hundreds", burst)
	}
}

// While a read is blocked and a peer is idle, the engine looks every few
// milliseconds whether it could help; otherwise it sleeps longer.
func TestAnIdlePeerIsLookedAtSoon(t *testing.T) {
	fast := path{rate: 100e6, rtt: time.Millisecond}
	all, few := func(int) bool { return true }, func(i int) bool { return i < 32 }
	s := newSwarmOf(1<<20, 64, time.Millisecond, []func(int) bool{all, few}, fast, fast)
	s.run(100 * time.Millisecond)
	s.paths[0].rate = 1
	s.e.Want(s.now, 1, Window{Need: 40, NeedEnd: 41})
	s.run(20 * time.Millisecond)
	if d := s.e.NextWake().Sub(s.now); d > helpEvery {
		t.Errorf("wakes after %v while a peer is idle, want %v at most", d, helpEvery)
	}
	s.e.ReaderGone(s.now, 1)
	s.e.Want(s.now, 1, Window{Pos: 40, End: 41})
	s.run(20 * time.Millisecond)
	if d := s.e.NextWake().Sub(s.now); d <= helpEvery {
		t.Errorf("wakes after %v while nobody is blocked", d)
	}
}

// A quick peer that stops with its part of a piece costs a read as long as it takes to
// be sure of that, and its blocks come from another in one round trip.
func TestWhatAStoppedPeerOwesIsTakenOverTogether(t *testing.T) {
	quick := path{rate: 200e6, rtt: 500 * time.Microsecond}
	s := newSwarm(40, 100*time.Microsecond, quick, quick)
	read := func(piece int) time.Duration {
		t.Helper()
		asked := s.now
		s.e.Want(s.now, 1, Window{Pos: piece, Need: piece, NeedEnd: piece + 1, Goal: piece + 1, End: piece + 1})
		s.perform()
		done := false
		s.moved = func(int) { done = true }
		for ; !done; s.run(s.batch) {
			if s.now.Sub(asked) > time.Second {
				t.Fatalf("piece %d is not here after a second", piece)
			}
		}
		return s.now.Sub(asked)
	}
	usual := time.Duration(0)
	for i := range 20 {
		usual = read(i)
		s.run(20 * time.Millisecond)
	}
	s.paths[0].rate = 1
	if got, limit := read(20), usual+12*time.Millisecond; got > limit {
		t.Errorf("got the piece after %v, want at most %v: it usually takes %v", got, limit, usual)
	}
}
