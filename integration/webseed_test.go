package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A web server is all there is: no peer, no tracker.
func TestAWebSeedAloneServesATorrent(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func(t *testing.T) *content
		url  func(c *content, w *nginx) string
	}{
		{"a folder", func(t *testing.T) *content { return album(t) }, func(_ *content, w *nginx) string { return w.url }},
		{"a file in a folder", func(t *testing.T) *content { return single(t, "film part 1.mkv", 5<<20+77, 64<<10) }, func(_ *content, w *nginx) string { return w.url }},
		{"a file by its name", func(t *testing.T) *content { return single(t, "song?.ogg", 5<<20+77, 64<<10) }, func(_ *content, w *nginx) string { return w.url + "song%3f.ogg" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := tc.make(t)
			w := serveWeb(t, newNode(t), c.dir)
			c.webSeeds = []string{tc.url(c, w)}
			c.describe(t)
			m := mount(t, newNode(t), mountOptions{}, c.torrent)
			c.copyOut(t, m.point)
			if st := m.counters(c.hash); st.Peers != 0 || st.Fetched > c.size+c.size/10 {
				t.Errorf("%d peers, %d bytes fetched of %d", st.Peers, st.Fetched, c.size)
			}
			m.unmount()
		})
	}
}

// The torrent comes from the command, too, and the link it prints leads to the web
// server without a peer only once the .torrent is known.
func TestATorrentMadeWithAWebSeed(t *testing.T) {
	t.Parallel()
	c := single(t, "made here.bin", 3<<20+5, 64<<10)
	w := serveWeb(t, newNode(t), c.dir)
	made := filepath.Join(t.TempDir(), "made.torrent")
	r := run(t, copyLimit, swarmfs("create", "-o", made, "--web-seed", w.url, "--piece-size", "64KiB", filepath.Join(c.dir, c.name)))
	if r.code != exitOK || !strings.Contains(r.stdout, c.hash) || !strings.Contains(r.stdout, "&ws=http%3A%2F%2F") {
		t.Fatalf("create: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	m := mount(t, newNode(t), mountOptions{}, made)
	c.copyOut(t, m.point)
	st := run(t, readyLimit, swarmfs("status", "--data", m.data, c.name))
	if !strings.Contains(st.stdout, w.url) || !strings.Contains(st.stdout, "web seed") {
		t.Errorf("status does not show the web seed:\n%s%s", st.stdout, st.stderr)
	}
	m.unmount()
}

// One file on the server is another one: it is not read from there, the rest is,
// and a peer that has the right one is not blamed.
func TestAWebSeedWithOneBadFile(t *testing.T) {
	const piece = 256 << 10
	for _, tc := range []struct {
		name string
		peer bool
	}{{"alone", false}, {"beside a peer", true}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := makeContent(t, "three files", piece, []fileSpec{
				{path: "a.bin", size: 8 * piece}, {path: "bad.bin", size: 8 * piece}, {path: "c.bin", size: 8 * piece},
			})
			other := t.TempDir()
			mustRun(t, copyLimit, "cp", "-r", filepath.Join(c.dir, c.name), other)
			if err := os.WriteFile(filepath.Join(other, c.name, "bad.bin"), make([]byte, 8*piece), 0o644); err != nil {
				t.Fatal(err)
			}
			w := serveWeb(t, newNode(t), other)
			c.webSeeds = []string{w.url}
			c.describe(t)
			opts := mountOptions{flags: []string{"--background", "off", "--read-timeout", "3s"}}
			if tc.peer {
				opts.flags = append(opts.flags, "--peer", seedLibtorrent(t, newNode(t), c).address)
			}
			m := mount(t, newNode(t), opts, c.torrent)
			if tc.peer {
				c.copyOut(t, m.point)
				if out := m.output(); strings.Contains(out, "peer banned") {
					t.Errorf("the peer was banned")
				}
			} else {
				m.sameBytes(c, c.files[0])
				m.sameBytes(c, c.files[2])
				for n := range 4 {
					r := run(t, copyLimit, exec.Command("dd", "if="+m.path(c, c.files[1]), "of=/dev/null", "bs=4k", "count=1", fmt.Sprintf("skip=%d", n*piece>>12)))
					if r.code == 0 {
						t.Errorf("piece %d of the bad file was read", n)
					}
				}
				if out := m.output(); strings.Count(out, "web seed is not used any more") != 1 {
					t.Errorf("the web seed was not let go")
				}
			}
			if st := m.counters(c.hash); st.Wasted > 3*piece+2<<20 {
				t.Errorf("%d bytes wasted", st.Wasted)
			}
			m.unmount()
		})
	}
}
