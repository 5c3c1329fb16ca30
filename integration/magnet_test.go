package integration

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// magnet is the link of c, as people pass it on.
func (c *content) magnet(trackers ...string) string {
	var b strings.Builder
	b.WriteString("magnet:?xt=urn:btih:" + strings.ToUpper(c.hash) + "&dn=" + url.QueryEscape(c.name))
	for _, tr := range trackers {
		b.WriteString("&tr=" + url.QueryEscape(tr))
	}
	return b.String()
}

// shown waits until the content is in the mount.
func (m *mounted) shown(c *content, limit time.Duration) {
	m.t.Helper()
	eventually(m.t, limit, c.name+" is shown", func() bool {
		_, err := os.Stat(filepath.Join(m.point, c.name))
		return err == nil
	})
}

// Every client gives us the metadata of a link, and then its content. What came
// is kept: a mount that is killed shows it again at once, with nobody there.
func TestAMagnetLinkIsAllThatIsNeeded(t *testing.T) {
	for i, from := range clients {
		scheme := []string{"http", "udp"}[i%2]
		t.Run(from.name+" by "+scheme, func(t *testing.T) {
			t.Parallel()
			tracker := newTracker(t)
			c := album(t, tracker.url(scheme))
			tracker.serve(c)
			seeder := newNode(t)
			from.seed(t, seeder, c)
			tracker.waitSeeder(c)
			data := t.TempDir()
			m := mount(t, newNode(t), mountOptions{data: data}, c.magnet(tracker.url(scheme)))
			m.shown(c, readyLimit)
			c.copyOut(t, m.point)
			eventually(t, readyLimit, "the metadata is kept", func() bool {
				kept, err := filepath.Glob(filepath.Join(data, "torrents", c.hash+".*"))
				return err == nil && len(kept) > 0
			})
			m.kill()
			m = mount(t, newNode(t), mountOptions{data: data, point: m.point}, c.magnet())
			if _, err := os.Stat(filepath.Join(m.point, c.name)); err != nil {
				t.Errorf("after kill -9: %v", err)
			}
			m.unmount()
		})
	}
}

// Others get the metadata from us.
func TestAMagnetLinkToWhatWeSeed(t *testing.T) {
	t.Parallel()
	tracker := newTracker(t)
	c := album(t, tracker.url("http"))
	tracker.serve(c)
	p := seed(t, newNode(t), c)
	tracker.waitSeeder(c)
	dir := t.TempDir()
	link := *c
	link.torrent = c.magnet(tracker.url("http"))
	leechAria2(t, newNode(t), &link, dir)
	c.compare(t, dir)
	stopSeed(t, p)
}

// A link that nobody knows holds up neither the mount nor what else is in it, and
// the torrent itself ends the waiting.
func TestALinkThatNobodyKnowsHoldsUpNothing(t *testing.T) {
	t.Parallel()
	known, unknown := album(t), single(t, "unknown", 1<<20, 64<<10)
	l := seedLibtorrent(t, newNode(t), known)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--peer", l.address}}, known.torrent, unknown.magnet())
	known.copyOut(t, m.point)
	links := m.status().Links
	if len(links) != 1 || links[0].Infohash != unknown.hash || links[0].Name != unknown.name {
		t.Fatalf("links: %+v", links)
	}
	if r := run(t, readyLimit, swarmfs("add", "--data", m.data, unknown.torrent)); r.code != exitOK {
		t.Fatalf("add: %+v", r)
	}
	m.shown(unknown, time.Second)
	if links := m.status().Links; len(links) != 0 {
		t.Errorf("links are left: %+v", links)
	}
	m.unmount()
}
