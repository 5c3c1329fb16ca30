package integration

import "testing"

// strict are clients that have no connection which is not encrypted throughout.
var strict = []client{
	{
		name: "transmission",
		seed: func(t testing.TB, n *node, c *content) {
			t.Helper()
			transmissionWith(t, n, c, c.dir, transmissionStrict).waitComplete(leechLimit)
		},
		leech: func(t testing.TB, n *node, c *content, dir string) {
			t.Helper()
			transmissionWith(t, n, c, dir, transmissionStrict).waitComplete(leechLimit)
		},
		leavesOutEmpty: true,
	},
	{
		name: "aria2",
		seed: func(t testing.TB, n *node, c *content) {
			t.Helper()
			seedAria2(t, n, c, aria2Strict...)
		},
		leech: func(t testing.TB, n *node, c *content, dir string) {
			t.Helper()
			leechAria2(t, n, c, dir, aria2Strict...)
		},
	},
	{
		name: "libtorrent",
		seed: func(t testing.TB, n *node, c *content) {
			t.Helper()
			seedLibtorrentWith(t, n, c, libtorrentOptions{settings: libtorrentStrict})
		},
		leech: func(t testing.TB, n *node, c *content, dir string) {
			t.Helper()
			startLibtorrent(t, n, "leech", c, dir, libtorrentOptions{settings: libtorrentStrict}).expect("done", leechLimit)
		},
	},
}

var (
	transmissionStrict = map[string]any{"encryption": 2}
	aria2Strict        = []string{"--bt-require-crypto=true", "--bt-min-crypto-level=arc4"}
	// 0 is pe_forced, 2 pe_rc4; its uTP would not be a connection of ours.
	libtorrentStrict = []string{"in_enc_policy=0", "out_enc_policy=0", "allowed_enc_level=2", "enable_outgoing_utp=0", "enable_incoming_utp=0"}
	libtorrentPlain  = []string{"in_enc_policy=2", "out_enc_policy=2", "enable_outgoing_utp=0", "enable_incoming_utp=0"}
)

// A mount reads from clients that insist on encryption, whether it insists itself
// or not. It dials them: they were there first.
func TestAMountReadsFromClientsThatRequireEncryption(t *testing.T) {
	for _, from := range strict {
		for _, want := range []string{"prefer", "require"} {
			t.Run(from.name+", "+want, func(t *testing.T) {
				t.Parallel()
				tracker := newTracker(t)
				c := album(t, tracker.url("http"))
				tracker.serve(c)
				from.seed(t, newNode(t), c)
				tracker.waitSeeder(c)
				m := mount(t, newNode(t), mountOptions{flags: []string{"--encryption", want}}, c.torrent)
				m.wantEncryption(c, "rc4") // two that have all part soon
				c.copyOut(t, m.point)
				m.unmount()
			})
		}
	}
}

// They download from a seed of ours, and dial it: it was there first.
func TestClientsThatRequireEncryptionDownloadFromASeed(t *testing.T) {
	for _, to := range strict {
		for _, want := range []string{"prefer", "require"} {
			t.Run(to.name+", "+want, func(t *testing.T) {
				t.Parallel()
				tracker := newTracker(t)
				c := album(t, tracker.url("http"))
				tracker.serve(c)
				p := seed(t, newNode(t), c, "--encryption", want)
				tracker.waitSeeder(c)
				dir := t.TempDir()
				to.leech(t, newNode(t), c, dir)
				to.compare(t, c, dir)
				stopSeed(t, p)
			})
		}
	}
}

// Clients that take both: what is agreed on is for them to choose.
func TestWhatIsAgreedOnWithClientsThatTakeBoth(t *testing.T) {
	for _, tc := range []struct {
		name, encryption, want string
		settings               []string
	}{
		{"both", "prefer", "handshake", []string{"enable_outgoing_utp=0"}},
		{"we insist", "require", "rc4", []string{"enable_outgoing_utp=0"}},
		{"we refuse", "off", "none", []string{"enable_outgoing_utp=0"}},
		{"it refuses", "prefer", "none", libtorrentPlain},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := single(t, "agreed", 4<<20, 64<<10)
			l := seedLibtorrentWith(t, newNode(t), c, libtorrentOptions{settings: tc.settings})
			m := mount(t, newNode(t), mountOptions{flags: []string{"--encryption", tc.encryption, "--peer", l.address}}, c.torrent)
			m.wantEncryption(c, tc.want)
			c.copyOut(t, m.point)
			m.unmount()
		})
	}
}

// wantEncryption checks how the connections of a torrent are encrypted. It waits
// for the first.
func (m *mounted) wantEncryption(c *content, want string) {
	m.t.Helper()
	var peers []connection
	eventually(m.t, readyLimit, "a connection", func() bool {
		peers = m.peers(c)
		return len(peers) > 0
	})
	for _, p := range peers {
		if p.Encryption != want {
			m.t.Errorf("the connection with %s is encrypted %q, want %q", p.Client, p.Encryption, want)
		}
	}
}
