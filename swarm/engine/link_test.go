package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

// link is a seed behind a path of one rate and one round trip, which serves
// requests in order; a driver between it and an engine, in time of their own.
type link struct {
	e     *Engine
	rate  float64 // bytes/s
	rtt   time.Duration
	batch time.Duration // arrivals are reported this often

	now     time.Time
	free    time.Time // when the seed has sent all that it was asked for
	sent    []Got     // under way, with
	at      []time.Time
	bytes   int64
	deepest int // most requests outstanding
}

// endless is memory that never runs out; generations tell drafts apart.
type endless struct{ gen uint32 }

func (m *endless) Open(int, bool) (uint32, bool) { m.gen++; return m.gen, true }
func (m *endless) Discard(int)                   {}

func newLink(rate float64, rtt, batch time.Duration, pieces int) *link {
	now := time.Unix(1e9, 0)
	layout := metainfo.Layout{PieceLength: 1 << 20, Length: int64(pieces) << 20}
	l := &link{rate: rate, rtt: rtt, batch: batch, now: now, free: now}
	l.e = New(Config{Drafts: &endless{}}, layout, nil, rand.New(rand.NewPCG(1, 1)), now)
	l.e.PeerJoined(now, 1, Caps{Fast: true})
	l.e.Message(now, 1, wire.Message{Kind: wire.HaveAll})
	l.e.Message(now, 1, wire.Message{Kind: wire.Unchoke})
	l.e.Want(now, 1, Window{Pos: 0, End: pieces})
	return l
}

// run lets time pass.
func (l *link) run(d time.Duration) {
	var actions []Action
	for end := l.now.Add(d); l.now.Before(end); l.now = l.now.Add(l.batch) {
		n := 0
		for n < len(l.at) && !l.at[n].After(l.now) {
			n++
		}
		if n > 0 {
			got := l.sent[:n]
			for i := range got {
				t := l.e.open[got[i].Piece]
				got[i].Kept, got[i].Gen = t != nil, t.gen
			}
			l.bytes += int64(n) * blockSize
			l.e.Blocks(l.now, 1, got)
			l.sent, l.at = l.sent[n:], l.at[n:]
		}
		l.e.Tick(l.now)
		actions = l.e.Drain(actions[:0])
		for _, a := range actions {
			switch {
			case a.Kind == Verify:
				l.e.Verified(l.now, a.Piece, true, nil)
			case a.Kind == Send && a.Msg.Kind == wire.Request:
				l.request(a.Msg)
			}
		}
		l.deepest = max(l.deepest, l.e.peers[0].requests.len())
	}
}

func (l *link) request(m wire.Message) {
	start := l.now.Add(l.rtt / 2)
	if l.free.After(start) {
		start = l.free
	}
	l.free = start.Add(time.Duration(float64(m.Length) / l.rate * float64(time.Second)))
	l.sent = append(l.sent, Got{Piece: int(m.Index), Block: int(m.Begin / blockSize)})
	l.at = append(l.at, l.free.Add(l.rtt/2))
}

// A queue grows until the path is full, whatever its rate and delay and however
// many blocks arrive together, and stays shallow for as long as it is used.
func TestAQueueFillsThePathAndStaysShallow(t *testing.T) {
	for _, c := range []struct {
		mbyte float64
		rtt   time.Duration
		batch time.Duration
	}{
		{1, 20 * time.Millisecond, time.Millisecond},
		{1, 200 * time.Millisecond, time.Millisecond},
		{10, 100 * time.Millisecond, time.Millisecond},
		{20, 40 * time.Millisecond, 40 * time.Millisecond}, // all that is outstanding comes in one batch
		{30, 200 * time.Millisecond, time.Millisecond},
		{100, time.Millisecond, time.Millisecond},
	} {
		t.Run(fmt.Sprintf("%vMB over %v in batches of %v", c.mbyte, c.rtt, c.batch), func(t *testing.T) {
			l := newLink(c.mbyte*1e6, c.rtt, c.batch, int(c.mbyte*320)+200)
			l.run(5 * time.Second)
			path := l.rate * (c.rtt + c.batch).Seconds() / blockSize // blocks
			start := l.bytes
			l.run(5 * time.Second)
			if got, want := float64(l.bytes-start)/5, 0.85*min(l.rate, 500*blockSize/(c.rtt+c.batch).Seconds()); got < want {
				t.Errorf("got %.1f MB/s after 5 s, want %.1f", got/1e6, want/1e6)
			}
			l.deepest = 0
			start = l.bytes
			l.run(5 * time.Minute)
			if got, want := float64(l.bytes-start)/300, 0.9*min(l.rate, 500*blockSize/(c.rtt+c.batch).Seconds()); got < want {
				t.Errorf("got %.1f MB/s over 5 minutes, want %.1f", got/1e6, want/1e6)
			}
			margin := l.rate * queueMargin.Seconds() / blockSize
			if limit := int(3*path+2*margin) + 6; l.deepest > limit {
				t.Errorf("got a queue of %d blocks, want at most %d: the path holds %.0f", l.deepest, limit, path)
			}
		})
	}
}
