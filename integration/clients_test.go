package integration

import (
	"fmt"
	"slices"
	"testing"
)

// client is one of the programs that most of the world's peers run.
type client struct {
	name  string
	seed  func(t testing.TB, n *node, c *content)             // returns early: the tracker knows when it seeds
	leech func(t testing.TB, n *node, c *content, dir string) // returns when all is there
	// leavesOutEmpty: it makes no files of zero bytes.
	leavesOutEmpty bool
}

var clients = []client{
	{name: "transmission", seed: seedTransmission, leech: leechTransmission, leavesOutEmpty: true},
	{
		name:  "aria2",
		seed:  func(t testing.TB, n *node, c *content) { t.Helper(); seedAria2(t, n, c) },
		leech: func(t testing.TB, n *node, c *content, dir string) { t.Helper(); leechAria2(t, n, c, dir) },
	},
	{
		name: "libtorrent",
		seed: func(t testing.TB, n *node, c *content) { t.Helper(); seedLibtorrent(t, n, c) },
		leech: func(t testing.TB, n *node, c *content, dir string) {
			t.Helper()
			startLibtorrent(t, n, "leech", c, dir, libtorrentOptions{}).expect("done", leechLimit)
		},
	},
}

// compare checks what the client downloaded into dir.
func (cl client) compare(t testing.TB, c *content, dir string) {
	t.Helper()
	if cl.leavesOutEmpty {
		there := *c
		there.files = slices.DeleteFunc(slices.Clone(c.files), func(f fileSpec) bool { return f.size == 0 })
		c = &there
	}
	c.compare(t, dir)
}

// If this fails, the harness or a client is at fault, not the command: the
// clients serve each other.
func TestTheClientsServeEachOther(t *testing.T) {
	for i, from := range clients {
		to := clients[(i+1)%len(clients)]
		scheme := []string{"udp", "http"}[i%2]
		t.Run(fmt.Sprintf("%s to %s by %s", from.name, to.name, scheme), func(t *testing.T) {
			t.Parallel()
			tracker := newTracker(t)
			c := album(t, tracker.url(scheme))
			tracker.serve(c)
			from.seed(t, newNode(t), c)
			tracker.waitSeeder(c)
			dir := t.TempDir()
			to.leech(t, newNode(t), c, dir)
			to.compare(t, c, dir)
		})
	}
}
