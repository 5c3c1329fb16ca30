package integration

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestFilesFromEveryClientCanBeCopiedOutOfTheMount(t *testing.T) {
	for _, from := range clients {
		for _, scheme := range []string{"http", "udp"} {
			t.Run(from.name+" by "+scheme, func(t *testing.T) {
				t.Parallel()
				tracker := newTracker(t)
				c := album(t, tracker.url(scheme))
				tracker.serve(c)
				from.seed(t, newNode(t), c)
				tracker.waitSeeder(c)
				m := mount(t, newNode(t), mountOptions{}, c.torrent)
				c.copyOut(t, m.point)
				m.unmount()
			})
		}
	}
}

func TestTorrentsOfEveryShapeCanBeCopiedOut(t *testing.T) {
	const kib, mib = 1 << 10, 1 << 20
	var tiny []fileSpec // dozens share a piece
	for i := range 300 {
		tiny = append(tiny, fileSpec{path: fmt.Sprintf("%d/%d", i%7, i), size: int64(i * i % 5000)})
	}
	for _, shape := range []struct {
		name        string
		pieceLength int64
		files       []fileSpec
	}{
		{"one byte", 16 * kib, []fileSpec{{size: 1}}},
		{"exactly one piece", 64 * kib, []fileSpec{{size: 64 * kib}}},
		{"one byte more than whole pieces", 64 * kib, []fileSpec{{size: 4*64*kib + 1}}},
		{"pieces of one block", 16 * kib, []fileSpec{{size: 5*mib + 321}}},
		{"pieces of 16 MiB", 16 * mib, []fileSpec{{size: 33*mib + 5}}},
		{"many files in a piece", 256 * kib, tiny},
		{"a folder of one file", 64 * kib, []fileSpec{{path: "only", size: 100 * kib}}},
		{"files without bytes around one", 16 * kib, []fileSpec{
			{path: "a"},
			{path: "b/c"},
			{path: "d", size: 20 * kib},
			{path: "e"},
		}},
	} {
		t.Run(shape.name, func(t *testing.T) {
			t.Parallel()
			c := makeContent(t, shape.name, shape.pieceLength, shape.files)
			l := seedLibtorrent(t, newNode(t), c)
			m := mount(t, newNode(t), mountOptions{flags: []string{"--peer", l.address}}, c.torrent)
			c.copyOut(t, m.point)
			m.unmount()
		})
	}
}

func TestManyTorrentsShareOneMount(t *testing.T) {
	t.Parallel()
	a, b := album(t), single(t, "song.ogg", 3<<20, 64<<10)
	seedA, seedB := seedLibtorrent(t, newNode(t), a), seedLibtorrent(t, newNode(t), b)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--peer", seedA.address, "--peer", seedB.address}},
		a.torrent, b.torrent)
	a.copyOut(t, m.point)
	b.copyOut(t, m.point)
	m.unmount()
}

func TestAFolderOfTorrentsIsASource(t *testing.T) {
	t.Parallel()
	c := single(t, "from a folder", 1<<20, 64<<10)
	l := seedLibtorrent(t, newNode(t), c)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--peer", l.address}}, filepath.Dir(c.torrent))
	c.copyOut(t, m.point)
	m.unmount()
}

// Four seeders serve one file, so pieces are put together from several peers.
func TestSeveralPeersServeOneFile(t *testing.T) {
	t.Parallel()
	c := single(t, "from four", 48<<20, 1<<20)
	var flags []string
	for range 4 {
		flags = append(flags, "--peer", seedLibtorrent(t, newNode(t), c).address)
	}
	m := mount(t, newNode(t), mountOptions{flags: flags}, c.torrent)
	c.copyOut(t, m.point)
	m.unmount()
}

func TestListingTwentyThousandFilesIsQuick(t *testing.T) {
	t.Parallel()
	const pieceLength = 16 << 10
	var files []any
	var total int64
	for i := range 20_000 {
		size := int64(i % 3)
		path := []any{fmt.Sprintf("folder %03d", i%100), fmt.Sprintf("file %05d.txt", i)}
		files = append(files, map[string]any{"length": size, "path": path})
		total += size
	}
	torrent := makeTorrent(t, map[string]any{
		"name": "twenty thousand", "piece length": int64(pieceLength), "files": files,
		"pieces": strings.Repeat("x", int((total+pieceLength-1)/pieceLength)*20),
	})
	m := mount(t, newNode(t), mountOptions{}, torrent)
	// Half a second is the aim; what fails here is listing in seconds per thousand.
	r := run(t, listLimit, exec.Command("find", filepath.Join(m.point, "twenty thousand"), "-type", "f", "-printf", "%s\n"))
	if r.code != 0 {
		t.Errorf("find: exit code %d: %s", r.code, r.stderr)
	}
	var got [3]int
	for _, b := range []byte(r.stdout) {
		if b != '\n' {
			got[b-'0']++
		}
	}
	if want := [3]int{6667, 6667, 6666}; got != want {
		t.Errorf("files of 0, 1, 2 bytes: got %v, want %v", got, want)
	}
	m.unmount()
}
