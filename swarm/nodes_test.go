package swarm

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmfs/swarm/dht"
	"swarmfs/swarm/wire"
)

// withNode is a node whose session has a node of the DHT on its own host.
func (l *lab) withNode(bootstrap ...string) *node {
	l.t.Helper()
	return l.nodeWith(func(*dht.Options) {}, bootstrap...)
}

func (l *lab) nodeWith(change func(*dht.Options), bootstrap ...string) *node {
	l.t.Helper()
	var o nodeOptions
	o.DHT = &dht.Options{Bootstrap: bootstrap}
	change(o.DHT)
	return l.node(o)
}

// Two sessions that know nothing but a third one's node find each other.
func TestPeersAreFoundInTheDHT(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		first := l.withNode()
		at := first.addr().String()
		seed, leech := l.withNode(at), l.withNode(at)
		seed.fill(c)
		seed.add(c)
		l.eventually(10*time.Second, "a good table", func() bool { st, on := seed.Session.DHT(); return on && st.State == dht.Good })
		time.Sleep(5 * time.Second) // announced
		start := time.Now()
		leech.open(leech.add(c), c).copyOut(0)
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("the first read took %v", d)
		}
	})
}

// The seed comes when the leecher has looked and found nothing.
func TestALonelyTorrentIsLookedUpAgain(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		first := l.withNode()
		at := first.addr().String()
		leech := l.withNode(at)
		tor := leech.add(c)
		time.Sleep(3 * time.Minute)
		seed := l.withNode(at)
		seed.fill(c)
		seed.add(c)
		l.eventually(5*time.Minute, "a peer", func() bool { return tor.Stats().Peers == 1 })
	})
}

// BEP 27: a private torrent is neither looked up nor announced, and its peers are
// told of no node.
func TestPrivateTorrentsStayOutOfTheDHT(t *testing.T) {
	c := makeContent(t, mebibyte)
	for _, private := range []bool{false, true} {
		meta, info := *c.meta, *c.meta.Info
		info.Private = private
		meta.Info = &info
		of := &content{&meta, c.data, c.pieceLen}
		simulate(t, func(l *lab) {
			first := l.withNode()
			at := first.addr().String()
			seed, leech := l.withNode(at), l.withNode(at)
			seed.fill(of)
			seed.add(of)
			tor := leech.add(of)
			peer := l.leecher(of, false)
			peer.ext = &wire.ExtHandshake{}
			conn := peer.dial(leech)
			time.Sleep(time.Minute)
			told := false
			for len(conn.inbox) > 0 {
				told = (<-conn.inbox).Kind == wire.Port || told
			}
			if told == private {
				t.Errorf("private %v: the peer was told of our node: %v", private, told)
			}
			time.Sleep(time.Hour) // the peer, which says nothing, has gone by then
			if found := tor.Stats().Peers == 1; found == private {
				t.Errorf("private %v: the seed was found: %v", private, found)
			}
		})
	}
}

// A peer is told of our node, and what it tells of its own is a beginning.
func TestPeersTellEachOtherOfTheirNodes(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		seed, leech := l.withNode(), l.withNode()
		seed.fill(c)
		seed.add(c)
		leech.add(c, seed.addr())
		for _, n := range []*node{seed, leech} {
			l.eventually(30*time.Second, "a node of the other", func() bool { st, _ := n.Session.DHT(); return st.Good == 1 })
		}
	})
}

func TestNodesAreWhereWeListen(t *testing.T) {
	for _, tc := range []struct {
		listen string
		local  bool
		want   string
	}{
		{"", false, "0.0.0.0:0 [::]:0"},
		{"", true, "127.0.0.1:0"},
		{"[::]:7", false, "0.0.0.0:7 [::]:7"},
		{"0.0.0.0:7 [::]:8", false, "0.0.0.0:7 [::]:8"},
		{"0.0.0.0:7", false, "0.0.0.0:7"},
		{"127.0.0.1:7 127.0.0.2:8", true, "127.0.0.1:7"},
		{"[::1]:9", true, "[::1]:9"},
	} {
		var addrs []net.Addr
		for _, s := range strings.Fields(tc.listen) {
			addrs = append(addrs, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)))
		}
		var got []string
		for _, a := range nodeAddrs(addrs, tc.local) {
			got = append(got, a.String())
		}
		if !slices.Equal(got, strings.Fields(tc.want)) {
			t.Errorf("listening on %q: nodes at %q, want %q", tc.listen, got, tc.want)
		}
	}
}

func TestRoundsOfLookUps(t *testing.T) {
	var r rounds
	r.begin(epoch)
	r.ended(0, false)
	for _, want := range []time.Duration{30, 60, 120, 240, 480, 480} {
		if got := r.due(true, false).Sub(epoch); got != want*time.Second {
			t.Errorf("wanted and in vain: again after %v, want %v", got, want*time.Second)
		}
		r.ended(0, false)
	}
	r.ended(3, false)
	if got := r.due(true, false).Sub(epoch); got != firstGap {
		t.Errorf("wanted, after one that brought something: again after %v", got)
	}
	if got := r.due(false, false).Sub(epoch); got != roundEvery {
		t.Errorf("announced again after %v, want %v", got, roundEvery)
	}
	if got := r.due(false, true).Sub(epoch); got != leastGap {
		t.Errorf("with a better table again after %v, want %v", got, leastGap)
	}
	r.ended(0, true)
	if got := r.due(false, true).Sub(epoch); got != 0 {
		t.Errorf("when there was nobody to ask, with a better table again after %v, want at once", got)
	}
}
