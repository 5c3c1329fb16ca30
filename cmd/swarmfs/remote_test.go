package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"swarmfs/cmd/swarmfs/internal/api"
)

// serveControl has c answer the commands that name its data folder.
func serveControl(t *testing.T, c *controller) {
	t.Helper()
	s := api.NewServer(c.flags.data, c, exitCode, slog.New(slog.DiscardHandler))
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	g.Go(func() { _ = s.Serve(ctx) })
	t.Cleanup(func() {
		cancel()
		g.Wait()
	})
}

func TestWhatFailsDoesNotHoldUpTheRest(t *testing.T) {
	data, folder := t.TempDir(), t.TempDir()
	c, _ := daemonAt(t, data, 64<<20, album(t))
	serveControl(t, c)
	for name, l := range map[string]loaded{"a": album(t), "b": torrentOf(t, "b", map[string]string{"f": "b"})} {
		if err := os.WriteFile(filepath.Join(folder, name+".torrent"), marshalled(t, l), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		args   []string
		code   int
		stdout string
		stderr string // the beginning of each line
	}{
		{[]string{"add", folder + "/a.torrent", folder + "/b.torrent"}, exitInput, "added: b\n", "swarmfs: add "},
		{[]string{"pin", "none", "b", "mnt/none", "album/a"}, exitInput, "pinned: b (1 piece, 1 B)\npinned: album/a (2 pieces, 20 KiB)\n", "swarmfs: pin none: |swarmfs: pin mnt/none: "},
		{[]string{"rm", "album/a", "none", "album"}, exitUsage, "removed: album\n", "swarmfs: remove album/a: |swarmfs: rm none: "},
		{[]string{"rm", "b", "none"}, exitInput, "removed: b\n", "swarmfs: rm none: "},
		{[]string{"rm", "none"}, exitInput, "", "swarmfs: rm none: "},
	} {
		var stdout, stderr bytes.Buffer
		code := run(append(tc.args, "--data", data), nil, &stdout, &stderr)
		if code != tc.code || stdout.String() != tc.stdout {
			t.Errorf("%v: exit code %d, %q, want %d, %q", tc.args, code, stdout.String(), tc.code, tc.stdout)
		}
		lines := strings.Split(strings.TrimSuffix(stderr.String(), "\n"), "\n")
		wants := strings.Split(tc.stderr, "|")
		for i, want := range wants {
			if len(lines) != len(wants) || !strings.HasPrefix(lines[i], want) {
				t.Errorf("%v: got %q, want lines that begin with %q", tc.args, lines, wants)
				break
			}
		}
	}
}
