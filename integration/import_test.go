package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// importOutput is what `swarmfs status --json` says of imported files.
type importOutput struct {
	Files     int   `json:"files"`
	Held      int   `json:"held"`
	Unchecked int   `json:"unchecked"`
	Hashed    int64 `json:"bytes_hashed"`
	Troubled  int   `json:"troubled"`
}

func (m *mounted) imported() importOutput {
	m.t.Helper()
	r := run(m.t, readyLimit, swarmfs("status", "--json", "--data", m.data))
	var st struct {
		Torrents []struct {
			Import *importOutput `json:"import"`
		} `json:"torrents"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &st); err != nil || len(st.Torrents) != 1 || st.Torrents[0].Import == nil {
		m.t.Fatalf("status tells nothing of the import: %v: %s%s", err, r.stdout, r.stderr)
	}
	return *st.Torrents[0].Import
}

func (m *mounted) waitChecked() {
	m.t.Helper()
	eventually(m.t, 30*time.Second, "all pieces to be looked at", func() bool { return m.imported().Unchecked == 0 })
}

// copyOf copies the files of a content into a new folder.
func copyOf(t testing.TB, c *content) string {
	t.Helper()
	dir := t.TempDir()
	mustRun(t, copyLimit, "cp", "-r", "--", filepath.Join(c.dir, c.name), dir)
	return dir
}

// damage makes a partial download of a copy, as other clients leave them, and returns
// the pieces that it still holds.
func damage(t testing.TB, c *content, dir string) (held int) {
	t.Helper()
	path := func(f string) string { return filepath.Join(dir, c.name, f) }
	const bigHole, bigLength = 4 << 20, 1 << 20
	hole, err := os.OpenFile(path("big.bin"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hole.WriteAt(make([]byte, bigLength), bigHole); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		hole.Close(),
		os.Rename(path("big.bin"), path("big.bin.!qB")),             // qBittorrent
		os.Truncate(path("last.bin"), 1<<20),                        // a download that grows: Transmission
		os.Rename(path("last.bin"), path("last.bin.part")),          //
		os.Remove(path("disc 1/one.flac")),                          // not begun
		os.WriteFile(path("scans/059.png"), []byte("other"), 0o644), // of another size: not the torrent's
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	bad := make(map[int64]bool)
	at := int64(0)
	lost := func(from, n int64) {
		for i := from / c.pieceLength; i*c.pieceLength < from+n; i++ {
			bad[i] = true
		}
	}
	for _, f := range c.files {
		switch f.path {
		case "big.bin":
			lost(at+bigHole, bigLength)
		case "last.bin":
			lost(at+1<<20, 1<<20)
		case "disc 1/one.flac", "scans/059.png":
			lost(at, f.size)
		}
		at += f.size
	}
	return int((c.size+c.pieceLength-1)/c.pieceLength) - len(bad)
}

// A partial copy is imported: what it holds is not fetched, before it was looked at or
// after, is served to others, and is not hashed again by the next run.
func TestAPartialDownloadIsImported(t *testing.T) {
	t.Parallel()
	c := album(t)
	l := seedLibtorrent(t, newNode(t), c)
	dir := copyOf(t, c)
	held := damage(t, c, dir)
	pieces := int((c.size + c.pieceLength - 1) / c.pieceLength)
	most := int64(pieces-held) * c.pieceLength

	n := newNode(t)
	opts := mountOptions{data: t.TempDir(), flags: []string{"--peer", l.address, "--import", dir}}
	m := mount(t, n, opts, c.torrent)
	c.copyOut(t, m.point) // at once: most was not looked at yet
	m.waitChecked()
	if got := m.imported(); got.Held != held || got.Troubled != 0 {
		t.Errorf("import: %+v, want %d pieces held", got, held)
	}
	st := m.status().Torrents[0]
	if st.Fetched > most || st.Fetched < most-c.pieceLength || st.PiecesHeld != pieces {
		t.Errorf("fetched %d bytes and %d pieces are held, want %d at most and all", st.Fetched, st.PiecesHeld, most)
	}
	l.kill()

	leech := t.TempDir()
	other := startLibtorrent(t, newNode(t), "leech", c, leech, libtorrentOptions{peers: []string{m.address}})
	other.expect("done", leechLimit)
	c.compare(t, leech)
	m.unmount()

	m = mount(t, n, opts, c.torrent)
	eventually(t, readyLimit, "the import to be remembered", func() bool { return m.status().Torrents[0].PiecesHeld == pieces })
	m.waitChecked()
	if got := m.imported(); got.Hashed != 0 || got.Held != held {
		t.Errorf("after a restart: %+v, want nothing hashed and %d held", got, held)
	}
	c.copyOut(t, m.point)
	if got := m.status().Torrents[0].Fetched; got != 0 {
		t.Errorf("%d bytes were fetched after the restart", got)
	}
	m.unmount()
}

// Everything is there, nobody else has it, and the cache is in memory: another client
// gets it all from the files. Then one of them changes under the mount.
func TestAnImportIsSeededInPlace(t *testing.T) {
	t.Parallel()
	c := album(t)
	dir := copyOf(t, c)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--import", dir, "--cache-size", "0", "--memory", "1MiB"}}, c.torrent)
	leech := t.TempDir()
	n := newNode(t)
	other := startLibtorrent(t, n, "leech", c, leech, libtorrentOptions{peers: []string{m.address}})
	other.expect("done", leechLimit)
	c.compare(t, leech)

	big := filepath.Join(dir, c.name, "big.bin")
	f, err := os.OpenFile(big, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("changed under the mount"), 5<<20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	other.kill()
	l := seedLibtorrent(t, newNode(t), c)
	m.unmount()
	m = mount(t, n, mountOptions{data: m.data, flags: []string{"--import", dir, "--peer", l.address}}, c.torrent)
	c.copyOut(t, m.point)
	// The next change comes while the mount has read the file.
	if err := os.Truncate(big, 1<<20); err != nil {
		t.Fatal(err)
	}
	for _, f := range c.files {
		if f.path == "big.bin" {
			readAs(t, "direct", m.path(c, f), c.original(f))
		}
	}
	if r := run(t, readyLimit, swarmfs("status", "--data", m.data, c.name)); !strings.Contains(r.stdout, "big.bin: it has") {
		t.Errorf("status does not tell: %s%s", r.stdout, r.stderr)
	}
	if got := m.status().Torrents[0]; got.Fetched < 8<<20 || got.Fetched > 12<<20 {
		t.Errorf("%d bytes fetched, want about the file", got.Fetched)
	}
	m.unmount()
}

// What is added to a running mount is looked for too.
func TestWhatIsAddedIsImported(t *testing.T) {
	t.Parallel()
	a, c := single(t, "first", 1<<20, 64<<10), single(t, "added.bin", 3<<20, 64<<10)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--import", c.dir}}, a.torrent)
	if r := run(t, readyLimit, swarmfs("add", "--data", m.data, c.torrent)); r.code != exitOK {
		t.Fatalf("add: %s", r.stderr)
	}
	c.copyOut(t, m.point)
	if r := run(t, copyLimit, swarmfs("verify", "--data", m.data, c.name)); !strings.Contains(r.stdout, "48 good, 0 bad, 0 missing") {
		t.Errorf("verify: %s%s", r.stdout, r.stderr)
	}
	m.unmount()
}
