package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A torrent made by the command has the infohash that others give the same
// files, and others can use it.
func TestCreateAgreesWithOtherMakers(t *testing.T) {
	requireNamespaces(t)
	t.Parallel()
	c := single(t, "create.bin", 3<<20+17, 64<<10)
	tracker := newTracker(t)
	made := filepath.Join(t.TempDir(), "made.torrent")
	r := run(t, copyLimit, swarmfs("create", "-o", made, "--piece-size", "64KiB", "--tracker", tracker.url("http"), c.original(c.files[0])))
	if r.code != exitOK {
		t.Fatalf("create: exit code %d: %s", r.code, r.stderr)
	}
	if got := infoJSON(t, made); got.InfohashV1 != c.hash || got.PieceLength != c.pieceLength || got.Length != c.size ||
		got.Name != c.name || got.Private || len(got.Files) != 1 {
		t.Errorf("info of what create made: got %+v, want infohash %s", got, c.hash)
	}
	c.torrent = made
	tracker.serve(c)
	p := seed(t, newNode(t), c)
	tracker.waitSeeder(c)
	dir := t.TempDir()
	leechAria2(t, newNode(t), c, dir)
	c.compare(t, dir)
	stopSeed(t, p)
}

// From a folder: create decides about order and padding, so only the content
// is compared, by a client that is not ours.
func TestAFolderMadeIntoATorrentIsDownloadedByOthers(t *testing.T) {
	requireNamespaces(t)
	t.Parallel()
	c := album(t)
	made := filepath.Join(t.TempDir(), "made.torrent")
	r := run(t, copyLimit, swarmfs("create", "-o", made, "--private", filepath.Join(c.dir, c.name)))
	if r.code != exitOK {
		t.Fatalf("create: exit code %d: %s", r.code, r.stderr)
	}
	got := infoJSON(t, made)
	if !got.Private || got.Name != c.name || len(got.Files) != len(c.files) {
		t.Errorf("info: got private %v, name %q, %d files, want true, %q, %d", got.Private, got.Name, len(got.Files), c.name, len(c.files))
	}
	c.torrent = made
	l := seedLibtorrent(t, newNode(t), c) // a wrong hash would be found by our side
	m := mount(t, newNode(t), mountOptions{flags: []string{"--peer", l.address}}, made)
	c.copyOut(t, m.point)
	m.unmount()
}

// infoOutput is what `swarmfs info --json` prints: an interface for scripts.
type infoOutput struct {
	Name        string   `json:"name"`
	InfohashV1  string   `json:"infohash_v1"`
	InfohashV2  string   `json:"infohash_v2"`
	Private     bool     `json:"private"`
	PieceLength int64    `json:"piece_length"`
	Length      int64    `json:"length"`
	WebSeeds    []string `json:"webseeds"`
	Trackers    any      `json:"trackers"`
	Files       []struct {
		Path   string `json:"path"`
		Length int64  `json:"length"`
	} `json:"files"`
}

func infoJSON(t testing.TB, source string) infoOutput {
	t.Helper()
	r := run(t, readyLimit, swarmfs("info", "--json", source))
	if r.code != exitOK {
		t.Fatalf("info: exit code %d: %s", r.code, r.stderr)
	}
	var out infoOutput
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
		t.Fatalf("info --json: %v\n%s", err, r.stdout)
	}
	return out
}

func TestInfoTellsWhatIsInATorrent(t *testing.T) {
	requireNamespaces(t)
	c := album(t, "http://tracker.example/announce", "udp://tracker.example:80")
	got := infoJSON(t, c.torrent)
	if got.InfohashV1 != c.hash || got.Name != c.name || got.Length != c.size || got.PieceLength != c.pieceLength {
		t.Errorf("got %+v, want infohash %s, name %s, length %d", got, c.hash, c.name, c.size)
	}
	if len(got.Files) != len(c.files) {
		t.Fatalf("got %d files, want %d", len(got.Files), len(c.files))
	}
	for i, f := range c.files {
		if g := got.Files[i]; g.Length != f.size || !strings.HasSuffix(g.Path, f.path) {
			t.Errorf("file %d: got %+v, want %s of %d", i, g, f.path, f.size)
		}
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	requireNamespaces(t)
	t.Parallel()
	c := album(t)
	path := filepath.Join(c.dir, c.name)
	if r := run(t, copyLimit, swarmfs("verify", c.torrent, path)); r.code != exitOK {
		t.Errorf("verify of whole files: exit code %d, want %d: %s%s", r.code, exitOK, r.stdout, r.stderr)
	}
	f, err := os.OpenFile(filepath.Join(path, "big.bin"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{'!'}, 5<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if r := run(t, copyLimit, swarmfs("verify", c.torrent, path)); r.code != exitMismatch {
		t.Errorf("verify of damaged files: exit code %d, want %d: %s%s", r.code, exitMismatch, r.stdout, r.stderr)
	}
}

func TestVersionIsToldBothWays(t *testing.T) {
	requireNamespaces(t)
	for _, arg := range []string{"version", "--version"} {
		if r := run(t, readyLimit, swarmfs(arg)); r.code != exitOK || !strings.Contains(r.stdout, "swarmfs") {
			t.Errorf("swarmfs %s: exit code %d, %q", arg, r.code, r.stdout)
		}
	}
}
