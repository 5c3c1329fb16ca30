package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// local are clients that look for peers on the local network alone.
var local = []client{
	{
		name: "transmission",
		seed: func(t testing.TB, n *node, c *content) {
			t.Helper()
			transmissionWith(t, n, c, c.dir, map[string]any{"lpd-enabled": true}).waitComplete(leechLimit)
		},
		leech: func(t testing.TB, n *node, c *content, dir string) {
			t.Helper()
			transmissionWith(t, n, c, dir, map[string]any{"lpd-enabled": true}).waitComplete(leechLimit)
		},
	},
	{
		name: "aria2",
		seed: func(t testing.TB, n *node, c *content) {
			t.Helper()
			seedAria2(t, n, c, "--bt-enable-lpd=true", "--bt-lpd-interface="+n.ip)
		},
		leech: func(t testing.TB, n *node, c *content, dir string) {
			t.Helper()
			leechAria2(t, n, c, dir, "--bt-enable-lpd=true", "--bt-lpd-interface="+n.ip)
		},
	},
	{
		name: "libtorrent",
		seed: func(t testing.TB, n *node, c *content) {
			t.Helper()
			seedLibtorrentWith(t, n, c, libtorrentOptions{settings: []string{"enable_lsd=1"}})
		},
		leech: func(t testing.TB, n *node, c *content, dir string) {
			t.Helper()
			startLibtorrent(t, n, "leech", c, dir, libtorrentOptions{settings: []string{"enable_lsd=1"}}).expect("done", leechLimit)
		},
	},
}

// A seed is found whichever was there first: one hears the other.
func TestAMountFindsSeedsOnTheLocalNetwork(t *testing.T) {
	for _, from := range local {
		for _, first := range []string{"seed", "mount"} {
			t.Run(from.name+", the "+first+" is first", func(t *testing.T) {
				t.Parallel()
				c := single(t, "near-"+from.name+first, 4<<20, 64<<10)
				seedNode := newNode(t)
				if first == "seed" {
					from.seed(t, seedNode, c)
				}
				m := mount(t, newNode(t), mountOptions{flags: []string{"--no-lsd=false"}}, c.torrent)
				if first == "mount" {
					from.seed(t, seedNode, c)
				}
				eventually(t, leechLimit, "the seed to be connected", func() bool { return len(m.peers(c)) > 0 })
				c.copyOut(t, m.point)
				m.unmount()
			})
		}
	}
}

func TestClientsFindASeedOnTheLocalNetwork(t *testing.T) {
	for _, to := range local {
		t.Run(to.name, func(t *testing.T) {
			t.Parallel()
			c := single(t, "offered-"+to.name, 4<<20, 64<<10)
			p := seed(t, newNode(t), c, "--no-lsd=false")
			dir := t.TempDir()
			to.leech(t, newNode(t), c, dir)
			to.compare(t, c, dir)
			stopSeed(t, p)
		})
	}
}

// Without a network there is this machine: the loopback interface, and no packet
// elsewhere. A private torrent is not looked for there either.
func TestTwoProcessesFindEachOtherOnLoopback(t *testing.T) {
	t.Parallel()
	for _, private := range []bool{false, true} {
		name := "public"
		if private {
			name = "private"
		}
		t.Run(name, func(t *testing.T) {
			c := single(t, "here-"+name, 1<<20, 64<<10)
			if private {
				makePrivate(t, c)
			}
			n := newNode(t)
			// Neither of the others, and no port that one could know.
			flags := slices.DeleteFunc(slices.Clone(onlyGivenPeers), func(f string) bool { return f == "--no-lsd" })
			args := slices.Concat([]string{"seed", "--listen", "127.0.0.1:0", "--log-level", "debug"}, flags, []string{c.torrent, c.dir})
			p := start(t, "swarmfs seed", swarmfsOn(n, args...))
			p.waitLine("^ready: .*$", readyLimit)
			m := &mounted{point: t.TempDir(), data: t.TempDir()}
			t.Cleanup(func() { detach(t, m.point) })
			args = slices.Concat([]string{"mount", "--listen", "127.0.0.1:0", "--data", m.data, "--read-timeout", "5s", "--log-level", "debug"},
				flags, []string{c.torrent, m.point})
			m.process = start(t, "swarmfs mount", swarmfsOn(n, args...))
			m.waitLine("^ready: .*$", readyLimit)
			r := run(t, copyLimit, exec.Command("cat", m.path(c, c.files[0])))
			if found := r.code == 0; found == private {
				t.Errorf("found: got %v, want %v: %s", found, !private, r.stderr)
			}
			m.unmount()
			stopSeed(t, p)
		})
	}
}

// makePrivate makes the same torrent private: another infohash.
func makePrivate(t testing.TB, c *content) {
	t.Helper()
	raw, err := os.ReadFile(c.torrent)
	if err != nil {
		t.Fatal(err)
	}
	// The last entry of the info dictionary, which is the last of the file.
	body, found := strings.CutSuffix(string(raw), "ee")
	if !found {
		t.Fatalf("the torrent does not end with its info dictionary")
	}
	c.torrent = filepath.Join(t.TempDir(), "private.torrent")
	if err := os.WriteFile(c.torrent, []byte(body+"7:privatei1eee"), 0o600); err != nil {
		t.Fatal(err)
	}
}
