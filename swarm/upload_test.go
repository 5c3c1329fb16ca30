package swarm

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/simnet"
	"swarmfs/swarm/wire"
)

// leecher is a scripted peer that says nothing by itself but its handshake.
func (l *lab) leecher(c *content, plain bool) *fakePeer {
	return l.silentPeer(c, near, script{plain: plain, hello: func(*fakeConn) {}, request: func(*fakeConn, wire.Message) {}})
}

func request(piece, begin int) wire.Message {
	return wire.Message{Kind: wire.Request, Index: uint32(piece), Begin: uint32(begin), Length: metainfo.BlockSize}
}

// seedNode is a node that has everything.
func (l *lab) seedNode(c *content, o nodeOptions) (*node, *Torrent) {
	n := l.node(o)
	n.fill(c)
	return n, n.add(c)
}

func TestOneSessionSeedsToAnother(t *testing.T) {
	c := makeContent(t, 8*mebibyte+777)
	simulate(t, func(l *lab) {
		seed, st := l.seedNode(c, nodeOptions{link: rated(4 * mebibyte)})
		n := l.node(nodeOptions{})
		tor := n.add(c, seed.addr())
		start := time.Now()
		n.open(tor, c).copyOut(0)
		if d := time.Since(start); d > 2600*time.Millisecond {
			t.Errorf("8 MiB at 4 MiB/s took %v", d)
		}
		time.Sleep(time.Second)
		if got := st.Stats().Uploaded; got != int64(len(c.data)) {
			t.Errorf("uploaded %d bytes, want %d", got, len(c.data))
		}
		if !tor.search.completed.Load() {
			t.Error("the download is not known to be complete")
		}
		// Neither has any use for the other now: they part, and stay so. That
		// nobody is left is no reason to ask for more.
		time.Sleep(5 * time.Second)
		tor.search.hungry.Store(false)
		st.search.hungry.Store(false)
		for range 10 {
			time.Sleep(time.Minute)
			if a, b := tor.Stats().Peers, st.Stats().Peers; a != 0 || b != 0 {
				t.Errorf("%d and %d peers, want none", a, b)
			}
		}
		if tor.search.hungry.Load() || st.search.hungry.Load() {
			t.Error("a complete torrent asks for peers")
		}
		if n.isBanned(seed.addr()) || seed.isBanned(n.addr()) {
			t.Error("one is banned")
		}
	})
}

func TestSessionsTradeWhatTheyHave(t *testing.T) {
	c := makeContent(t, 4*mebibyte)
	simulate(t, func(l *lab) {
		// The seeder could serve one of them in 4 s; four take as long together only
		// if they serve each other.
		seed, _ := l.seedNode(c, nodeOptions{link: rated(mebibyte)})
		var nodes []*node
		var tors []*Torrent
		for range 4 {
			n := l.node(nodeOptions{link: rated(4 * mebibyte), Options: Options{Background: BackgroundAll}})
			nodes = append(nodes, n)
		}
		for i, n := range nodes {
			tors = append(tors, n.add(c, append(addrsOf(nodes[:i]...), seed.addr())...))
		}
		time.Sleep(time.Second)
		start := time.Now()
		var g sync.WaitGroup
		for i, n := range nodes {
			g.Go(func() {
				if err := n.open(tors[i], c).read(i*mebibyte, 1); err != nil {
					t.Error(err)
				}
				l.eventually(20*time.Second, "all pieces are there", func() bool { return tors[i].Stats().Held == c.pieces() })
			})
		}
		g.Wait()
		if d := time.Since(start); d > 12*time.Second {
			t.Errorf("four downloads of 4 MiB from 1 MiB/s took %v", d)
		}
		if sent, _ := seed.host.Traffic(); sent > 10*mebibyte {
			t.Errorf("the seeder sent %d bytes for 4 MiB", sent)
		}
	})
}

func TestALeecherIsServedWhatItAsksFor(t *testing.T) {
	c := makeContent(t, mebibyte)
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plain is %v", plain), func(t *testing.T) {
			simulate(t, func(l *lab) {
				n, _ := l.seedNode(c, nodeOptions{})
				conn := l.leecher(c, plain).dial(n)
				if plain {
					if m := conn.want(wire.Bitfield); !bytes.Equal(m.Data, conn.bitfield()) {
						t.Errorf("bitfield is %x, want %x", m.Data, conn.bitfield())
					}
				} else {
					conn.want(wire.HaveAll)
				}
				conn.send(wire.Message{Kind: wire.Interested})
				conn.want(wire.Unchoke)
				for piece := range c.pieces() {
					for begin := 0; begin < pieceLen; begin += metainfo.BlockSize {
						conn.send(request(piece, begin))
					}
				}
				for range c.pieces() * pieceLen / metainfo.BlockSize {
					m := conn.want(wire.Piece)
					if !bytes.Equal(m.Data, c.block(int(m.Index), int(m.Begin), metainfo.BlockSize)) {
						t.Errorf("block %d:%d is wrong", m.Index, m.Begin)
					}
				}
				// Blocks of odd sizes and places are proper requests, too.
				conn.send(wire.Message{Kind: wire.Request, Index: 3, Begin: 12345, Length: 678})
				if m := conn.want(wire.Piece); !bytes.Equal(m.Data, c.block(3, 12345, 678)) {
					t.Error("an odd block is wrong")
				}
			})
		})
	}
}

func TestRequestsOfAChokedPeerAreRejectedAndThenItIsCut(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n, _ := l.seedNode(c, nodeOptions{})
		fast, plain := l.leecher(c, false).dial(n), l.leecher(c, true).dial(n)
		for _, conn := range []*fakeConn{fast, plain} {
			conn.send(request(0, 0))
		}
		if m := fast.want(wire.Reject); m.Length != metainfo.BlockSize {
			t.Errorf("rejected %+v", m)
		}
		if m, ok := plain.next(wire.Reject, time.Second); ok {
			t.Errorf("a plain peer got a reject: %+v", m)
		}
		for _, conn := range []*fakeConn{fast, plain} {
			for range 1100 { // a whole queue may be under way when a choke is
				conn.send(request(0, 0))
			}
			if !conn.isOver(5 * time.Second) {
				t.Error("a peer that keeps on asking while choked is kept")
			}
			if conn.served.Load() != 0 {
				t.Error("a choked peer was served")
			}
		}
	})
}

func TestRequestFloodsAreBounded(t *testing.T) {
	c := makeContent(t, mebibyte)
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plain is %v", plain), func(t *testing.T) {
			simulate(t, func(l *lab) {
				n, tor := l.seedNode(c, nodeOptions{link: rated(mebibyte)})
				conn := l.leecher(c, plain).dial(n)
				conn.send(wire.Message{Kind: wire.Interested})
				conn.want(wire.Unchoke)
				for i := range 5000 {
					conn.send(request(i%16, i/16%4*metainfo.BlockSize))
				}
				time.Sleep(100 * time.Millisecond)
				pieces, rejects := 0, 0
				for end := time.After(time.Minute); ; {
					select {
					case m := <-conn.inbox:
						switch m.Kind {
						case wire.Piece:
							pieces++
						case wire.Reject:
							rejects++
						}
						continue
					case <-end:
					}
					break
				}
				// What was told as reqq, and what was sent meanwhile.
				if pieces < 400 || pieces > 700 {
					t.Errorf("%d blocks were sent for a flood of 5000 requests, want about 500", pieces)
				}
				if want := 5000 - pieces; !plain && rejects != want {
					t.Errorf("%d requests were rejected, want %d", rejects, want)
				}
				if plain && rejects != 0 {
					t.Errorf("a plain peer got %d rejects", rejects)
				}
				if tor.Stats().Peers != 1 {
					t.Error("the peer was dropped; it may have asked too much in good faith")
				}
			})
		})
	}
}

func TestACancelledRequestIsNotServed(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		// 64 blocks a second: what is cancelled at once is far from being sent.
		n, _ := l.seedNode(c, nodeOptions{link: rated(mebibyte)})
		conn := l.leecher(c, false).dial(n)
		conn.send(wire.Message{Kind: wire.Interested})
		conn.want(wire.Unchoke)
		for i := range 400 {
			conn.send(request(i%16, i/16%4*metainfo.BlockSize))
		}
		last := request(15, 3*metainfo.BlockSize)
		conn.send(last)
		time.Sleep(100 * time.Millisecond)
		last.Kind = wire.Cancel
		conn.send(last)
		answer := conn.want(wire.Reject)
		if answer.Index != last.Index || answer.Begin != last.Begin || answer.Length != last.Length {
			t.Errorf("rejected %+v, want %+v", answer, last)
		}
	})
}

func TestAPeerThatNeverReadsIsCut(t *testing.T) {
	c := makeContent(t, 8*mebibyte)
	simulate(t, func(l *lab) {
		n, tor := l.seedNode(c, nodeOptions{})
		h := l.host(near)
		conn, err := h.Dial(l.t.Context(), n.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.(*simnet.Conn).Reset()
		hs := wire.Handshake{InfoHash: c.meta.Info.Hash, PeerID: [20]byte{1}}
		hs.Set(wire.FeatureFast)
		b := wire.Append(wire.AppendHandshake(nil, hs), wire.Message{Kind: wire.Interested})
		conn.Write(b)
		time.Sleep(time.Second)
		for i := range 200 {
			conn.Write(wire.Append(nil, request(i%128, 0)))
		}
		l.eventually(2*time.Second, "the peer is there", func() bool { return tor.Stats().Peers == 1 })
		l.eventually(writeTimeout+5*time.Second, "the peer that never reads is cut", func() bool { return tor.Stats().Peers == 0 })
	})
}

func TestUploadSlotsGoRound(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n, _ := l.seedNode(c, nodeOptions{Options: Options{UploadSlots: 3}, link: rated(64 << 10)})
		const leechers = 8
		var mu sync.Mutex
		var conns []*fakeConn
		unchoked, most, ever := map[int]bool{}, 0, map[int]bool{}
		for i := range leechers {
			p := l.leecher(c, i%2 == 0)
			p.message = func(conn *fakeConn, m wire.Message) {
				mu.Lock()
				defer mu.Unlock()
				switch m.Kind {
				case wire.Unchoke:
					unchoked[i], ever[i] = true, true
					most = max(most, len(unchoked))
					conn.send(request(0, 0))
				case wire.Choke:
					delete(unchoked, i)
				case wire.Piece:
					conn.send(request(int(m.Index+1)%16, 0))
				}
			}
			conn := p.dial(n)
			conn.send(wire.Message{Kind: wire.Interested})
			conns = append(conns, conn)
		}
		for range 10 {
			time.Sleep(time.Minute)
			for _, conn := range conns {
				conn.send(wire.Message{Kind: wire.KeepAlive})
			}
		}
		mu.Lock()
		defer mu.Unlock()
		// A choke and the unchoke of another may cross on their ways.
		if most > 4 {
			t.Errorf("%d peers were unchoked at a time, want 3", most)
		}
		if len(ever) != leechers {
			t.Errorf("%d of %d peers had a turn within ten minutes", len(ever), leechers)
		}
	})
}

func TestAnUploadSlotIsGivenOnAtOnce(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n, _ := l.seedNode(c, nodeOptions{Options: Options{UploadSlots: 1}})
		a, b := l.leecher(c, false).dial(n), l.leecher(c, false).dial(n)
		a.send(wire.Message{Kind: wire.Interested})
		a.want(wire.Unchoke)
		b.send(wire.Message{Kind: wire.Interested})
		time.Sleep(time.Second)
		a.conn.Close()
		if _, ok := b.next(wire.Unchoke, time.Second); !ok {
			t.Error("the slot of a peer that left is not given on")
		}
	})
}

func TestLimitsAreKeptInBothDirections(t *testing.T) {
	c := makeContent(t, 8*mebibyte)
	for _, tc := range []struct {
		name     string
		up, down int64
	}{{"upload", mebibyte, 0}, {"download", 0, mebibyte}} {
		t.Run(tc.name, func(t *testing.T) {
			simulate(t, func(l *lab) {
				seed, _ := l.seedNode(c, nodeOptions{Options: Options{UploadLimit: tc.up}})
				n := l.node(nodeOptions{Options: Options{DownloadLimit: tc.down}})
				tor := n.add(c, seed.addr())
				start := time.Now()
				n.open(tor, c).copyOut(0)
				// Nothing of the first second's worth is held back.
				if d := time.Since(start); d < 7*time.Second || d > 9*time.Second {
					t.Errorf("8 MiB at 1 MiB/s took %v", d)
				}
			})
		})
	}
}

func TestTheDownloadLimitIsSharedByAllPeers(t *testing.T) {
	c := makeContent(t, 4*mebibyte)
	simulate(t, func(l *lab) {
		a, b, d := l.peer(c, near, script{}), l.peer(c, near, script{}), l.peer(c, near, script{})
		n := l.node(nodeOptions{Options: Options{DownloadLimit: mebibyte}})
		tor := n.add(c, a.addr(), b.addr(), d.addr())
		start := time.Now()
		n.open(tor, c).copyOut(0)
		if took := time.Since(start); took < 3500*time.Millisecond || took > 6*time.Second {
			t.Errorf("4 MiB at 1 MiB/s took %v", took)
		}
	})
}

func TestEvictedPiecesAreTakenBackAndFetchedAgain(t *testing.T) {
	c := makeContent(t, 8*mebibyte)
	simulate(t, func(l *lab) {
		seed := l.peer(c, rated(8*mebibyte), script{})
		n := l.node(nodeOptions{memory: 2 * mebibyte})
		tor := n.add(c, seed.addr())
		// One that follows what we say we have.
		const id = 7
		p := l.leecher(c, false)
		p.ext = &wire.ExtHandshake{M: map[string]uint8{wire.ExtDontHave: id}}
		var mu sync.Mutex
		has := map[uint32]bool{}
		p.message = func(_ *fakeConn, m wire.Message) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case m.Kind == wire.Have:
				has[m.Index] = true
			case m.Kind == wire.Extended && m.Ext == id:
				piece, err := wire.ParseDontHave(m.Data)
				if err != nil || !has[piece] {
					t.Errorf("told not to have piece %d, which was never announced (%v)", piece, err)
				}
				delete(has, piece)
			}
		}
		conn := p.dial(n)
		time.Sleep(time.Second)
		r := n.open(tor, c)
		r.copyOut(0)
		r.copyOut(0)
		time.Sleep(time.Second)
		v := tor.volume.Pieces()
		mu.Lock()
		for i := range c.pieces() {
			if held := v[i/64]&(1<<(i%64)) != 0; held != has[uint32(i)] {
				t.Errorf("piece %d: held is %v, told is %v", i, held, has[uint32(i)])
			}
		}
		gone := uint32(0)
		for has[gone] {
			gone++
		}
		mu.Unlock()
		if st := tor.Stats(); st.Downloaded < 15*mebibyte || st.Held > 32 {
			t.Errorf("downloaded %d bytes in two passes, %d pieces held in 2 MiB", st.Downloaded, st.Held)
		}
		// What is gone is rejected.
		conn.send(wire.Message{Kind: wire.Interested})
		conn.want(wire.Unchoke)
		conn.send(request(int(gone), 0))
		if m := conn.want(wire.Reject); m.Index != gone {
			t.Errorf("rejected %+v, want piece %d", m, gone)
		}
	})
}
