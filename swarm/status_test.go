package swarm

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"swarmfs/swarm/wire"
)

// mute is a peer that has everything, unchokes, and never sends a block.
var mute = script{request: func(*fakeConn, wire.Message) {}}

func TestStatusSaysWhatAReadWaitsFor(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		p := l.peer(c, near, mute)
		tor := n.add(c, p.addr())
		l.eventually(time.Second, "connected", func() bool { return tor.Stats().Peers == 1 })

		start := time.Now()
		ctx, cancel := context.WithCancel(l.t.Context())
		l.peers.Go(func() {
			if err := n.open(tor, c).readCtx(ctx, 3*pieceLen+5, 10); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the read to wait until it is cancelled", err)
			}
		})
		time.Sleep(2 * time.Second)
		st, err := tor.Status(l.t.Context(), true)
		if err != nil || len(st.Reads) != 1 || st.Waiting != 1 {
			t.Fatalf("got %+v, %v, want one waiting read", st, err)
		}
		r := st.Reads[0]
		if r.File != 0 || r.Offset != 3*pieceLen+5 || r.Piece != 3 || r.Availability != 1 || r.Received != 0 ||
			r.Blocks != 4 || !r.Since.Equal(start) || !r.Progress.Equal(start) {
			t.Errorf("got %+v", r)
		}
		if len(r.Asked) != 1 || r.Asked[0].Addr != p.addr() || r.Asked[0].Blocks != 3 || !r.Asked[0].Since.Equal(start) {
			t.Errorf("asked: got %+v, want 3 blocks of %v since %v", r.Asked, p.addr(), start)
		}
		if len(st.Connections) != 1 {
			t.Fatalf("got %+v, want one connection", st.Connections)
		}
		if k := st.Connections[0]; k.Addr != p.addr() || k.Choked || !k.Interested || k.Outstanding != 3 || k.Pieces != c.pieces() {
			t.Errorf("got %+v", k)
		}
		if st, _ := tor.Status(l.t.Context(), false); st.Connections != nil {
			t.Errorf("got connections that were not asked for: %+v", st.Connections)
		}
		cancel()
		l.eventually(time.Second, "nobody waits", func() bool {
			st, err := tor.Status(l.t.Context(), false)
			return err == nil && st.Waiting == 0
		})
	})
}

func TestManyStalledReadsAreOneLine(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		tor := n.add(c)
		start := time.Now()
		for i := range c.pieces() {
			for range 20 {
				l.peers.Go(func() {
					if err := n.open(tor, c).read(i*pieceLen, 10); !errors.Is(err, ErrTimeout) {
						t.Errorf("got %v, want a time-out", err)
					}
				})
			}
		}
		time.Sleep(4 * time.Second)
		if got := n.log.count("read waits"); got != 0 {
			t.Errorf("after 4 s there are %d lines, want none", got)
		}
		time.Sleep(3 * time.Second)
		if got := n.log.count("WARN read waits file=file offset="); got != 1 {
			t.Errorf("after 7 s there are %d lines, want one: %q", got, n.log.entries)
		}
		if all := fmt.Sprintf("waiting=%d", 20*c.pieces()); n.log.count(all) != 1 {
			t.Errorf("got %q, want a line with %s", n.log.entries, all)
		}
		st, err := tor.Status(l.t.Context(), false)
		if err != nil || st.Waiting != 20*c.pieces() || len(st.Reads) != maxReads {
			t.Errorf("got %d reads of %d, %v, want %d of %d", len(st.Reads), st.Waiting, err, maxReads, 20*c.pieces())
		}
		l.peers.Wait()
		if d := time.Since(start); d > 62*time.Second {
			t.Errorf("all had ended after %v, want a minute", d)
		}
		if got := n.log.count("WARN read"); got != 1 {
			t.Errorf("when all have failed there are %d lines, want one: %q", got, n.log.entries)
		}
		// Who tries again later is another stalled read.
		if err := n.open(tor, c).read(0, 10); !errors.Is(err, ErrTimeout) {
			t.Errorf("got %v, want a time-out", err)
		}
		if got := n.log.count("WARN read waits"); got != 1 {
			t.Errorf("a dead range answers at once, and there are %d lines", got)
		}
		time.Sleep(2 * deadFor)
		if err := n.open(tor, c).read(0, 10); !errors.Is(err, ErrTimeout) {
			t.Errorf("got %v, want a time-out", err)
		}
		if got := n.log.count("WARN read"); got != 2 {
			t.Errorf("after the second stall there are %d lines, want 2: %q", got, n.log.entries)
		}
	})
}

func TestASlowReadIsNoStalledOne(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		p := l.peer(c, rated(4<<10), script{}) // a block in 4 s
		if err := n.open(n.add(c, p.addr()), c).read(0, pieceLen); err != nil {
			t.Fatal(err)
		}
		if got := n.log.count("read waits"); got != 0 {
			t.Errorf("got %q, want no line", n.log.entries)
		}
	})
}

func TestStatusOfARemovedTorrentIsWhatWasKnown(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		n.fill(c)
		tor := n.add(c)
		if err := n.Remove(c.meta.Info.Hash); err != nil {
			t.Fatal(err)
		}
		st, err := tor.Status(l.t.Context(), true)
		if err != nil || !errors.Is(st.Failure, ErrClosed) || st.Held != c.pieces() {
			t.Errorf("got %+v, %v", st, err)
		}
	})
}

func TestStatusEndsWithItsContext(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		tor := n.add(c)
		r, err := tor.current(l.t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tor.mu.Lock()
		tor.run = newRun(l.t.Context(), tor) // its loop never looks into the inbox
		tor.mu.Unlock()
		ctx, cancel := context.WithTimeout(l.t.Context(), time.Second)
		defer cancel()
		st, err := tor.Status(ctx, false)
		if !errors.Is(err, context.DeadlineExceeded) || st.Pieces != c.pieces() {
			t.Errorf("got %+v, %v, want the counters and the context's cause", st, err)
		}
		tor.mu.Lock()
		tor.run = r
		tor.mu.Unlock()
	})
}
