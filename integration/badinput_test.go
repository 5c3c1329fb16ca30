package integration

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every mistake is answered by one line and a documented exit code, and
// leaves nothing mounted.
func TestMountAnswersBadInputInOneLine(t *testing.T) {
	good := single(t, "good", 100_000, 16<<10)
	garbage := filepath.Join(t.TempDir(), "garbage.torrent")
	write(t, garbage, "this is not a torrent")
	truncated := filepath.Join(t.TempDir(), "truncated.torrent")
	whole, err := os.ReadFile(good.torrent)
	if err != nil {
		t.Fatal(err)
	}
	write(t, truncated, string(whole[:len(whole)/2]))
	escaping := makeTorrent(t, map[string]any{
		"name": "escaping", "piece length": int64(16 << 10), "pieces": strings.Repeat("x", 20),
		"files": []any{map[string]any{"length": int64(10), "path": []any{"..", "..", "etc", "passwd"}}},
	})
	lying := makeTorrent(t, map[string]any{
		"name": "lying", "piece length": int64(16 << 10), "pieces": strings.Repeat("x", 20), "length": int64(1 << 40),
	})

	for _, c := range []struct {
		name    string
		code    int
		flags   []string
		sources []string                              // good.torrent unless given
		point   func(t *testing.T, dir string) string // an empty folder unless given
	}{
		{name: "no arguments", code: exitUsage, sources: []string{}, point: func(*testing.T, string) string { return "" }},
		{name: "no mountpoint", code: exitUsage, point: func(*testing.T, string) string { return "" }},
		{name: "unknown flag", code: exitUsage, flags: []string{"--no-such-flag"}},
		{name: "size that is no size", code: exitUsage, flags: []string{"--cache-size", "much"}},
		{name: "background that is none", code: exitUsage, flags: []string{"--background", "sometimes"}},
		{name: "listen address without a port", code: exitUsage, flags: []string{"--listen", "nonsense"}},
		{name: "peer without a port", code: exitUsage, flags: []string{"--peer", "10.0.0.1"}},
		{name: "config that is not there", code: exitUsage, flags: []string{"--config", "/nonexistent.toml"}},

		{name: "torrent that is not there", code: exitBadInput, sources: []string{"/nonexistent.torrent"}},
		{name: "garbage", code: exitBadInput, sources: []string{garbage}},
		{name: "cut torrent", code: exitBadInput, sources: []string{truncated}},
		{name: "empty file", code: exitBadInput, sources: []string{"/dev/null"}},
		{name: "path that leaves the folder", code: exitBadInput, sources: []string{escaping}},
		{name: "too few hashes", code: exitBadInput, sources: []string{lying}},
		{name: "magnet without a hash", code: exitBadInput, sources: []string{"magnet:?dn=x"}},
		{name: "URL that nobody serves", code: exitBadInput, sources: []string{"http://127.0.0.1:1/x.torrent"}},
		{name: "good and bad together", code: exitBadInput, sources: []string{good.torrent, garbage}},

		{name: "mountpoint that is not there", code: exitMount, point: func(_ *testing.T, dir string) string { return dir + "/nonexistent" }},
		{name: "mountpoint that is a file", code: exitMount, point: func(t *testing.T, dir string) string {
			write(t, dir+"/file", "")
			return dir + "/file"
		}},
		{name: "folder that is not empty", code: exitMount, point: func(t *testing.T, dir string) string {
			write(t, dir+"/file", "keep me")
			return dir
		}},
		{name: "folder with our mount on it", code: exitMount, point: func(t *testing.T, _ string) string {
			return mount(t, newNode(t), mountOptions{}, good.torrent).point
		}},

		{name: "port in use", code: exitNetwork, flags: []string{"--listen", hubIP + ":0"}}, // the port is put in below
		{name: "address of another machine", code: exitNetwork, flags: []string{"--listen", "192.0.2.1:7000"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			requireNamespaces(t)
			flags := slices.Clone(c.flags)
			if c.name == "port in use" {
				l, err := net.Listen("tcp", flags[1])
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				flags[1] = l.Addr().String()
			}
			dir := t.TempDir()
			point, kept := dir, []os.DirEntry(nil)
			if c.point != nil {
				point = c.point(t, dir)
			}
			occupied := isMounted(t, point)
			if !occupied {
				kept, _ = os.ReadDir(dir)
			}
			sources := c.sources
			if sources == nil {
				sources = []string{good.torrent}
			}
			args := slices.Concat([]string{"mount", "--data", t.TempDir()}, onlyGivenPeers)
			if !slices.Contains(flags, "--listen") {
				args = append(args, "--listen", "127.0.0.1:0")
			}
			args = slices.Concat(args, flags, sources)
			if point != "" {
				args = append(args, point)
			}
			t.Cleanup(func() { detach(t, point) })
			oneLine(t, run(t, readyLimit, swarmfs(args...)), c.code)
			if !occupied && isMounted(t, point) {
				t.Errorf("%s is mounted", point)
			}
			if left, _ := os.ReadDir(dir); !occupied && len(left) != len(kept) {
				t.Errorf("the folder held %v and now holds %v", kept, left)
			}
		})
	}
}

func TestOtherCommandsAnswerBadInputInOneLine(t *testing.T) {
	good := single(t, "fine", 100_000, 16<<10)
	garbage := filepath.Join(t.TempDir(), "garbage.torrent")
	write(t, garbage, "d4:infoi1ee")
	empty := t.TempDir()
	for _, c := range []struct {
		name string
		code int
		args []string
	}{
		{"unknown command", exitUsage, []string{"dance"}},
		{"create without a path", exitUsage, []string{"create"}},
		{"create of nothing", exitBadInput, []string{"create", "-o", filepath.Join(t.TempDir(), "x.torrent"), "/nonexistent"}},
		{"piece size of no power of two", exitUsage, []string{"create", "-o", filepath.Join(t.TempDir(), "x.torrent"), "--piece-size", "17KiB", good.original(good.files[0])}},
		{"seed without files", exitUsage, []string{"seed", good.torrent}},
		{"seed of garbage", exitBadInput, []string{"seed", "--listen", "127.0.0.1:0", garbage, good.dir}},
		{"seed of files that are not there", exitBadInput, []string{"seed", "--listen", "127.0.0.1:0", good.torrent, empty}},
		{"info of nothing", exitBadInput, []string{"info", "/nonexistent"}},
		{"info of garbage", exitBadInput, []string{"info", garbage}},
		{"info without a source", exitUsage, []string{"info"}},
		{"verify of garbage", exitBadInput, []string{"verify", garbage, good.dir}},
	} {
		t.Run(c.name, func(t *testing.T) {
			requireNamespaces(t)
			oneLine(t, run(t, readyLimit, swarmfs(c.args...)), c.code)
		})
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// makeTorrent writes a torrent with this info dictionary and returns its path.
func makeTorrent(t testing.TB, info map[string]any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "crafted.torrent")
	write(t, path, string(appendBencode(nil, map[string]any{"info": info})))
	return path
}
