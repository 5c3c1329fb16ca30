package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"swarmfs/cache"
	"swarmfs/cmd/swarmfs/internal/api"
	"swarmfs/fs"
	"swarmfs/metainfo"
	"swarmfs/swarm"
	"swarmfs/swarm/network"
)

// daemonAt is a controller of everything a mount has but the kernel's part, with
// its data in a folder; the function ends it.
func daemonAt(t *testing.T, data string, budget int64, torrents ...loaded) (*controller, func()) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store, err := cache.Open(cache.Options{Dir: data, Budget: budget, Memory: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	state, err := cache.OpenState(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	session, err := swarm.New(swarm.Options{Store: store, Local: true})
	if err != nil {
		t.Fatal(err)
	}
	m := &mounter{
		flags: &mountFlags{data: data}, dir: "/mnt/t", realDir: "/real/t", log: log, started: time.Now(),
		store: store, state: state, session: session, nets: nets{own: network.New(network.Options{Local: true})},
	}
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	g.Go(func() { _ = session.Serve(ctx) })
	stop := sync.OnceFunc(func() {
		cancel()
		g.Wait()
		if err := store.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	if err := m.show(torrents); err != nil {
		t.Fatal(err)
	}
	return &controller{m}, stop
}

// torrentOf makes a torrent without trackers of files with these contents.
func torrentOf(t *testing.T, name string, files map[string]string) loaded {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	for path, content := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	torrent, err := metainfo.Create(t.Context(), dir, metainfo.CreateOptions{PieceLength: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return loaded{torrent: torrent, label: name}
}

// album has the pieces 0 and 1 in a, 1 and 2 in d/b, 2 in d/c.
func album(t *testing.T) loaded {
	return torrentOf(t, "album", map[string]string{
		"a": strings.Repeat("a", 20<<10), "d/b": strings.Repeat("b", 20<<10), "d/c": "c",
	})
}

func TestFindTakesPathsNamesAndInfohashes(t *testing.T) {
	one := torrentOf(t, "one", map[string]string{"album": "x", ".hidden": "y"})
	c, _ := daemonAt(t, t.TempDir(), 0, album(t), one)
	hash := one.torrent.Info.Hash.String()
	for of, want := range map[api.Target]string{
		{Arg: "album"}:                                               "album",
		{Arg: "album", Path: "/home/me/album"}:                       "album",
		{Arg: "album", Path: "/mnt/t/one/album"}:                     "one/album", // what is there wins over a name
		{Arg: "album", Path: "/mnt/t/one/x/album"}:                   "album",
		{Arg: "x", Path: "/mnt/t/album/d/b"}:                         "album/d/b",
		{Arg: "x", Path: "/real/t/album/d"}:                          "album/d",
		{Arg: "x", Path: "/mnt/t/one/.hidden"}:                       "one/.hidden",
		{Arg: hash}:                                                  "one",
		{Arg: strings.ToUpper(hash), Path: "/tmp/" + hash}:           "one",
		{Arg: "none"}:                                                "",
		{Arg: ""}:                                                    "",
		{Arg: "x", Path: "/mnt/t"}:                                   "",
		{Arg: "x", Path: "/mnt/t/album/d/b/more"}:                    "",
		{Arg: "x", Path: "/mnt/tt/album"}:                            "",
		{Arg: "x", Path: "/mnt/t/../t2/album"}:                       "",
		{Arg: "album/a", Path: "album/a"}:                            "album/a",
		{Arg: "album/d/", Path: "/home/me/album/d"}:                  "album/d",
		{Arg: "/album/a", Path: "/album/a"}:                          "",
		{Arg: "../album/a", Path: "/home/album/a"}:                   "",
		{Arg: "album/../one", Path: "/home/me/one"}:                  "one",
		{Arg: "album/x", Path: "/home/me/album/x"}:                   "",
		{Arg: "x", Path: "/mnt/t/.swarmfs/version"}:                  "",
		{Arg: "x", Path: "/mnt/t/album/" + strings.Repeat("../", 9)}: "",
	} {
		p, err := c.find("status", of)
		got := ""
		if err == nil {
			got = p.torrent.nodePath(p.node)
		} else if code := exitCode(err); code != exitInput && code != exitUsage {
			t.Errorf("%+v: exit code %d", of, code)
		}
		if got != want {
			t.Errorf("%+v: got %q, %v, want %q", of, got, err, want)
		}
	}
}

func TestStatusTellsHowFarAFolderAndPinsAre(t *testing.T) {
	c, _ := daemonAt(t, t.TempDir(), 64<<20, album(t))
	if _, err := c.Pin(t.Context(), api.Target{Arg: "album/d/b"}); err != nil {
		t.Fatal(err)
	}
	held(t, c, album(t).torrent.Info, 1)
	for arg, want := range map[string]api.File{
		"album/a":   {Path: "album/a", Length: 20 << 10, Pieces: 2, PiecesHeld: 1},
		"album/d":   {Path: "album/d", Length: 20<<10 + 1, Pieces: 2, PiecesHeld: 1},
		"album/d/b": {Path: "album/d/b", Length: 20 << 10, Pieces: 2, PiecesHeld: 1, Pinned: true},
	} {
		st, err := c.Status(t.Context(), api.Target{Arg: arg})
		if err != nil {
			t.Fatal(err)
		}
		if got := st.Torrents[0]; *got.File != want || got.PinnedHeld != 1 || pinnedPieces(&got) != 2 {
			t.Errorf("%s: got %+v, %d of %d pinned pieces held, want %+v and 1 of 2", arg, *got.File, got.PinnedHeld, pinnedPieces(&got), want)
		}
	}
	st, err := c.Status(t.Context(), api.Target{Arg: "album"})
	if err != nil || st.Torrents[0].File != nil {
		t.Errorf("of a torrent: got %+v, %v", st, err)
	}
}

// held puts a piece of the album into the cache.
func held(t *testing.T, c *controller, info *metainfo.Info, piece int) {
	t.Helper()
	v, err := c.store.Volume(info.Hash, geometry(info))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Repeat("a", 20<<10) + strings.Repeat("b", 20<<10) + "c"
	d, err := v.Draft(piece, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteBlock(0, []byte(all[piece*16<<10:(piece+1)*16<<10])); err != nil {
		t.Fatal(err)
	}
	if !d.Verify() || d.Commit() != nil {
		t.Fatal("the piece is not taken")
	}
}

func TestTorrentsComeAndGo(t *testing.T) {
	c, _ := daemonAt(t, t.TempDir(), 0, album(t))
	other := torrentOf(t, "album", map[string]string{"a": "other"})
	data, err := other.torrent.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	request := api.AddRequest{Label: "x.torrent", Torrent: data}
	added, err := c.Add(t.Context(), request)
	if want := "album [" + other.torrent.Info.Hash.String()[:8] + "]"; err != nil || added.Name != want {
		t.Fatalf("got %q, %v, want %q", added.Name, err, want)
	}
	if _, err := c.Add(t.Context(), request); exitCode(err) != exitInput || !strings.Contains(err.Error(), "mounted already") {
		t.Errorf("again: got %v", err)
	}
	c.saveState(t.Context())
	if _, err := c.state.Get(other.torrent.Info.Hash); err != nil {
		t.Errorf("what was added is not remembered: %v", err)
	}
	for _, bad := range []api.AddRequest{{}, {Torrent: []byte("de")}, {Magnet: "magnet:?xt=urn:btmh:1220" + strings.Repeat("a", 64)}, {Magnet: "x"}} {
		if _, err := c.Add(t.Context(), bad); exitCode(err) != exitInput {
			t.Errorf("%+v: got %v, want bad input", bad, err)
		}
	}

	st, err := c.Status(t.Context(), api.Target{})
	if err != nil || len(st.Torrents) != 2 || st.Torrents[1].Name != added.Name {
		t.Fatalf("got %+v, %v, want two torrents", st, err)
	}
	// The mountpoint is everything to status, and nothing to the others.
	root := api.Target{Arg: ".", Path: "/mnt/t"}
	if st, err := c.Status(t.Context(), root); err != nil || len(st.Torrents) != 2 || st.Torrents[0].PeerList != nil {
		t.Errorf("status of the mountpoint: got %+v, %v", st, err)
	}
	if _, err := c.Remove(t.Context(), root); exitCode(err) != exitUsage {
		t.Errorf("remove the mountpoint: got %v", err)
	}
	if n := len(c.statusFiles()); n != 4 {
		t.Errorf("%d status files, want 4", n)
	}

	run := c.torrents()[0].run
	r, err := treeTorrent{Torrent: run}.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	var reads sync.WaitGroup
	reads.Go(func() {
		if _, err := r.ReadAt(context.Background(), make([]byte, 1), 0); !errors.Is(err, fs.ErrGone) {
			t.Errorf("a read of what is removed: got %v, want fs.ErrGone", err)
		}
	})
	if _, err := c.Remove(t.Context(), api.Target{Arg: "x", Path: "/mnt/t/album/a"}); exitCode(err) != exitUsage {
		t.Errorf("remove a file: got %v", err)
	}
	if done, err := c.Remove(t.Context(), api.Target{Arg: "album"}); err != nil || done.Name != "album" {
		t.Fatalf("got %+v, %v", done, err)
	}
	reads.Wait()
	if _, err := c.Remove(t.Context(), api.Target{Arg: "album"}); exitCode(err) != exitInput {
		t.Errorf("again: got %v", err)
	}
	if got := c.torrents(); len(got) != 1 || got[0].name != added.Name || len(c.statusFiles()) != 3 {
		t.Errorf("got %d torrents and %d files", len(got), len(c.statusFiles()))
	}
	if added, err := c.Add(t.Context(), api.AddRequest{Torrent: marshalled(t, album(t))}); err != nil || added.Name != "album" {
		t.Errorf("the removed one comes back: got %+v, %v", added, err)
	}
}

func marshalled(t *testing.T, l loaded) []byte {
	t.Helper()
	data, err := l.torrent.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestPinsSurviveARestart(t *testing.T) {
	data, a := t.TempDir(), album(t)
	c, stop := daemonAt(t, data, 1<<30, a)
	done, err := c.Pin(t.Context(), api.Target{Path: "/mnt/t/album/d"})
	if err != nil || done != (api.Done{Name: "album/d", Pieces: 2, Bytes: 20<<10 + 1}) {
		t.Fatalf("got %+v, %v", done, err)
	}
	if done, err := c.Pin(t.Context(), api.Target{Arg: "album"}); err != nil || done.Pieces != 3 {
		t.Fatalf("got %+v, %v", done, err)
	}
	if _, err := c.Unpin(t.Context(), api.Target{Path: "/mnt/t/album/a"}); err != nil {
		t.Fatal(err)
	}
	want := []api.Span{{First: 1, End: 3}} // piece 1 is d/b's too
	wantPins := func(c *controller) {
		t.Helper()
		st, err := c.Status(t.Context(), api.Target{Path: "/mnt/t/album/d/b"})
		if err != nil || len(st.Torrents) != 1 {
			t.Fatalf("got %+v, %v", st, err)
		}
		got := st.Torrents[0]
		if !slices.Equal(got.Pinned, want) || got.File == nil || !got.File.Pinned || got.File.Pieces != 2 || got.PeerList == nil {
			t.Errorf("got %+v, file %+v", got, got.File)
		}
		if st.Cache.Pinned != a.torrent.Info.Length-16<<10 {
			t.Errorf("%d bytes are pinned in the cache, want %d", st.Cache.Pinned, a.torrent.Info.Length-16<<10)
		}
	}
	wantPins(c)
	stop()
	c, stop = daemonAt(t, data, 1<<30, a)
	wantPins(c)
	if _, err := c.Remove(t.Context(), api.Target{Arg: "album"}); err != nil {
		t.Fatal(err)
	}
	if got := c.store.Stats().Pinned; got != 0 {
		t.Errorf("%d bytes stay pinned of a torrent that is gone", got)
	}
	stop()
	c, _ = daemonAt(t, data, 1<<30, a)
	if got := c.torrents()[0].run.Pinned(); len(got) != 0 {
		t.Errorf("got %v pinned, want nothing after the torrent was removed", got)
	}
}

func TestAPinThatCannotBeKeptIsRefused(t *testing.T) {
	big := torrentOf(t, "big", map[string]string{"f": strings.Repeat("x", 30<<20)})
	for budget, want := range map[int64]string{0: "the cache is in memory only", 32 << 20: "30.0 MiB do not fit: 0.0 MiB of the cache's "} {
		c, _ := daemonAt(t, t.TempDir(), budget, big)
		_, err := c.Pin(t.Context(), api.Target{Arg: "big"})
		if exitCode(err) != exitData || !strings.Contains(err.Error(), want) {
			t.Errorf("budget %d: got %v, want %q", budget, err, want)
		}
		if r, ok := c.state.Record(big.torrent.Info.Hash); ok && len(r.Pinned) > 0 {
			t.Errorf("budget %d: a refused pin is remembered: %+v", budget, r)
		}
	}
}

func TestLimitsAreSetOneByOne(t *testing.T) {
	c, _ := daemonAt(t, t.TempDir(), 0)
	for _, tc := range []struct {
		r    api.LimitRequest
		want api.Limits
	}{
		{api.LimitRequest{}, api.Limits{Seed: "while-cached"}},
		{api.LimitRequest{Upload: new(int64(5))}, api.Limits{Upload: 5, Seed: "while-cached"}},
		{api.LimitRequest{Download: new(int64(6))}, api.Limits{Upload: 5, Download: 6, Seed: "while-cached"}},
		{api.LimitRequest{Upload: new(int64(0)), Seed: new("off")}, api.Limits{Download: 6, Seed: "off"}},
	} {
		got, err := c.Limit(t.Context(), tc.r)
		if err != nil || got != tc.want {
			t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
		}
		if st, err := c.Status(t.Context(), api.Target{}); err != nil || st.Limits != tc.want {
			t.Errorf("status: got %+v, %v, want %+v", st.Limits, err, tc.want)
		}
	}
	if _, err := c.Limit(t.Context(), api.LimitRequest{Upload: new(int64(-1))}); exitCode(err) != exitUsage {
		t.Errorf("a negative limit: got %v", err)
	}
}

func TestATorrentHasLimitsOfItsOwn(t *testing.T) {
	one := torrentOf(t, "one", map[string]string{"f": "x"})
	c, _ := daemonAt(t, t.TempDir(), 0, one, torrentOf(t, "two", map[string]string{"f": "y"}))
	of := api.Target{Arg: "one"}
	for _, tc := range []struct {
		r    api.LimitRequest
		want api.Limits
	}{
		{api.LimitRequest{Torrent: of}, api.Limits{Seed: "while-cached"}},
		{api.LimitRequest{Torrent: of, Upload: new(int64(5)), Seed: new("ratio:2")}, api.Limits{Upload: 5, Seed: "ratio:2"}},
		{api.LimitRequest{Seed: new("off")}, api.Limits{Seed: "off"}},
		{api.LimitRequest{Torrent: of, Download: new(int64(6))}, api.Limits{Upload: 5, Download: 6, Seed: "ratio:2"}},
		{api.LimitRequest{Torrent: of, Seed: new("default")}, api.Limits{Upload: 5, Download: 6, Seed: "off"}},
	} {
		if got, err := c.Limit(t.Context(), tc.r); err != nil || got != tc.want {
			t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
		}
	}
	st, err := c.Status(t.Context(), api.Target{})
	if err != nil || len(st.Torrents) != 2 || st.Limits.Upload != 0 {
		t.Fatalf("status: got %+v, %v", st, err)
	}
	for _, s := range st.Torrents {
		if own := s.Name == "one"; s.Seed != "off" || (s.UploadLimit == 5) != own || (s.DownloadLimit == 6) != own {
			t.Errorf("status of %s: %s, %d, %d", s.Name, s.Seed, s.UploadLimit, s.DownloadLimit)
		}
	}
	for _, r := range []api.LimitRequest{
		{Torrent: of, Upload: new(int64(-1))}, {Torrent: of, CacheSize: new(int64(1))}, {Torrent: of, Seed: new("on")}, {Seed: new("default")},
	} {
		if _, err := c.Limit(t.Context(), r); exitCode(err) != exitUsage {
			t.Errorf("%+v: got %v", r, err)
		}
	}
	if _, err := c.Limit(t.Context(), api.LimitRequest{Torrent: api.Target{Arg: "three"}}); exitCode(err) != exitInput {
		t.Errorf("of no torrent: got %v", err)
	}
}

func TestTheCacheSizeIsALimit(t *testing.T) {
	c, _ := daemonAt(t, t.TempDir(), 64<<20)
	for _, size := range []int64{32 << 20, 0, 128 << 20} {
		got, err := c.Limit(t.Context(), api.LimitRequest{CacheSize: &size})
		if err != nil || got != (api.Limits{CacheSize: size, Seed: "while-cached"}) {
			t.Errorf("%d: got %+v, %v", size, got, err)
		}
		if st, err := c.Status(t.Context(), api.Target{}); err != nil || st.Limits.CacheSize != size || st.Cache.Budget != size {
			t.Errorf("%d: status has %+v, %+v, %v", size, st.Limits, st.Cache, err)
		}
	}
	if _, err := c.Limit(t.Context(), api.LimitRequest{CacheSize: new(int64(1 << 20))}); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "give at least 4MiB") {
		t.Errorf("a cache of 1 MiB: %v", err)
	}
	if _, err := c.Limit(t.Context(), api.LimitRequest{CacheSize: new(int64(-1)), Upload: new(int64(5))}); exitCode(err) != exitData {
		t.Errorf("a negative size: got %v", err)
	}
	if got, err := c.Limit(t.Context(), api.LimitRequest{}); err != nil || got != (api.Limits{CacheSize: 128 << 20, Seed: "while-cached"}) {
		t.Errorf("after a refusal: got %+v, %v", got, err)
	}
}
