package swarm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/thejerf/suture/v4"
	"pgregory.net/rapid"

	"swarmfs/cache"
	"swarmfs/swarm/wire"
)

func addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 2, byte(i >> 8), byte(i)}), 6881)
}

func newCandidates(limit int) *candidates {
	c := &candidates{}
	c.init(limit)
	return c
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestFailedAddressesAreDialledEverLessOften(t *testing.T) {
	for _, tc := range []struct {
		src   source
		waits []time.Duration
	}{
		{fromUser, []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600, 600, 600, 600, 600}},
		{fromTracker, []time.Duration{30, 30, 30, 30, 32, 64, 128, 256, 512, 600, 600}},
	} {
		c := newCandidates(10)
		now := epoch
		c.add(now, []netip.AddrPort{addr(1)}, tc.src)
		for i, w := range tc.waits {
			a, ok := c.pick(now, false)
			if !ok || a != addr(1) {
				t.Fatalf("source %d, try %d: got %v, %v", tc.src, i, a, ok)
			}
			if _, ok := c.pick(now, false); ok {
				t.Fatal("an address is dialled twice at a time")
			}
			c.failed(now, a, false)
			w *= time.Second
			if _, ok := c.pick(now.Add(w-1), false); ok {
				t.Fatalf("source %d, try %d: dialled before %v have passed", tc.src, i, w)
			}
			now = now.Add(w)
		}
	}
}

// While a read waits and nobody is connected, a peer is tried again soon.
func TestAWaitingReadCutsTheRestOfAnAddressShort(t *testing.T) {
	c := newCandidates(10)
	c.add(epoch, []netip.AddrPort{addr(1)}, fromUser)
	now := epoch
	for range 12 {
		a, ok := c.pick(now, true)
		if !ok {
			t.Fatalf("not dialled after %v", now.Sub(epoch))
		}
		c.failed(now, a, false)
		if _, ok := c.pick(now.Add(firstRetry-1), true); ok {
			t.Fatal("dialled again at once")
		}
		now = now.Add(eagerRetry)
	}
}

func TestWhoAreWeIsNotDialledAgain(t *testing.T) {
	c := newCandidates(10)
	c.add(epoch, []netip.AddrPort{addr(1)}, fromUser)
	a, _ := c.pick(epoch, false)
	c.failed(epoch, a, true)
	c.add(epoch, []netip.AddrPort{addr(1)}, fromTracker)
	if _, ok := c.pick(epoch.Add(1000*time.Hour), false); ok {
		t.Error("we dial ourselves again")
	}
}

func TestThePeersOfTheUserComeFirstAndFailedOnesLast(t *testing.T) {
	c := newCandidates(10)
	c.add(epoch, []netip.AddrPort{addr(1), addr(2)}, fromTracker)
	c.add(epoch, []netip.AddrPort{addr(3), addr(4)}, fromUser)
	c.failed(epoch, addr(3), false)
	now := epoch.Add(time.Minute)
	for _, want := range []int{4, 3, 1, 2} {
		if a, _ := c.pick(now, false); a != addr(want) {
			t.Fatalf("picked %v, want %v", a, addr(want))
		}
	}
}

func TestUselessAddressesAreNotTaken(t *testing.T) {
	c := newCandidates(10)
	c.ban(addr(5))
	c.add(epoch, []netip.AddrPort{
		{},
		netip.AddrPortFrom(addr(1).Addr(), 0), addr(5),
		addr(2), addr(2), netip.MustParseAddrPort("[::ffff:1.2.0.2]:6881"),
	}, fromTracker)
	if len(c.list) != 1 || c.list[0].addr != addr(2) {
		t.Errorf("took %d addresses, want one", len(c.list))
	}
	var many []netip.AddrPort
	for i := range 3 * maxCandidates {
		many = append(many, addr(i+10))
	}
	c.add(epoch, many, fromTracker)
	if len(c.list) != maxCandidates {
		t.Errorf("keeps %d addresses, want %d", len(c.list), maxCandidates)
	}
}

func TestABanCountsForTheWholeAddressButOnLoopbackForThePort(t *testing.T) {
	b := banList{}
	for _, tc := range []struct {
		ban, ask string
		want     bool
	}{
		{"1.2.3.4:5", "1.2.3.4:6", true},
		{"1.2.3.5:5", "[::ffff:1.2.3.5]:6", true},
		{"127.0.0.1:5", "127.0.0.1:5", true},
		{"127.0.0.1:5", "127.0.0.1:6", false},
		{"[2001:db8::1]:5", "[2001:db8::1]:6", true},
		{"[2001:db8::1]:5", "[2001:db8::2]:5", false},
	} {
		b.add(netip.MustParseAddrPort(tc.ban))
		if got := b.has(netip.MustParseAddrPort(tc.ask)); got != tc.want {
			t.Errorf("%s banned, %s: %v, want %v", tc.ban, tc.ask, got, tc.want)
		}
	}
	for i := range maxBans + 10 {
		b.add(addr(i))
	}
	if len(b) > maxBans {
		t.Errorf("%d bans are kept", len(b))
	}
}

// Whatever happens, the number of places taken is that of the addresses in use,
// and no address is dialled again before its time.
func TestCandidatesKeepTheirBooks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		c := newCandidates(limit)
		now := epoch
		busy := map[netip.AddrPort]bool{}
		last := map[netip.AddrPort]time.Time{}
		any := func() netip.AddrPort { return addr(rapid.IntRange(1, 8).Draw(t, "addr")) }
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				c.add(now, []netip.AddrPort{any()}, source(rapid.IntRange(0, 1).Draw(t, "source")))
			},
			"pick": func(t *rapid.T) {
				a, ok := c.pick(now, false)
				if !ok {
					return
				}
				if busy[a] {
					t.Fatalf("%v is dialled while it is in use", a)
				}
				if at, ok := last[a]; ok && now.Sub(at) < firstRetry {
					t.Fatalf("%v is dialled %v after it ended", a, now.Sub(at))
				}
				busy[a] = true
			},
			"failed": func(t *rapid.T) {
				if a := any(); busy[a] {
					c.failed(now, a, false)
					delete(busy, a)
					last[a] = now
				}
			},
			"closed": func(t *rapid.T) {
				a := any()
				dialled := rapid.Bool().Draw(t, "dialled")
				if dialled && !busy[a] {
					return
				}
				c.closed(now, a, dialled)
				if dialled {
					delete(busy, a)
					last[a] = now
				}
			},
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 40_000).Draw(t, "ms")) * time.Millisecond)
			},
			"": func(t *rapid.T) {
				if c.busy != len(busy) || c.busy > limit {
					t.Fatalf("%d places are taken of %d, %d addresses are in use", c.busy, limit, len(busy))
				}
			},
		})
	})
}

// asked is compared with a list of what it stands for.
func TestAskedIsAListOfBlocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a asked
		var model [][2]uint32
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				k := [2]uint32{rapid.Uint32Range(0, 5).Draw(t, "piece"), rapid.Uint32Range(0, 3).Draw(t, "begin")}
				a.add(k[0], k[1])
				model = append(model, k)
			},
			"remove": func(t *rapid.T) {
				k := [2]uint32{rapid.Uint32Range(0, 5).Draw(t, "piece"), rapid.Uint32Range(0, 3).Draw(t, "begin")}
				want := false
				for i, m := range model {
					if m == k {
						model = append(model[:i], model[i+1:]...)
						want = true
						break
					}
				}
				if got := a.remove(k[0], k[1]); got != want {
					t.Fatalf("removing %v: %v, want %v", k, got, want)
				}
			},
			"": func(t *rapid.T) {
				if got := len(a.keys) - a.head; got != len(model) {
					t.Fatalf("%d are listed, want %d", got, len(model))
				}
			},
		})
	})
}

func TestAskedForgetsTheOldestBeyondItsBound(t *testing.T) {
	var a asked
	for i := range uint32(3 * maxAsked) {
		a.add(i, 0)
	}
	if got := len(a.keys) - a.head; got != maxAsked {
		t.Errorf("%d are listed, want %d", got, maxAsked)
	}
	if a.remove(0, 0) || a.remove(2*maxAsked-1, 0) {
		t.Error("an old one is listed still")
	}
	if !a.remove(2*maxAsked, 0) || !a.remove(3*maxAsked-1, 0) {
		t.Error("a newer one is not listed")
	}
	if cap(a.keys) > 4*maxAsked {
		t.Errorf("takes room for %d", cap(a.keys))
	}
}

func TestOutboxKeepsTheOrderAndWakesOnce(t *testing.T) {
	o := newOutbox()
	var want []byte
	for i := range uint32(100) {
		m := wire.Message{Kind: wire.Have, Index: i}
		want = wire.Append(want, m)
		if !o.append(m) {
			t.Fatal("full after so little")
		}
		o.upload(wire.Message{Index: i})
		o.signal()
	}
	if len(o.wake) != 1 {
		t.Errorf("%d wake-ups are pending, want 1", len(o.wake))
	}
	control, list := o.take(nil, nil, 30)
	if !bytes.Equal(control, want) {
		t.Error("control messages are not those that were sent, in their order")
	}
	control, more := o.take(control, nil, 1000)
	if len(control) != 0 {
		t.Error("control messages are given twice")
	}
	for i, m := range append(list, more...) {
		if m.Index != uint32(i) {
			t.Fatalf("upload %d is %d", i, m.Index)
		}
	}
	if len(list) != 30 || len(more) != 70 {
		t.Errorf("took %d and %d uploads, want 30 and 70", len(list), len(more))
	}
}

func TestOutboxSaysWhenAPeerDoesNotRead(t *testing.T) {
	o := newOutbox()
	n := 0
	for o.append(wire.Message{Kind: wire.Have}) {
		n++
	}
	if got := n * 9; got > maxControl || got < maxControl-9 {
		t.Errorf("full after %d bytes, want %d", got, maxControl)
	}
}

// openVolume is a volume in RAM of 16 pieces of 64 KiB.
func openVolume(t *testing.T, memory int64) *cache.Volume {
	t.Helper()
	store, err := cache.Open(cache.Options{Memory: memory})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close(t.Context()) })
	info := makeContent(t, mebibyte).meta.Info
	v, err := store.Volume(info.Hash, cache.Geometry{PieceLength: info.PieceLength, Length: info.Length, Sums: info.PieceSums()})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDraftsTellOneGenerationFromTheNext(t *testing.T) {
	d := drafts{volume: openVolume(t, mebibyte), open: map[int]draft{}}
	defer d.discardAll()
	if _, ok := d.get(3); ok {
		t.Error("a draft is there that nobody opened")
	}
	first, ok := d.Open(3, false)
	if !ok {
		t.Fatal("no room for the first draft")
	}
	old, _ := d.get(3)
	if old.gen != first {
		t.Errorf("generation %d, want %d", old.gen, first)
	}
	if _, ok := d.Open(3, false); ok {
		t.Error("opened twice")
	}
	d.Discard(3)
	d.Discard(3)
	second, ok := d.Open(3, false)
	if !ok || second == first {
		t.Errorf("the second draft: %v, generation %d like the first", ok, second)
	}
	// Who still holds the old one writes into nothing.
	if kept, err := old.WriteBlock(0, make([]byte, 16<<10)); kept || err == nil {
		t.Errorf("a discarded draft takes a block: %v, %v", kept, err)
	}
	got, _ := d.take(3)
	if got.gen != second {
		t.Errorf("took generation %d, want %d", got.gen, second)
	}
	got.Discard()
	if _, ok := d.take(3); ok {
		t.Error("taken twice")
	}
}

func TestDraftsAreRefusedWhenMemoryIsTaken(t *testing.T) {
	d := drafts{volume: openVolume(t, 4*pieceLen), open: map[int]draft{}}
	n := 0
	for i := range 16 {
		if _, ok := d.Open(i, false); ok {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d drafts nobody waits for, want half of 4: what is read has no other place", n)
	}
	if _, ok := d.Open(15, true); !ok {
		t.Error("no room for one that a reader waits for")
	}
	d.discardAll()
	if len(d.open) != 0 {
		t.Errorf("%d drafts are left", len(d.open))
	}
	if _, ok := d.Open(0, false); !ok {
		t.Error("no room after all were discarded")
	}
	d.discardAll()
}

func TestBackgroundModesHaveNames(t *testing.T) {
	for _, b := range []Background{BackgroundOff, BackgroundOpened, BackgroundAll} {
		got, err := ParseBackground(b.String())
		if err != nil || got != b {
			t.Errorf("%s reads as %v, %v", b, got, err)
		}
	}
	if _, err := ParseBackground("some"); err == nil {
		t.Error("reads a mode that is none")
	}
}

func TestGuardTurnsAPanicIntoAnError(t *testing.T) {
	var g group
	var got error
	g.Go(func() error { panic(fmt.Sprint("a", 1)) }, func(err error) { got = err })
	g.Wait()
	pe, ok := got.(*PanicError)
	if !ok || pe.Value != "a1" || !bytes.Contains(pe.Stack, []byte("parts_test.go")) {
		t.Errorf("got %v", got)
	}
}

func TestGreetingsMakeRoomForNewcomersOfOtherAddresses(t *testing.T) {
	g := greetings{from: map[netip.Prefix]int{}}
	conns := make([]*net.TCPConn, maxGreeting+1)
	for i := range conns {
		conns[i] = new(net.TCPConn)
		loser, ok := g.begin(conns[i], addr(i).Addr())
		if want := i == maxGreeting; !ok || (loser != nil) != want || want && loser != conns[0] {
			t.Fatalf("connection %d: %v, %v", i, loser, ok)
		}
	}
	g.end(conns[0]) // its goroutine comes to its end
	for _, c := range conns {
		g.end(c)
	}
	if len(g.list) != 0 || len(g.from) != 0 {
		t.Errorf("%d connections and %d addresses are left", len(g.list), len(g.from))
	}
	// One network of IPv6 counts as one address.
	for i := range maxGreetingFrom + 1 {
		c := new(net.TCPConn)
		ip := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i)})
		loser, ok := g.begin(c, ip)
		if last := i == maxGreetingFrom; ok == last || last && loser != c {
			t.Fatalf("connection %d of one network: %v, %v", i, loser, ok)
		}
	}
}

// A torrent may go before the session has begun to serve.
func TestTorrentsThatComeAndGoLeaveNoGoroutine(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		n.add(c)
		time.Sleep(time.Second)
		before := runtime.NumGoroutine()
		for range 50 {
			if err := n.Remove(c.meta.Info.Hash); err != nil {
				t.Fatal(err)
			}
			tor := n.add(c)
			for i := range 8 {
				l.peers.Go(func() {
					if err := n.open(tor, c).read(i*pieceLen, 10); !errors.Is(err, ErrClosed) {
						t.Errorf("got %v of a torrent that was removed", err)
					}
				})
			}
			time.Sleep(time.Second)
		}
		if err := n.Remove(c.meta.Info.Hash); err != nil {
			t.Fatal(err)
		}
		l.peers.Wait()
		n.add(makeContent(t, 2*mebibyte))
		time.Sleep(time.Second)
		// One a round would be 50. The runtime has some of its own, which come and
		// go outside the bubble; what is left inside ends the test anyway.
		if got := runtime.NumGoroutine(); got > before+10 {
			t.Errorf("%d goroutines, before it were %d", got, before)
		}
	})
}

func TestRemoveBeforeServeEndsTheTorrent(t *testing.T) {
	store, err := cache.Open(cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close(context.Background())
	s, err := New(Options{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	tor, err := s.Add(makeContent(t, mebibyte).meta, AddOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(tor.Info().Hash); err != nil {
		t.Fatal(err)
	}
	if err := tor.Serve(t.Context()); !errors.Is(err, suture.ErrDoNotRestart) {
		t.Errorf("a removed torrent is served: %v", err)
	}
}
