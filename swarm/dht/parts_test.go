package dht

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/krpc"
	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func somewhere(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}), 6881)
}

func hashOf(i int) [20]byte { return [20]byte{byte(i), byte(i >> 8), 1} }

func TestStoredPeersExpireAndAreBounded(t *testing.T) {
	s := newPeerStore([20]byte{})
	now := epoch
	s.add(now, hashOf(1), somewhere(1))
	s.add(now, hashOf(1), somewhere(1))
	s.add(now, hashOf(1), netip.AddrPortFrom(somewhere(2).Addr(), 0)) // nobody can be there
	if got := s.some(now, hashOf(1)); !slices.Equal(got, []netip.AddrPort{somewhere(1)}) {
		t.Errorf("got %v, want the one peer", got)
	}
	if got := s.some(now.Add(storedFor), hashOf(1)); len(got) != 0 || len(s.peers) != 0 {
		t.Errorf("got %v after its time, %d hashes", got, len(s.peers))
	}
	for i := range 3 * maxStoredPeers {
		s.add(now.Add(time.Duration(i)), hashOf(1), somewhere(i))
	}
	if n := len(s.peers[hashOf(1)]); n != maxStoredPeers {
		t.Errorf("%d peers of one hash, want %d", n, maxStoredPeers)
	}
	for _, p := range s.peers[hashOf(1)] {
		if p.addr == somewhere(0) {
			t.Error("the oldest peer was kept")
		}
	}
	if n := len(s.some(now, hashOf(1))); n != maxReplyPeers {
		t.Errorf("a reply of %d peers, want %d", n, maxReplyPeers)
	}
	for i := range 2 * maxStoredHashes {
		s.add(now, hashOf(i), somewhere(i))
	}
	if n := len(s.peers); n != maxStoredHashes {
		t.Errorf("%d hashes, want %d", n, maxStoredHashes)
	}
}

// Of too many hashes those far from us are dropped.
func TestStoreKeepsWhatIsNear(t *testing.T) {
	s := newPeerStore([20]byte{})
	for i := range maxStoredHashes {
		s.add(epoch, [20]byte{255, byte(i), byte(i >> 8)}, somewhere(i))
	}
	s.add(epoch, [20]byte{1}, somewhere(1))
	s.add(epoch, [20]byte{255, 255, 255}, somewhere(1))
	if len(s.some(epoch, [20]byte{1})) != 1 || len(s.some(epoch, [20]byte{255, 255, 255})) != 0 {
		t.Error("a far hash took the place of a near one")
	}
	s.add(epoch.Add(storedFor), [20]byte{255, 255, 255}, somewhere(1))
	if len(s.peers) != 1 {
		t.Errorf("%d hashes, want the one that has not expired", len(s.peers))
	}
}

func TestTokens(t *testing.T) {
	a, b := newTokens(), newTokens()
	ip, other := somewhere(1).Addr(), somewhere(2).Addr()
	token := a.make(epoch, ip)
	for _, tc := range []struct {
		what  string
		valid bool
		want  bool
	}{
		{"at once", a.valid(epoch, ip, token), true},
		{"before it ends", a.valid(epoch.Add(tokenFor), ip, token), true},
		{"too late", a.valid(epoch.Add(2*tokenFor), ip, token), false},
		{"from elsewhere", a.valid(epoch, other, token), false},
		{"of another node", b.valid(epoch, ip, token), false},
		{"empty", a.valid(epoch, ip, ""), false},
	} {
		if tc.valid != tc.want {
			t.Errorf("%s: valid %v, want %v", tc.what, tc.valid, tc.want)
		}
	}
}

func TestContactsAreThoseThatAnswered(t *testing.T) {
	var c contacts
	for i := range 2 * maxContacts {
		c.answered(epoch.Add(time.Duration(i)), somewhere(i), hashOf(i))
	}
	if len(c.list) != maxContacts {
		t.Fatalf("%d contacts, want %d", len(c.list), maxContacts)
	}
	last := 2*maxContacts - 1
	got := c.closest(epoch.Add(time.Minute), hashOf(last), 8)
	if len(got) != 8 || got[0].addr != somewhere(last) {
		t.Fatalf("got %v, want eight, the closest first", got)
	}
	if !slices.IsSortedFunc(got, func(a, b contact) int { return compareDistance(hashOf(last), a.id, b.id) }) {
		t.Error("not sorted by distance")
	}
	c.silent(somewhere(last))
	if c.closest(epoch.Add(time.Minute), hashOf(last), 1)[0].addr == somewhere(last) {
		t.Error("a node that is silent is still passed on")
	}
	if got := c.closest(epoch.Add(time.Minute+goodFor), hashOf(1), 8); len(got) != 0 {
		t.Errorf("got %v after 15 minutes of silence", got)
	}
}

func TestSavedTableSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s saved
		for _, v6 := range []bool{false, true} {
			h := s.half(v6)
			copy(h.id[:], rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(t, "id"))
			for i := range rapid.IntRange(0, 20).Draw(t, "nodes") {
				ip := netip.AddrFrom4([4]byte{20, 1, 1, byte(i)})
				if v6 {
					ip = netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)})
				}
				h.nodes = append(h.nodes, contact{hashOf(i), netip.AddrPortFrom(ip, uint16(1+i))})
			}
		}
		got, err := parseSaved(s.marshal())
		if err != nil || !bytes.Equal(got.marshal(), s.marshal()) || got.v4.id != s.v4.id || got.v6.id != s.v6.id ||
			!slices.Equal(got.v4.nodes, s.v4.nodes) || !slices.Equal(got.v6.nodes, s.v6.nodes) {
			t.Fatalf("got %+v, %v, want %+v", got, err, s)
		}
	})
}

func TestNothingKnownNeverReplacesSomething(t *testing.T) {
	s := saved{v4: half{nodes: []contact{{hashOf(1), somewhere(1)}}}}
	if s.update(saved{}) || len(s.v4.nodes) != 1 {
		t.Error("saved nodes were lost")
	}
	if !s.update(saved{v6: half{nodes: []contact{{hashOf(1), somewhere(1)}}}}) || len(s.v4.nodes) != 1 || len(s.v6.nodes) != 1 {
		t.Error("the families are not updated by themselves")
	}
}

func FuzzSaved(f *testing.F) {
	s := saved{v4: half{id: hashOf(7), nodes: []contact{{hashOf(1), somewhere(1)}}}}
	f.Add(s.marshal())
	f.Add([]byte("d2:id3:abce"))
	f.Add([]byte("d5:nodes1:x6:nodes63:abce"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSaved(b)
		if err == nil && (len(s.v4.nodes) > maxSaved || len(s.v6.nodes) > maxSaved) {
			t.Error("too many nodes")
		}
	})
}

func TestVotes(t *testing.T) {
	us, lie := somewhere(1).Addr(), somewhere(2).Addr()
	for _, tc := range []struct {
		name   string
		voters func(i int) netip.AddrPort
		lies   int // of ten
		want   bool
	}{
		{"all agree", somewhere, 0, true},
		{"two of ten lie", somewhere, 2, true},
		{"half of them lie", somewhere, 5, false},
		{"one votes many times", func(i int) netip.AddrPort { return netip.AddrPortFrom(somewhere(1).Addr(), uint16(i+1)) }, 0, false},
	} {
		var v votes
		won := false
		for i := range 60 {
			says := us
			if i%10 < tc.lies {
				says = lie
			}
			if ip, ok := v.add(tc.voters(i), says); ok && ip == us {
				won = true
			}
		}
		if won != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, won, tc.want)
		}
	}
}

// BEP 42: when nodes say that our address is another, our id follows.
func TestIDFollowsAddress(t *testing.T) {
	l, conn := alive(t)
	out := netip.MustParseAddr("21.22.23.24")
	for i := range enoughVotes {
		if dht.NodeIdSecure(l.id, out.AsSlice()) {
			t.Skip("a lucky id") // one in 2 million
		}
		l.vote(somewhere(i*256), krpc.Msg{Y: "r", IP: toNodeAddr(netip.AddrPortFrom(out, 1))})
	}
	select {
	case <-l.link.ended: // its life is over
	case <-time.After(5 * time.Second):
		t.Fatal("the id stays")
	}
	_ = conn
	if !dht.NodeIdSecure(l.leaves.id, out.AsSlice()) {
		t.Errorf("the next id is %x, not one of %s", l.leaves.id, out)
	}
}

func TestMergedFiltersCountAddresses(t *testing.T) {
	var a, b, sum krpc.ScrapeBloomFilter
	for i := range 100 {
		ip := somewhere(rand.IntN(1 << 24)).Addr().AsSlice()
		if i%2 == 0 {
			a.AddIp(ip)
		} else {
			b.AddIp(ip)
		}
	}
	var lie krpc.ScrapeBloomFilter
	for i := range lie {
		lie[i] = 0xff
	}
	merge(&sum, &a)
	merge(&sum, &b)
	merge(&sum, &a)
	merge(&sum, nil)
	merge(&sum, &lie)
	if n := sum.EstimateCount(); n < 90 || n > 110 {
		t.Errorf("an estimate of %.1f for 100 addresses", n)
	}
}

func TestIDIsThatOfTheAddress(t *testing.T) {
	known := net.UDPAddrFromAddrPort(somewhere(70000))
	unknown := net.UDPAddrFromAddrPort(netip.MustParseAddrPort("0.0.0.0:1"))
	id := ownID([20]byte{}, known)
	if !dht.NodeIdSecure(id, known.IP) {
		t.Error("the id is not one of the address")
	}
	if ownID(id, known) != id || ownID(id, unknown) != id {
		t.Error("an id that is right was not kept")
	}
	if other := net.UDPAddrFromAddrPort(somewhere(1)); ownID(id, other) == id {
		t.Error("an id of another address was kept")
	}
	if ownID([20]byte{}, unknown) == ([20]byte{}) {
		t.Error("no id")
	}
}
