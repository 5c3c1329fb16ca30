package integration

import (
	"encoding/json"
	"net"
	"testing"
	"time"
)

// A mount that knows one peer, which is no seed, finds the seed by it alone.
func TestAMountFindsASeedByPeerExchange(t *testing.T) {
	t.Parallel()
	c := single(t, "exchanged", 8<<20, 64<<10)
	seed := seedLibtorrentWith(t, newNode(t), c, libtorrentOptions{limit: 48 << 10}) // it stays the only one
	between := startLibtorrent(t, newNode(t), "leech", c, t.TempDir(), libtorrentOptions{peers: []string{seed.address}})
	m := mount(t, newNode(t), mountOptions{flags: []string{"--peer", between.address}}, c.torrent)
	eventually(t, leechLimit, "the seed to be found", func() bool {
		for _, p := range m.peers(c) {
			// It may be the seed that dials: it was told of the mount as well.
			if p.Address == seed.address && p.Source == "pex" || host(p.Address) == host(seed.address) && p.Source == "incoming" {
				return true
			}
		}
		return false
	})
	m.unmount()
}

// A client that knows the mount alone, which has nothing, finds the seed by it.
func TestAClientFindsASeedByTheMountsPeerExchange(t *testing.T) {
	t.Parallel()
	c := single(t, "passed", 4<<20, 64<<10)
	seed := seedLibtorrent(t, newNode(t), c)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--peer", seed.address}}, c.torrent)
	eventually(t, readyLimit, "the mount to know the seed", func() bool { return len(m.peers(c)) == 1 })
	dir := t.TempDir()
	start := time.Now()
	startLibtorrent(t, newNode(t), "leech", c, dir, libtorrentOptions{peers: []string{m.address}}).expect("done", leechLimit)
	t.Logf("found and fetched in %v", time.Since(start))
	c.compare(t, dir)
	if got := m.counters(c.hash).PiecesHeld; got != 0 {
		t.Errorf("the mount holds %d pieces: they may be what was fetched", got)
	}
	m.unmount()
}

// Transmission finds the mount on the local network, and by it the seed, which is
// not announced there.
func TestTransmissionFindsASeedByTheMountsPeerExchange(t *testing.T) {
	t.Parallel()
	c := single(t, "handed-on", 4<<20, 64<<10)
	seed := seedLibtorrent(t, newNode(t), c)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--no-lsd=false", "--peer", seed.address}}, c.torrent)
	eventually(t, readyLimit, "the mount to know the seed", func() bool { return len(m.peers(c)) == 1 })
	dir := t.TempDir()
	transmissionWith(t, newNode(t), c, dir, map[string]any{"lpd-enabled": true}).waitComplete(leechLimit)
	c.compare(t, dir)
	if got := m.counters(c.hash).PiecesHeld; got != 0 {
		t.Errorf("the mount holds %d pieces: they may be what was fetched", got)
	}
	m.unmount()
}

func host(address string) string {
	h, _, _ := net.SplitHostPort(address)
	return h
}

// connection is a peer in the status.
type connection struct {
	Address, Client, Source, Encryption string
}

// peers are the connections of a torrent.
func (m *mounted) peers(c *content) []connection {
	m.t.Helper()
	r := run(m.t, readyLimit, swarmfs("status", "--json", "--data", m.data, c.hash))
	var st struct {
		Torrents []struct {
			Peers []connection `json:"peer_list"`
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &st); err != nil || len(st.Torrents) != 1 {
		m.t.Fatalf("status: exit code %d, %v: %s%s", r.code, err, r.stdout, r.stderr)
	}
	return st.Torrents[0].Peers
}
