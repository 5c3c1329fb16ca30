package integration

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// fileSpec is a file to make: random bytes, or if islands is set, holes with
// random bytes at those offsets (64 KiB each, cut at the end of the file).
type fileSpec struct {
	path    string // below the torrent's name; "" in a torrent of a single file
	size    int64
	islands []int64
}

// content is files on disk and the torrent that describes them. Its torrents
// are made here and not by the command under test, so that both can be wrong
// only if they are wrong in the same way.
type content struct {
	name        string
	dir         string // holds the file or folder called name
	torrent     string // path of the .torrent
	hash        string // infohash in lower-case hex
	rawHash     [20]byte
	files       []fileSpec
	pieceLength int64
	size        int64
	webSeeds    []string // of the next describe
	dhtNodes    []string // likewise: HOST:PORT (BEP 5)
}

// original is the path of a file of the content.
func (c *content) original(f fileSpec) string { return filepath.Join(c.dir, c.name, f.path) }

func makeContent(t testing.TB, name string, pieceLength int64, files []fileSpec, trackers ...string) *content {
	t.Helper()
	return makeContentIn(t, t.TempDir(), name, pieceLength, files, trackers...)
}

func makeContentIn(t testing.TB, dir, name string, pieceLength int64, files []fileSpec, trackers ...string) *content {
	t.Helper()
	requireNamespaces(t) // with -short nobody will use it
	c := &content{name: name, dir: dir, files: files, pieceLength: pieceLength}
	random := rand.NewChaCha8(sha256Seed(name))
	for _, f := range files {
		if err := writeFile(c.original(f), f, random); err != nil {
			t.Fatal(err)
		}
		c.size += f.size
	}
	c.describe(t, trackers...)
	return c
}

// describe writes the .torrent of files that are there.
func (c *content) describe(t testing.TB, trackers ...string) {
	t.Helper()
	sums, err := c.hashPieces()
	if err != nil {
		t.Fatal(err)
	}
	info := map[string]any{"name": c.name, "piece length": c.pieceLength, "pieces": sums}
	if len(c.files) == 1 && c.files[0].path == "" {
		info["length"] = c.files[0].size
	} else {
		var list []any
		for _, f := range c.files {
			var path []any
			for part := range strings.SplitSeq(f.path, "/") {
				path = append(path, part)
			}
			list = append(list, map[string]any{"length": f.size, "path": path})
		}
		info["files"] = list
	}
	meta := map[string]any{"info": info}
	if len(trackers) > 0 {
		meta["announce"] = trackers[0]
		var tiers []any
		for _, url := range trackers {
			tiers = append(tiers, []any{url})
		}
		meta["announce-list"] = tiers
	}
	if len(c.webSeeds) > 0 {
		var list []any
		for _, url := range c.webSeeds {
			list = append(list, url)
		}
		meta["url-list"] = list
	}
	if len(c.dhtNodes) > 0 {
		var list []any
		for _, node := range c.dhtNodes {
			host, port, err := net.SplitHostPort(node)
			if err != nil {
				t.Fatal(err)
			}
			number, err := strconv.ParseInt(port, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, []any{host, number})
		}
		meta["nodes"] = list
	}
	c.rawHash = sha1.Sum(appendBencode(nil, info))
	c.hash = hex.EncodeToString(c.rawHash[:])
	c.torrent = filepath.Join(t.TempDir(), c.name+".torrent")
	if err := os.WriteFile(c.torrent, appendBencode(nil, meta), 0o644); err != nil {
		t.Fatal(err)
	}
}

// sha256Seed makes the bytes of a content depend on its name alone.
func sha256Seed(name string) (seed [32]byte) {
	sum := sha1.Sum([]byte(name))
	copy(seed[:], sum[:])
	return seed
}

func writeFile(path string, spec fileSpec, random *rand.ChaCha8) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if spec.islands == nil {
		if _, err := io.CopyN(f, random, spec.size); err != nil {
			return err
		}
		return f.Close()
	}
	if err := f.Truncate(spec.size); err != nil {
		return err
	}
	for _, off := range spec.islands {
		island := make([]byte, min(64<<10, spec.size-off))
		_, _ = random.Read(island) // never fails
		if _, err := f.WriteAt(island, off); err != nil {
			return err
		}
	}
	return f.Close()
}

func (c *content) hashPieces() (string, error) {
	all := &filesReader{c: c}
	defer all.close()
	piece, zeros := make([]byte, c.pieceLength), make([]byte, c.pieceLength)
	zeroSum := sha1.Sum(zeros)
	var sums bytes.Buffer
	for {
		n, err := io.ReadFull(all, piece)
		if n > 0 {
			sum := zeroSum // most of a sparse file: compared ten times faster than hashed
			if !bytes.Equal(piece[:n], zeros) {
				sum = sha1.Sum(piece[:n])
			}
			sums.Write(sum[:])
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return sums.String(), nil
		default:
			return "", err
		}
	}
}

// filesReader reads the files of a content one after the other.
type filesReader struct {
	c    *content
	next int
	open *os.File
}

func (r *filesReader) Read(p []byte) (int, error) {
	for {
		if r.open == nil {
			if r.next == len(r.c.files) {
				return 0, io.EOF
			}
			f, err := os.Open(r.c.original(r.c.files[r.next]))
			if err != nil {
				return 0, err
			}
			r.open, r.next = f, r.next+1
		}
		n, err := r.open.Read(p)
		if err != io.EOF {
			return n, err
		}
		r.close()
		if n > 0 {
			return n, nil
		}
	}
}

func (r *filesReader) close() {
	if r.open != nil {
		r.open.Close()
		r.open = nil
	}
}

// appendBencode knows the four kinds of BEP 3.
func appendBencode(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return append(fmt.Appendf(b, "%d:", len(v)), v...)
	case int64:
		return fmt.Appendf(b, "i%de", v)
	case []any:
		b = append(b, 'l')
		for _, e := range v {
			b = appendBencode(b, e)
		}
		return append(b, 'e')
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, cmp.Compare[string])
		b = append(b, 'd')
		for _, k := range keys {
			b = appendBencode(appendBencode(b, k), v[k])
		}
		return append(b, 'e')
	default:
		panic(fmt.Sprintf("bencode of %T", v))
	}
}

// album is a torrent with the shapes that catch mistakes: a file of many
// pieces, files that share a piece, files of no bytes at the start, in the
// middle and at the end, names of several bytes a letter.
func album(t testing.TB, trackers ...string) *content {
	t.Helper()
	files := []fileSpec{
		{path: "00 empty at the start"},
		{path: "big.bin", size: 9<<20 + 12345},
		{path: "disc 1/one.flac", size: 70_001},
		{path: "disc 1/two.flac", size: 1},
		{path: "disc 1/empty.cue"},
		{path: "disc 1/Žluťoučký kůň 馬.txt", size: 300_000},
		{path: "disc 2/deep/er/and/deeper/leaf", size: 16<<10 + 1},
	}
	for i := range 60 {
		files = append(files, fileSpec{path: fmt.Sprintf("scans/%03d.png", i), size: int64(i * 1009)})
	}
	files = append(files, fileSpec{path: "last.bin", size: 2 << 20}, fileSpec{path: "zz empty at the end"})
	return makeContent(t, "album", 256<<10, files, trackers...)
}

// single is a torrent of one file.
func single(t testing.TB, name string, size, pieceLength int64, trackers ...string) *content {
	t.Helper()
	return makeContent(t, name, pieceLength, []fileSpec{{size: size}}, trackers...)
}

// compare checks that dir holds exactly the content, byte for byte. dir is a
// plain directory: what it got from a mount was copied by another process.
func (c *content) compare(t testing.TB, dir string) {
	t.Helper()
	for _, f := range c.files {
		compareFiles(t, filepath.Join(dir, c.name, f.path), c.original(f))
	}
	want := make(map[string]bool)
	for _, f := range c.files {
		want[filepath.Join(dir, c.name, f.path)] = true
	}
	err := filepath.WalkDir(filepath.Join(dir, c.name), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !want[path] {
			t.Errorf("%s is not in the torrent", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func compareFiles(t testing.TB, gotPath, wantPath string) {
	t.Helper()
	got, err := os.Open(gotPath)
	if err != nil {
		t.Error(err)
		return
	}
	defer got.Close()
	want, err := os.Open(wantPath)
	if err != nil {
		t.Error(err)
		return
	}
	defer want.Close()
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); ; off += int64(len(b)) {
		n, errGot := io.ReadFull(got, a)
		m, errWant := io.ReadFull(want, b)
		if !bytes.Equal(a[:n], b[:m]) {
			i := 0
			for i < min(n, m) && a[i] == b[i] {
				i++
			}
			t.Errorf("%s differs from %s at byte %d (block of %d bytes, want %d)", gotPath, wantPath, off+int64(i), n, m)
			return
		}
		if errGot != nil || errWant != nil {
			if errGot != errWant {
				t.Errorf("%s: %v, original: %v", gotPath, errGot, errWant)
			}
			return
		}
	}
}

// copyOut copies a torrent's tree from a mount with cp and compares it.
func (c *content) copyOut(t testing.TB, mountpoint string) {
	t.Helper()
	dir := t.TempDir()
	mustRun(t, copyLimit, "cp", "-r", "--", filepath.Join(mountpoint, c.name), dir)
	c.compare(t, dir)
}
