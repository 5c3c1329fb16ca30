package swarm

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/simnet"
	"swarmfs/swarm/wire"
)

// badPeers are behaviours that must not hurt a download which an honest peer
// can serve. The honest one gives 1 MiB/s.
var badPeers = []struct {
	name   string
	link   simnet.Link
	script func() script
	banned bool
	stall  time.Duration // of any one read of 128 KiB, at most
	total  time.Duration // of 3 MiB, at most
}{
	{
		name: "says nothing after the handshake", stall: time.Second, total: 4 * time.Second,
		script: func() script { return script{hello: func(*fakeConn) {}} },
	},
	{
		name: "has all and never unchokes", stall: time.Second, total: 4 * time.Second,
		script: func() script { return script{hello: (*fakeConn).tellPieces} },
	},
	{
		name: "ignores every request", stall: 9 * time.Second, total: 12 * time.Second,
		script: func() script { return script{request: func(*fakeConn, wire.Message) {}} },
	},
	{
		name: "rejects every request", stall: 2 * time.Second, total: 6 * time.Second,
		script: func() script {
			return script{request: func(c *fakeConn, m wire.Message) { m.Kind = wire.Reject; c.send(m) }}
		},
	},
	{
		name: "chokes shortly after each unchoke", stall: 3 * time.Second, total: 6 * time.Second,
		script: func() script { return script{hello: flap} },
	},
	{
		name: "chokes shortly after each unchoke, plain", stall: 3 * time.Second, total: 6 * time.Second,
		script: func() script { return script{hello: flap, plain: true} },
	},
	{
		name: "sends only wrong blocks", banned: true, stall: 3 * time.Second, total: 6 * time.Second,
		script: func() script { return script{request: (*fakeConn).serveWrong} },
	},
	{
		name: "sends some wrong blocks", banned: true, stall: 3 * time.Second, total: 6 * time.Second,
		script: func() script {
			var n atomic.Int64
			return script{request: func(c *fakeConn, m wire.Message) {
				if n.Add(1)%10 == 7 {
					c.serveWrong(m)
				} else {
					c.serveBlock(m)
				}
			}}
		},
	},
	{
		name: "trickles", link: rated(1 << 10), stall: 9 * time.Second, total: 12 * time.Second,
		script: func() script { return script{} },
	},
	{
		name: "falls off a cliff", link: rated(4 << 20), stall: 5 * time.Second, total: 10 * time.Second,
		script: func() script {
			var n atomic.Int64
			return script{request: func(c *fakeConn, m wire.Message) {
				if n.Add(1) == 40 {
					c.host.SetLink(rated(1 << 10))
				}
				c.serveBlock(m)
			}}
		},
	},
	{
		name: "vanishes without a word", stall: 5 * time.Second, total: 10 * time.Second,
		script: func() script {
			var n atomic.Int64
			return script{request: func(c *fakeConn, m wire.Message) {
				if n.Add(1) == 20 {
					c.host.Isolate()
				}
				c.serveBlock(m)
			}}
		},
	},
	{
		name: "resets after every few blocks", link: simnet.Link{Latency: 5 * time.Millisecond, ResetEvery: 100_000},
		stall: 2 * time.Second, total: 6 * time.Second,
		script: func() script { return script{} },
	},
	{
		name: "floods with blocks nobody asked for", stall: 2 * time.Second, total: 6 * time.Second,
		script: func() script {
			return script{request: func(c *fakeConn, m wire.Message) {
				for i := range 100 {
					other := m
					other.Index = uint32((int(m.Index) + 1 + i) % c.c.pieces())
					c.serveBlock(other)
				}
				c.serveBlock(m)
			}}
		},
	},
	{
		name: "answers with another length", stall: 2 * time.Second, total: 6 * time.Second,
		script: func() script {
			return script{request: func(c *fakeConn, m wire.Message) { c.queueBlock(m, make([]byte, m.Length/2)) }}
		},
	},
	{
		name: "answers with nothing", stall: 2 * time.Second, total: 6 * time.Second,
		script: func() script {
			return script{request: func(c *fakeConn, m wire.Message) { c.queueBlock(m, nil) }}
		},
	},
	{
		name: "sends each block many times", stall: 2 * time.Second, total: 6 * time.Second,
		script: func() script {
			return script{request: func(c *fakeConn, m wire.Message) {
				for range 50 {
					c.serveBlock(m)
				}
			}}
		},
	},
	{
		name: "says which pieces it has, and has none", stall: 9 * time.Second, total: 12 * time.Second,
		script: func() script {
			return script{plain: true, request: func(*fakeConn, wire.Message) {}}
		},
	},
	{
		name: "never reads", stall: 9 * time.Second, total: 12 * time.Second,
		script: func() script {
			return script{raw: func(p *fakePeer, conn net.Conn) {
				c := p.newConn(conn)
				if c.shake(false) != nil {
					return
				}
				b := wire.Append(nil, wire.Message{Kind: wire.HaveAll})
				conn.Write(wire.Append(b, wire.Message{Kind: wire.Unchoke}))
				time.Sleep(10 * time.Minute)
			}}
		},
	},
}

// flap unchokes for 10 ms at a time.
func flap(c *fakeConn) {
	c.tellPieces()
	c.lab.peers.Go(func() {
		for !c.isOver(40 * time.Millisecond) {
			c.send(wire.Message{Kind: wire.Unchoke})
			c.isOver(10 * time.Millisecond)
			c.send(wire.Message{Kind: wire.Choke})
			c.dropBlocks()
		}
	})
}

func TestBadPeersDoNotHoldAnHonestOneBack(t *testing.T) {
	c := makeContent(t, 3*mebibyte)
	for _, tc := range badPeers {
		t.Run(tc.name, func(t *testing.T) {
			simulate(t, func(l *lab) {
				honest := l.peer(c, rated(mebibyte), script{})
				if tc.link == (simnet.Link{}) {
					tc.link = near
				}
				var bad []*fakePeer
				addrs := []netip.AddrPort{honest.addr()}
				for range 2 {
					p := l.peer(c, tc.link, tc.script())
					bad = append(bad, p)
					addrs = append(addrs, p.addr())
				}
				n := l.node(nodeOptions{})
				tor := n.add(c, addrs...)
				// All are there before the reader comes: the bad ones get their chance.
				time.Sleep(time.Second)
				start := time.Now()
				r := n.open(tor, c)
				r.copyOut(0)
				if d := time.Since(start); d > tc.total {
					t.Errorf("3 MiB took %v, want at most %v", d, tc.total)
				}
				if r.stall > tc.stall {
					t.Errorf("a read took %v, want at most %v", r.stall, tc.stall)
				}
				if n.isBanned(honest.addr()) {
					t.Error("the honest peer is banned")
				}
				for _, p := range bad {
					if got := n.isBanned(p.addr()); got != tc.banned && p.served.Load() > 0 {
						t.Errorf("a bad peer that served %d blocks: banned is %v, want %v", p.served.Load(), got, tc.banned)
					}
				}
				synctest.Wait() // the loop hears of the last piece after its readers
				if st := tor.Stats(); st.Held != c.pieces() {
					t.Errorf("%d of %d pieces are held", st.Held, c.pieces())
				}
				t.Logf("took %v, longest read %v, %+v", time.Since(start), r.stall, tor.Stats().Stats)
			})
		})
	}
}

func TestOnePoisonerAmongHonestPeersIsFound(t *testing.T) {
	c := makeContent(t, 8*mebibyte)
	simulate(t, func(l *lab) {
		var addrs []netip.AddrPort
		for range 4 {
			addrs = append(addrs, l.peer(c, rated(mebibyte), script{}).addr())
		}
		var k atomic.Int64
		poisoner := l.peer(c, rated(mebibyte), script{request: func(c *fakeConn, m wire.Message) {
			if k.Add(1)%40 == 11 {
				c.serveWrong(m)
			} else {
				c.serveBlock(m)
			}
		}})
		n := l.node(nodeOptions{})
		tor := n.add(c, append(addrs, poisoner.addr())...)
		n.open(tor, c).copyOut(0)
		for _, a := range addrs {
			if n.isBanned(a) {
				t.Errorf("honest peer %s is banned", a)
			}
		}
		if !n.isBanned(poisoner.addr()) {
			t.Errorf("the poisoner is not banned; it served %d blocks", poisoner.served.Load())
		}
		if failed := tor.Stats().Failed; failed > 3*pieceLen {
			t.Errorf("%d bytes were in failed pieces, want at most 3 pieces", failed)
		}
		conns := poisoner.conns.Load()
		time.Sleep(time.Hour)
		if again := poisoner.conns.Load() - conns; again != 0 {
			t.Errorf("the banned peer was dialled %d times", again)
		}
	})
}

func TestAPoisonerThatLeavesBeforeItIsFoundIsBanned(t *testing.T) {
	c := makeContent(t, 2*mebibyte)
	simulate(t, func(l *lab) {
		honest := l.peer(c, rated(256<<10), script{})
		poisoner := l.peer(c, near, script{request: func(c *fakeConn, m wire.Message) {
			if m.Begin == 0 {
				c.serveWrong(m) // the others of the piece are right, or left to others
				l.peers.Go(func() {
					time.Sleep(20 * time.Millisecond)
					c.conn.(*simnet.Conn).CloseWrite()
				})
			} else {
				c.send(wire.Message{Kind: wire.Reject, Index: m.Index, Begin: m.Begin, Length: m.Length})
			}
		}})
		n := l.node(nodeOptions{})
		tor := n.add(c, honest.addr(), poisoner.addr())
		n.open(tor, c).copyOut(0)
		time.Sleep(time.Minute)
		if n.isBanned(honest.addr()) {
			t.Error("the honest peer is banned")
		}
		if !n.isBanned(poisoner.addr()) {
			t.Errorf("the poisoner is not banned; it came %d times and sent %d blocks; %+v",
				poisoner.conns.Load(), poisoner.served.Load(), tor.Stats().Stats)
		}
	})
}

func TestWrongHandshakesAreCutAndNotRetriedInALoop(t *testing.T) {
	c := makeContent(t, mebibyte)
	other := makeContent(t, 2*mebibyte)
	answer := func(change func(hs []byte) []byte) func(*fakePeer, net.Conn) {
		return func(p *fakePeer, conn net.Conn) {
			theirs := make([]byte, wire.HandshakeLen)
			if _, err := io.ReadFull(conn, theirs); err != nil {
				return
			}
			h := wire.Handshake{InfoHash: p.c.meta.Info.Hash, PeerID: p.id}
			conn.Write(change(wire.AppendHandshake(nil, h)))
			io.Copy(io.Discard, conn)
		}
	}
	for _, tc := range []struct {
		name string
		raw  func(*fakePeer, net.Conn)
	}{
		{"another protocol", answer(func(hs []byte) []byte { copy(hs[1:], "HTTP/1.1 400"); return hs })},
		{"another torrent", answer(func(hs []byte) []byte { copy(hs[28:], other.meta.Info.Hash[:]); return hs })},
		{"half a handshake", answer(func(hs []byte) []byte { return hs[:40] })},
		{"nothing", func(_ *fakePeer, conn net.Conn) { io.Copy(io.Discard, conn) }},
		{"our own peer id", func(_ *fakePeer, conn net.Conn) {
			buf := make([]byte, wire.HandshakeLen)
			io.ReadFull(conn, buf)
			conn.Write(buf)
			io.Copy(io.Discard, conn)
		}},
		{"closes at once", func(*fakePeer, net.Conn) {}},
		{"a byte each 9 s", func(p *fakePeer, conn net.Conn) {
			hs := wire.AppendHandshake(nil, wire.Handshake{InfoHash: p.c.meta.Info.Hash, PeerID: p.id})
			theirs := make([]byte, wire.HandshakeLen)
			if _, err := io.ReadFull(conn, theirs); err != nil {
				return
			}
			for i := range hs {
				if _, err := conn.Write(hs[i : i+1]); err != nil {
					return
				}
				conn.SetReadDeadline(time.Now().Add(9 * time.Second))
				if _, err := conn.Read(theirs); !errors.Is(err, os.ErrDeadlineExceeded) {
					return
				}
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			simulate(t, func(l *lab) {
				bad := l.peer(c, near, script{raw: func(p *fakePeer, conn net.Conn) {
					start := time.Now()
					tc.raw(p, conn)
					if d := time.Since(start); d > 11*time.Second {
						t.Errorf("was kept for %v", d)
					}
				}})
				honest := l.peer(c, near, script{})
				n := l.node(nodeOptions{})
				tor := n.add(c, bad.addr(), honest.addr())
				n.open(tor, c).copyOut(0)
				time.Sleep(time.Hour)
				// 2 s doubled up to 10 min.
				if got := bad.conns.Load(); got > 16 {
					t.Errorf("dialled %d times in an hour", got)
				}
				// It is left when all is there, as both are seeds then.
				if got := honest.conns.Load(); got != 1 {
					t.Errorf("the honest peer was connected %d times, want once", got)
				}
			})
		})
	}
}

func TestWeDoNotKeepAConnectionWithOurselves(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		tor := n.add(c, n.addr())
		time.Sleep(24 * time.Hour)
		if got := tor.Stats().Peers; got != 0 {
			t.Errorf("%d peers, want none", got)
		}
		if got := n.log.count("dial"); got != 1 {
			t.Errorf("dialled ourselves %d times, want once", got)
		}
	})
}

// Breaches of the protocol after the handshake: each ends the connection.
func TestBreachesEndTheConnection(t *testing.T) {
	c := makeContent(t, mebibyte) // 16 pieces: 2 bytes of bitfield
	msg := func(list ...wire.Message) []byte {
		var b []byte
		for _, m := range list {
			b = wire.Append(b, m)
		}
		return b
	}
	full := []byte{0xff, 0xff}
	for _, tc := range []struct {
		name  string
		bytes []byte
	}{
		{"a message of 4 GiB", []byte{0xff, 0xff, 0xff, 0xff, 7}},
		{"a message of 1 MiB", []byte{0, 0x10, 0, 1, 20, 0}},
		{"a short have", []byte{0, 0, 0, 4, 4, 0, 0, 0}},
		{"a long choke", []byte{0, 0, 0, 2, 0, 0}},
		{"a have beyond the end", msg(wire.Message{Kind: wire.Have, Index: 16})},
		{"a have of 2^32-1", msg(wire.Message{Kind: wire.Have, Index: 1<<32 - 1})},
		{"a short bitfield", msg(wire.Message{Kind: wire.Bitfield, Data: full[:1]})},
		{"a long bitfield", msg(wire.Message{Kind: wire.Bitfield, Data: []byte{0xff, 0xff, 0}})},
		{"two bitfields", msg(wire.Message{Kind: wire.Bitfield, Data: full}, wire.Message{Kind: wire.Bitfield, Data: full})},
		{"have all after a bitfield", msg(wire.Message{Kind: wire.Bitfield, Data: full}, wire.Message{Kind: wire.HaveAll})},
		{"have all after have none", msg(wire.Message{Kind: wire.HaveNone}, wire.Message{Kind: wire.HaveAll})},
		{"a request beyond the piece", msg(wire.Message{Kind: wire.Request, Index: 0, Begin: pieceLen - 16, Length: 32})},
		{"a request beyond the end", msg(wire.Message{Kind: wire.Request, Index: 16, Begin: 0, Length: 16})},
		{"a request whose sum wraps", msg(wire.Message{Kind: wire.Request, Index: 0, Begin: 1<<32 - 16, Length: 32})},
		{"a request of 2 GiB", msg(wire.Message{Kind: wire.Request, Index: 0, Begin: 0, Length: 1 << 31})},
		{"a request for nothing", msg(wire.Message{Kind: wire.Request, Index: 0, Begin: 0, Length: 0})},
		{"a reject of no block", msg(wire.Message{Kind: wire.Reject, Index: 99, Begin: 1, Length: 1})},
		{"an extended handshake that is no dictionary", msg(wire.Message{Kind: wire.Extended, Ext: 0, Data: []byte("i1e")})},
		{"a nested extended handshake", msg(wire.Message{Kind: wire.Extended, Ext: 0, Data: []byte("d1:m" + fmt.Sprintf("%0100000d", 0) + "e")})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			simulate(t, func(l *lab) {
				honest := l.peer(c, near, script{})
				n := l.node(nodeOptions{})
				tor := n.add(c, honest.addr())
				p := l.silentPeer(c, near, script{hello: func(*fakeConn) {}})
				conn := p.dial(n)
				conn.conn.Write(tc.bytes)
				if !conn.isOver(10 * time.Second) {
					t.Error("the connection goes on")
				}
				n.open(tor, c).copyOut(0)
				if n.log.count("ERROR") != 0 {
					t.Errorf("errors were logged: %q", n.log.entries)
				}
			})
		})
	}
}

// Odd but harmless messages: the connection goes on.
func TestOddMessagesAreIgnored(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		tor := n.add(c)
		p := l.silentPeer(c, near, script{})
		conn := p.dial(n)
		for _, m := range []wire.Message{
			{Kind: wire.KeepAlive},
			{Kind: wire.Unknown, Ext: 77, Data: []byte("hello")},
			{Kind: wire.Port, Index: 6881},
			{Kind: wire.Suggest, Index: 1 << 31},
			{Kind: wire.AllowedFast, Index: 1 << 31},
			{Kind: wire.Cancel, Index: 1 << 31, Begin: 5, Length: 7},
			{Kind: wire.Reject, Index: 0, Begin: 0, Length: metainfo.BlockSize}, // never asked for
			{Kind: wire.Extended, Ext: 99, Data: []byte{1, 2, 3}},
			{Kind: wire.Extended, Ext: extDontHave, Data: wire.AppendDontHave(nil, 1<<31)},
			{Kind: wire.Extended, Ext: wire.ExtHandshakeID, Data: []byte("d1:md11:lt_donthavei-1e6:ut_pexi300ee4:reqqi-5e1:v3:\x00\x01\x02e")},
			{Kind: wire.Have, Index: 3},
			{Kind: wire.Choke},
			{Kind: wire.Choke},
			{Kind: wire.NotInterested},
			{Kind: wire.Unchoke},
		} {
			conn.send(m)
		}
		n.open(tor, c).copyOut(0)
		if conn.isOver(time.Second) {
			t.Error("the connection was cut")
		}
	})
}

func TestSilentConnectionsDoNotKeepAnHonestOneOut(t *testing.T) {
	c := makeContent(t, mebibyte)
	for _, tc := range []struct {
		name  string
		hosts int
	}{{"from one address", 1}, {"from many addresses", 100}} {
		t.Run(tc.name, func(t *testing.T) {
			simulate(t, func(l *lab) {
				n := l.node(nodeOptions{})
				n.fill(c)
				n.add(c)
				// A thousand connections, each made anew when it is cut.
				done := make(chan struct{})
				l.atEnd(func() { close(done) })
				for i := range tc.hosts {
					h := l.host(near)
					l.atEnd(h.ResetAll)
					for range 1000 / tc.hosts {
						l.peers.Go(func() { holdSilently(l, h, n, i, done) })
					}
				}
				time.Sleep(5 * time.Second)

				honest := l.silentPeer(c, near, script{plain: true, hello: func(*fakeConn) {}})
				start := time.Now()
				for {
					conn := honest.dial(n)
					if _, ok := conn.next(wire.Bitfield, time.Second); ok {
						break
					}
					conn.conn.Close()
				}
				if d := time.Since(start); d > 5*time.Second {
					t.Errorf("an honest peer could connect only after %v", d)
				}
			})
		})
	}
}

// holdSilently connects again and again and never says a word.
func holdSilently(l *lab, h *simnet.Host, n *node, i int, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Second + time.Duration(i)*time.Millisecond):
		}
		conn, err := h.Dial(l.t.Context(), n.addr())
		if err != nil {
			continue
		}
		start := time.Now()
		_, err = conn.Read(make([]byte, 1))
		if d := time.Since(start); err != nil && d > handshakeTimeout+5*time.Second {
			l.t.Errorf("a silent connection was kept for %v", d)
		}
		conn.Close()
	}
}

func TestChurnDoesNotStarveAReader(t *testing.T) {
	c := makeContent(t, 8*mebibyte)
	copyTime := func(perSec int) (took time.Duration) {
		simulate(t, func(l *lab) {
			stable := l.peer(c, rated(256<<10), script{})
			n := l.node(nodeOptions{})
			tor := n.add(c, stable.addr())
			done := make(chan struct{})
			l.atEnd(func() { close(done) })
			l.peers.Go(func() {
				h := l.host(near)
				for i := 0; ; i++ {
					select {
					case <-done:
						return
					case <-time.After(time.Second / time.Duration(max(1, perSec))):
					}
					if perSec > 0 {
						l.peers.Go(func() { visit(l, h, n, c, i) })
					}
				}
			})
			start := time.Now()
			n.open(tor, c).copyOut(0)
			took = time.Since(start)
		})
		return took
	}
	calm := copyTime(0)
	busy := copyTime(50)
	if busy > calm*125/100 {
		t.Errorf("8 MiB took %v among peers that come and go, %v without", busy, calm)
	}
}

// visit is a peer that joins with all pieces, and leaves half a second later
// without having sent one.
func visit(l *lab, h *simnet.Host, n *node, c *content, i int) {
	conn, err := h.Dial(l.t.Context(), n.addr())
	if err != nil {
		return
	}
	defer conn.(*simnet.Conn).Reset()
	hs := wire.Handshake{InfoHash: c.meta.Info.Hash}
	copy(hs.PeerID[:], fmt.Sprintf("-FK0002-%012d", i))
	hs.Set(wire.FeatureFast)
	b := wire.AppendHandshake(nil, hs)
	b = wire.Append(b, wire.Message{Kind: wire.HaveAll})
	if i%2 == 0 {
		b = wire.Append(b, wire.Message{Kind: wire.Unchoke})
	}
	b = wire.Append(b, wire.Message{Kind: wire.Interested})
	conn.Write(b)
	time.Sleep(500 * time.Millisecond)
}
