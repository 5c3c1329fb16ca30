package swarm

import (
	"testing"
	"time"

	"swarmfs/swarm/simnet"
	"swarmfs/swarm/wire"
)

// TestUploadsYieldToAReader: on a line that sends little, peers that we read from
// take of us all that it carries.
func TestUploadsYieldToAReader(t *testing.T) {
	c := makeContent(t, 12*mebibyte)
	const held = 32 // pieces that they lack
	play := func(taking bool) (took time.Duration, stats TorrentStats) {
		simulate(t, func(l *lab) {
			n := l.node(nodeOptions{link: simnet.Link{Latency: 10 * time.Millisecond, Up: 64 << 10, Down: 4 << 20}})
			n.fillFirst(c, held)
			tor := n.add(c)
			for range 4 {
				l.tradingPeer(c, simnet.Link{Latency: 10 * time.Millisecond, Up: 512 << 10}, held, taking).dial(n)
			}
			time.Sleep(20 * time.Second)
			before := tor.Stats().Uploaded
			start := time.Now()
			n.open(tor, c).copyOut(held * pieceLen)
			took = time.Since(start)
			during := float64(tor.Stats().Uploaded-before) / took.Seconds()
			before = tor.Stats().Uploaded
			time.Sleep(30 * time.Second)
			after := float64(tor.Stats().Uploaded-before) / 30
			t.Logf("taking is %v: %v, %.0f bytes/s went out meanwhile, %.0f afterwards", taking, took, during, after)
			if taking && after < 0.8*(64<<10) {
				t.Errorf("after the read %.0f bytes/s go out", after)
			}
			stats = tor.Stats()
		})
		return took, stats
	}
	alone, _ := play(false)
	shared, stats := play(true)
	if shared > 6*alone {
		t.Errorf("10 MiB took %v while others took what they could, and %v otherwise", shared, alone)
	}
	if stats.Uploaded == 0 {
		t.Error("nothing was uploaded")
	}
}

// tradingPeer is a scripted peer that lacks the first pieces, and when it takes
// asks for them again and again.
func (l *lab) tradingPeer(c *content, link simnet.Link, lacks int, takes bool) *fakePeer {
	next := 0
	ask := func(conn *fakeConn) {
		conn.send(request(next/4%lacks, next%4*(16<<10)))
		next++
	}
	return l.silentPeer(c, link, script{
		unfollowed: true,
		has:        func(piece int) bool { return piece >= lacks },
		hello: func(conn *fakeConn) {
			conn.send(wire.Message{Kind: wire.Bitfield, Data: conn.bitfield()})
			conn.send(wire.Message{Kind: wire.Unchoke})
			if takes {
				conn.send(wire.Message{Kind: wire.Interested})
			}
		},
		message: func(conn *fakeConn, m wire.Message) {
			switch m.Kind {
			case wire.Unchoke:
				for range 32 {
					ask(conn)
				}
			case wire.Piece:
				ask(conn)
			}
		},
	})
}
