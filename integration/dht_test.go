package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// inDHT are the flags of a command that looks for peers in the DHT, and asks a
// node there for others.
func inDHT(node string) []string { return []string{"--no-dht=false", "--dht-bootstrap", node} }

// dhtClients are the foreign nodes of the DHT. All are told of one node to begin
// with, and of nothing else.
var dhtClients = []struct {
	name  string
	seed  func(t testing.TB, n *node, c *content, entry string)
	leech func(t testing.TB, n *node, c *content, dir, entry string)
}{
	{
		"aria2",
		func(t testing.TB, n *node, c *content, entry string) {
			t.Helper()
			seedAria2(t, n, c, "--dht-entry-point="+entry)
		},
		func(t testing.TB, n *node, c *content, dir, entry string) {
			t.Helper()
			leechAria2(t, n, c, dir, "--dht-entry-point="+entry)
		},
	},
	{
		"libtorrent",
		func(t testing.TB, n *node, c *content, entry string) {
			t.Helper()
			seedLibtorrentWith(t, n, c, libtorrentOptions{dht: entry})
		},
		func(t testing.TB, n *node, c *content, dir, entry string) {
			t.Helper()
			startLibtorrent(t, n, "leech", c, dir, libtorrentOptions{dht: entry}).expect("done", leechLimit)
		},
	},
}

// dhtLimit is how long foreign clients may take to announce themselves: aria2
// looks round every minute at first.
const dhtLimit = 100 * time.Second

// A link with nothing but an infohash leads to what a foreign client seeds, and a
// node of ours is all that both know. After a restart the kept nodes are enough.
func TestALinkIsFollowedThroughTheDHT(t *testing.T) {
	for _, from := range dhtClients {
		t.Run(from.name, func(t *testing.T) {
			t.Parallel()
			hub := newNode(t)
			seed(t, hub, single(t, "hub", 1<<20, 64<<10), "--no-dht=false")
			entry := hub.addr(swarmfsPort)
			c := album(t)
			from.seed(t, newNode(t), c, entry)
			n := newNode(t)
			m := mount(t, n, mountOptions{flags: inDHT(entry)}, c.magnet())
			m.shown(c, dhtLimit)
			c.copyOut(t, m.point)
			m.unmount()
			if _, err := os.Stat(filepath.Join(m.data, "dht.dat")); err != nil {
				t.Fatalf("the nodes are not kept: %v", err)
			}
			m = mount(t, n, mountOptions{data: m.data, flags: []string{"--no-dht=false", "--cache-size", "0"}}, c.magnet())
			c.copyOut(t, m.point)
			if st := m.status(); len(st.Torrents) != 1 || st.Torrents[0].Fetched == 0 {
				t.Errorf("nothing was fetched: %+v", st)
			}
			m.unmount()
		})
	}
}

// What we seed is found by foreign clients in the DHT, whose nodes are all that we
// know there.
func TestForeignClientsFindUsInTheDHT(t *testing.T) {
	for _, to := range dhtClients {
		t.Run(to.name, func(t *testing.T) {
			t.Parallel()
			hub := newNode(t)
			seedLibtorrentWith(t, hub, single(t, "hub", 1<<20, 64<<10), libtorrentOptions{dht: hub.addr(1)}) // who is alone has nobody to ask
			entry := hub.addr(libtorrentPort)
			c := album(t)
			p := seed(t, newNode(t), c, inDHT(entry)...)
			dir := t.TempDir()
			to.leech(t, newNode(t), c, dir, entry)
			c.compare(t, dir)
			stopSeed(t, p)
		})
	}
}

// A node that only peers tell of (BEP 5: PORT) is a beginning.
func TestAPeerTellsOfItsNode(t *testing.T) {
	t.Parallel()
	c := album(t)
	n := newNode(t)
	seedLibtorrentWith(t, n, c, libtorrentOptions{dht: n.addr(1)})
	m := mount(t, newNode(t), mountOptions{flags: []string{"--no-dht=false", "--peer", n.addr(libtorrentPort)}}, c.torrent)
	eventually(t, readyLimit, "a node", func() bool {
		r := run(t, readyLimit, swarmfs("status", "--data", m.data))
		return strings.Contains(r.stdout, "dht:     good, 1 node")
	})
	m.unmount()
}
