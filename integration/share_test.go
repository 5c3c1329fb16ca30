package integration

import (
	"os"
	"path/filepath"
	"testing"
)

// repack makes a torrent of the same bytes as a big file: two files, the second of which
// begins with a piece, behind zeros as BEP 47 has them. The big file has them too.
func repack(t testing.TB, c *content, name string, first int64) *content {
	t.Helper()
	original := c.original(c.files[0])
	data, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	second := first + (c.pieceLength-first%c.pieceLength)%c.pieceLength
	clear(data[first:second])
	if err := os.WriteFile(original, data, 0o644); err != nil {
		t.Fatal(err)
	}
	c.describe(t)

	other := &content{name: name, dir: t.TempDir(), pieceLength: c.pieceLength, size: c.size}
	at := int64(0)
	for _, f := range []struct {
		path string
		end  int64
	}{{"a/first.bin", first}, {".pad/1000", second}, {"b/second.bin", c.size}} {
		spec := fileSpec{path: f.path, size: f.end - at}
		path := other.original(spec)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data[at:f.end], 0o644); err != nil {
			t.Fatal(err)
		}
		other.files = append(other.files, spec)
		at = f.end
	}
	other.describe(t)
	return other
}

// A torrent whose pieces another has brought is added where nobody has it: every byte
// comes from the cache, and after a restart too.
func TestPiecesOfAnotherTorrentAreUsed(t *testing.T) {
	t.Parallel()
	big := single(t, "big.bin", 24<<20+5, 256<<10)
	again := repack(t, big, "again", 16<<20-1000)
	l := seedLibtorrent(t, newNode(t), big)
	n := newNode(t)
	m := mount(t, n, mountOptions{data: t.TempDir(), flags: []string{"--peer", l.address}}, big.torrent)
	big.copyOut(t, m.point)
	l.kill()

	if r := run(t, readyLimit, swarmfs("add", "--data", m.data, again.torrent)); r.code != exitOK {
		t.Fatalf("add: %s", r.stderr)
	}
	again.copyOut(t, m.point)
	check := func(borrowed int) {
		t.Helper()
		st := m.counters(again.hash)
		if st.Fetched != 0 || st.Borrowed != borrowed || st.PiecesHeld != 97 {
			t.Errorf("%d bytes were fetched, %d pieces borrowed, %d are held; want 0, %d and 97", st.Fetched, st.Borrowed, st.PiecesHeld, borrowed)
		}
	}
	check(97)
	m.unmount()

	m = mount(t, n, mountOptions{data: m.data}, big.torrent, again.torrent)
	again.copyOut(t, m.point)
	check(0)
	m.unmount()
}

// The same where the other torrent lies in files that are imported.
func TestPiecesOfAnImportAreUsed(t *testing.T) {
	t.Parallel()
	big := single(t, "big.bin", 8<<20+5, 256<<10)
	again := repack(t, big, "again", 4<<20-1000)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--import", big.dir}}, again.torrent, big.torrent)
	again.copyOut(t, m.point)
	if st := m.counters(again.hash); st.Fetched != 0 || st.Borrowed != 33 {
		t.Errorf("%d bytes were fetched, %d pieces borrowed, want 33", st.Fetched, st.Borrowed)
	}
	m.unmount()
}

// The other torrent was in a mount before, and is not any more: its pieces are in the
// cache. A read that waits for peers gets them.
func TestPiecesOfATorrentThatIsNotMountedAreUsed(t *testing.T) {
	t.Parallel()
	big := single(t, "big.bin", 8<<20+5, 256<<10)
	again := repack(t, big, "again", 4<<20-1000)
	later := repack(t, big, "later", 4<<20-1000)
	l := seedLibtorrent(t, newNode(t), big)
	n := newNode(t)
	m := mount(t, n, mountOptions{data: t.TempDir(), flags: []string{"--peer", l.address}}, big.torrent)
	big.copyOut(t, m.point)
	l.kill()
	m.unmount()

	m = mount(t, n, mountOptions{data: m.data}, again.torrent)
	again.copyOut(t, m.point)
	if r := run(t, readyLimit, swarmfs("add", "--data", m.data, later.torrent)); r.code != exitOK {
		t.Fatalf("add: %s", r.stderr)
	}
	later.copyOut(t, m.point)
	for _, c := range []*content{again, later} {
		if st := m.counters(c.hash); st.Fetched != 0 || st.Borrowed != 33 {
			t.Errorf("%s: %d bytes were fetched, %d pieces borrowed, want 33", c.name, st.Fetched, st.Borrowed)
		}
	}
	m.unmount()
}
