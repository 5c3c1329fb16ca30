package swarm

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"swarmfs/metainfo"
	"swarmfs/swarm/simnet"
	"swarmfs/swarm/wire"
)

// Whoever follows the messages knows, as soon as nothing more is to be said, who is
// connected.
func TestPexMessagesAddUpToWhoIsConnected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1e9, 0)
		var n pexNews
		knows := map[netip.AddrPort]bool{}
		var last time.Time
		var connected []wire.PexPeer
		step := func() bool {
			m, ok := n.message(now, connected)
			if !ok {
				return false
			}
			if len(m.Added) > maxPex || len(m.Dropped) > maxPex || len(m.Added)+len(m.Dropped) == 0 {
				t.Fatalf("%d added and %d dropped", len(m.Added), len(m.Dropped))
			}
			if now.Sub(last) < pexEvery {
				t.Fatalf("%v after the last", now.Sub(last))
			}
			last = now
			for _, p := range m.Added {
				if knows[p.Addr] {
					t.Fatalf("%s is added twice", p.Addr)
				}
				knows[p.Addr] = true
			}
			for _, a := range m.Dropped {
				if !knows[a] {
					t.Fatalf("%s is dropped and was not there", a)
				}
				delete(knows, a)
			}
			return true
		}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			connected = connected[:0]
			for i := range 150 {
				if rapid.IntRange(0, 3).Draw(t, "there") == 0 {
					connected = append(connected, wire.PexPeer{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, 0, 0, byte(i)}), 6881)})
				}
			}
			now = now.Add(time.Duration(rapid.IntRange(1, 90).Draw(t, "s")) * time.Second)
			step()
		}
		for range 10 {
			now = now.Add(pexEvery)
			step()
		}
		if now = now.Add(pexEvery); step() {
			t.Fatal("it never ends")
		}
		for _, p := range connected {
			if !knows[p.Addr] {
				t.Fatalf("%s was not told", p.Addr)
			}
		}
		if len(knows) != len(connected) {
			t.Fatalf("knows %d, connected are %d", len(knows), len(connected))
		}
	})
}

// HP-24: a message each 10 ms for an hour.
func TestPexIsTakenInMeasure(t *testing.T) {
	var in pexIntake
	start := time.Unix(1e9, 0)
	read, taken := 0, 0
	from := netip.MustParseAddr("9.9.9.9")
	for i := range 100 * 60 * 60 {
		if !in.due(start.Add(time.Duration(i) * 10 * time.Millisecond)) {
			continue
		}
		read++
		var m wire.Pex
		for j := range 200 {
			m.Added = append(m.Added, wire.PexPeer{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{8, byte(i >> 8), byte(i), byte(j)}), 6881)})
		}
		got := len(in.take(m, from))
		if got > maxPex {
			t.Errorf("%d taken of one message", got)
		}
		taken += got
	}
	if read > 61 {
		t.Errorf("%d messages were read in an hour", read)
	}
	if taken != maxPexTaken {
		t.Errorf("%d addresses were taken, want %d", taken, maxPexTaken)
	}
}

// A message that comes a little early is no reason to lose what it says.
func TestPexMessagesOnTheMinuteAreAllRead(t *testing.T) {
	var in pexIntake
	now := time.Unix(1e9, 0)
	for i := range 100 {
		early := time.Duration(i%2) * 5 * time.Second
		if !in.due(now.Add(time.Duration(i)*time.Minute - early)) {
			t.Fatalf("message %d is not read", i)
		}
	}
}

func TestWhoMaySpeakOfWhom(t *testing.T) {
	for _, tc := range []struct {
		who, of string
		want    bool
	}{
		{"9.9.9.9", "8.8.8.8", true},
		{"9.9.9.9", "10.0.0.1", false},
		{"9.9.9.9", "192.168.1.1", false},
		{"9.9.9.9", "169.254.1.1", false},
		{"9.9.9.9", "100.64.0.1", false},
		{"9.9.9.9", "127.0.0.1", false},
		{"9.9.9.9", "::ffff:127.0.0.1", false},
		{"9.9.9.9", "0.0.0.0", false},
		{"9.9.9.9", "239.1.1.1", false},
		{"2001:db8::1", "fe80::1", false},
		{"2001:db8::1", "fd00::1", false},
		{"2001:db8::1", "::1", false},
		{"2001:db8::1", "2001:db8::2", true},
		{"10.0.0.1", "192.168.1.1", true},
		{"10.0.0.1", "8.8.8.8", true},
		{"10.0.0.1", "127.0.0.1", false},
		{"fe80::1", "fd00::1", true},
		{"127.0.0.1", "127.0.0.2", true},
		{"127.0.0.1", "10.0.0.1", true},
	} {
		if got := speaksOf(netip.MustParseAddr(tc.who), netip.MustParseAddr(tc.of)); got != tc.want {
			t.Errorf("%s of %s: got %v, want %v", tc.who, tc.of, got, tc.want)
		}
	}
}

func TestPexTakesNoServiceForAPeer(t *testing.T) {
	var in pexIntake
	var m wire.Pex
	for _, port := range []uint16{22, 25, 53, 80, 443, 1023, 1024, 6881} {
		m.Added = append(m.Added, wire.PexPeer{Addr: netip.AddrPortFrom(netip.MustParseAddr("8.8.8.8"), port)})
	}
	if got := in.take(m, netip.MustParseAddr("9.9.9.9")); len(got) != 2 || got[0].Port() != 1024 {
		t.Errorf("got %v", got)
	}
}

// private makes the same torrent private.
func private(t *testing.T, c *content) *content {
	t.Helper()
	raw := c.meta.Info.Raw
	meta, err := metainfo.Parse(fmt.Appendf(nil, "d4:info%s7:privatei1eee", raw[:len(raw)-1]))
	if err != nil {
		t.Fatal(err)
	}
	return &content{meta, c.data, c.pieceLen}
}

// A learns of C by B alone.
func TestPeersAreFoundByPeerExchange(t *testing.T) {
	public := makeContent(t, mebibyte)
	for _, tc := range []struct {
		name string
		c    *content
		off  bool
		want bool
	}{
		{name: "public", c: public, want: true},
		{name: "private", c: private(t, public)},
		{name: "switched off", c: public, off: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			simulate(t, func(l *lab) {
				c := tc.c
				a, b, far := l.node(nodeOptions{}), l.node(nodeOptions{Options: Options{NoPEX: tc.off}}), l.node(nodeOptions{})
				ct := far.add(c)
				bt := b.add(c, far.addr())
				l.eventually(5*time.Second, "b and c are connected", func() bool { return bt.Stats().Peers == 1 })
				at := a.add(c, b.addr())
				time.Sleep(15 * time.Second)
				if got := at.Stats().Peers == 2 && ct.Stats().Peers == 2; got != tc.want {
					t.Fatalf("found: got %v, want %v", got, tc.want)
				}
				if !tc.want {
					time.Sleep(10 * time.Minute)
					if at.Stats().Peers != 1 {
						t.Error("found later")
					}
					return
				}
				st, err := at.Status(l.t.Context(), true)
				if err != nil {
					t.Fatal(err)
				}
				// It may be c that has dialled: it was told of a as well.
				if s := st.Connections[1].Source; s != "pex" && s != "incoming" {
					t.Errorf("source: got %q", s)
				}
			})
		})
	}
}

// A link whose only known peer has no metadata itself.
func TestALinkIsResolvedByPeerExchange(t *testing.T) {
	c := longContent(t)
	simulate(t, func(l *lab) {
		seed, _ := l.seedNode(c, nodeOptions{})
		pointer := l.peer(c, near, script{
			has: func(int) bool { return false },
			ext: &wire.ExtHandshake{M: map[string]uint8{wire.ExtPex: 9, wire.ExtMetadata: 8}, MetadataSize: len(c.meta.Info.Raw)},
			message: func(f *fakeConn, m wire.Message) {
				if m.Kind == wire.Extended && m.Ext == wire.ExtHandshakeID {
					x := wire.Pex{Added: []wire.PexPeer{{Addr: seed.addr()}}}
					f.send(wire.Message{Kind: wire.Extended, Ext: extPex, Data: wire.AppendPex(nil, x)})
				}
			},
		})
		n := l.node(nodeOptions{})
		ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
		defer cancel()
		if _, err := n.resolve(ctx, c, pointer.addr()); err != nil {
			t.Error(err)
		}
	})
}

// HP-24: everybody's favourite victim is dialled once in ten minutes at most.
func TestPexMakesNoWeapon(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		victim := l.peer(c, near, script{raw: func(*fakePeer, net.Conn) {}})
		tell := func(f *fakeConn, m wire.Message) {
			if m.Kind != wire.Extended || m.Ext != wire.ExtHandshakeID {
				return
			}
			l.peers.Go(func() {
				for !f.isOver(10 * time.Second) {
					var x wire.Pex
					for port := range uint16(50) {
						x.Added = append(x.Added, wire.PexPeer{Addr: netip.AddrPortFrom(victim.addr().Addr(), 6881+port)})
					}
					f.send(wire.Message{Kind: wire.Extended, Ext: extPex, Data: wire.AppendPex(nil, x)})
				}
			})
		}
		var addrs []netip.AddrPort
		for range 10 {
			p := l.peer(c, near, script{has: func(int) bool { return false }, ext: &wire.ExtHandshake{M: map[string]uint8{wire.ExtPex: 9}}, message: tell})
			addrs = append(addrs, p.addr())
		}
		count := &dialCount{of: map[netip.AddrPort]int{}}
		n := l.node(nodeOptions{net: func(h *simnet.Host) Network {
			count.Network = h
			return count
		}})
		n.add(c, addrs...)
		time.Sleep(time.Hour)
		hosts, most := 0, 0
		for a, times := range count.of {
			if a.Addr() == victim.addr().Addr() {
				hosts++
				most = max(most, times)
			}
		}
		if hosts != maxOfHost || most > 7 {
			t.Errorf("%d ports of the victim were dialled, one %d times in an hour", hosts, most)
		}
	})
}

// dialCount is a network that counts who is dialled.
type dialCount struct {
	Network
	mu sync.Mutex
	of map[netip.AddrPort]int
}

func (d *dialCount) Dial(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	d.mu.Lock()
	d.of[a]++
	d.mu.Unlock()
	return d.Network.Dial(ctx, a)
}

// Both dial at the same moment: one connection stays, the same for both.
func TestDialsThatCrossLeaveOneConnection(t *testing.T) {
	c := makeContent(t, mebibyte)
	for seed := range uint64(20) {
		simulateSeed(t, seed, func(l *lab) {
			a, b := l.node(nodeOptions{}), l.node(nodeOptions{})
			at, bt := a.add(c, b.addr()), b.add(c, a.addr())
			time.Sleep(5 * time.Second)
			for range 10 {
				if x, y := at.Stats().Peers, bt.Stats().Peers; x != 1 || y != 1 {
					t.Fatalf("seed %d: %d and %d connections, want one", seed, x, y)
				}
				time.Sleep(20 * time.Second)
			}
		})
	}
}

// BEP 21: who will not download says so, and takes it back; two that have all part.
func TestUploadOnly(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		seed := l.peer(c, near, script{})
		var said []bool
		follow := func(_ *fakeConn, m wire.Message) {
			if m.Kind != wire.Extended || m.Ext != wire.ExtHandshakeID {
				return
			}
			h, err := wire.ParseExtHandshake(m.Data)
			if err != nil {
				t.Error(err)
			}
			said = append(said, h.UploadOnly)
		}
		leech := l.peer(c, near, script{has: func(int) bool { return false }, ext: &wire.ExtHandshake{}, message: follow})
		partial := l.peer(c, near, script{has: func(i int) bool { return i == 0 }, ext: &wire.ExtHandshake{UploadOnly: true}})
		tor := n.add(c, seed.addr(), leech.addr(), partial.addr())
		l.eventually(time.Second, "all are connected", func() bool { return tor.Stats().Peers == 3 })
		n.open(tor, c).copyOut(0)
		l.eventually(7*time.Second, "those who want nothing are left", func() bool { return tor.Stats().Peers == 1 })
		time.Sleep(time.Minute)
		if got := seed.conns.Load() + partial.conns.Load(); got != 2 {
			t.Errorf("they were dialled %d times, want once each", got)
		}
		tor.tell(evicted{3}) // as far as the loop knows
		l.eventually(time.Minute, "they are of use again", func() bool { return tor.Stats().Peers == 3 })
		time.Sleep(10 * time.Second)
		if len(said) < 3 || said[0] || !said[1] || said[2] {
			t.Errorf("said upload only: %v, want not, so, and not again", said)
		}
	})
}

func TestWhoHasConnectedToUsIsNotDialled(t *testing.T) {
	c := newCandidates(10)
	c.meet(epoch, addr(1))
	c.add(epoch, []netip.AddrPort{addr(1)}, fromPEX)
	if a, ok := c.pick(epoch.Add(time.Hour), true); ok {
		t.Errorf("%v is dialled while it is connected", a)
	}
	c.part(epoch.Add(time.Hour), addr(1))
	if a, _ := c.pick(epoch.Add(2*time.Hour), false); a != addr(1) {
		t.Errorf("picked %v when it has left, want it", a)
	}
}

// BEP 40, and only among equals.
func TestAmongEqualsThePriorityDecides(t *testing.T) {
	self := netip.MustParseAddrPort("123.213.32.10:6881")
	rapid.Check(t, func(t *rapid.T) {
		c := newCandidates(100)
		early := rapid.Bool().Draw(t, "early")
		if early {
			c.locate(self)
		}
		n := rapid.IntRange(1, 30).Draw(t, "n")
		for i := range n {
			c.add(epoch, []netip.AddrPort{addr(i * 7919)}, rapid.SampledFrom([]source{fromTracker, fromDHT}).Draw(t, "source"))
		}
		c.locate(self)
		var last *candidate
		for range n {
			a, ok := c.pick(epoch, false)
			if !ok {
				t.Fatal("none is left")
			}
			k := c.known[a]
			if last != nil && (k.source < last.source || k.source == last.source && peerPriority(self, a) > peerPriority(self, last.addr)) {
				t.Fatalf("%v comes after %v", a, last.addr)
			}
			last = k
		}
	})
}

func TestHearsayLeavesRoomForBetterSources(t *testing.T) {
	c := newCandidates(10)
	for i := range 2 * maxCandidates {
		c.add(epoch, []netip.AddrPort{addr(i)}, fromPEX)
	}
	if len(c.list) != maxHearsay {
		t.Errorf("%d addresses of hearsay, want %d", len(c.list), maxHearsay)
	}
	c.add(epoch, []netip.AddrPort{addr(0)}, fromTracker) // now it is better known
	c.add(epoch, []netip.AddrPort{addr(maxCandidates), addr(maxCandidates + 1)}, fromPEX)
	if len(c.list) != maxHearsay+1 {
		t.Errorf("%d addresses, want room for one more of hearsay", len(c.list))
	}
}
