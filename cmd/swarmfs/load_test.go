package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"swarmfs/cache"
	"swarmfs/metainfo"
)

// makeTorrent returns a .torrent of one small file.
func makeTorrent(t *testing.T, name string, private bool) (*metainfo.Torrent, []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("content of "+name), 0o600); err != nil {
		t.Fatal(err)
	}
	torrent, err := metainfo.Create(t.Context(), path, metainfo.CreateOptions{
		Private: private, Trackers: [][]string{{"http://own.example/announce"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	data, err := torrent.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return torrent, data
}

// testLoader records warnings.
func testLoader(state *cache.State, stdin string) (*loader, func() []string) {
	var (
		mu       sync.Mutex
		warnings []string
	)
	l := &loader{stdin: strings.NewReader(stdin), state: state, warn: func(label string, err error) {
		mu.Lock()
		defer mu.Unlock()
		warnings = append(warnings, label+": "+err.Error())
	}}
	return l, func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(warnings) }
}

// serve answers with the handler on loopback.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestSourcesOfEveryKindAreLoadedInOrder(t *testing.T) {
	one, oneData := makeTorrent(t, "one", false)
	two, twoData := makeTorrent(t, "two", false)
	three, threeData := makeTorrent(t, "three", false)
	four, fourData := makeTorrent(t, "four", false)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/two?x", http.StatusFound)
			return
		}
		_, _ = w.Write(twoData)
	})
	dir := t.TempDir()
	for name, data := range map[string][]byte{"b.torrent": fourData, "a.TORRENT": threeData, "c.txt": []byte("no"), "d.torrent": []byte("broken")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, warnings := testLoader(nil, string(oneData))
	all, err := l.loadAll(t.Context(), []string{"-", url + "/moved", dir})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range all {
		got = append(got, a.torrent.Info.Name)
	}
	want := []string{one.Info.Name, two.Info.Name, three.Info.Name, four.Info.Name}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if w := warnings(); len(w) != 1 || !strings.Contains(w[0], "d.torrent") {
		t.Errorf("warnings: got %q, want one about d.torrent", w)
	}
}

func TestATorrentGivenTwiceIsLoadedOnce(t *testing.T) {
	_, data := makeTorrent(t, "one", false)
	path := writeFile(t, "a.torrent", string(data))
	l, warnings := testLoader(nil, "")
	all, err := l.loadAll(t.Context(), []string{path, path})
	if err != nil || len(all) != 1 {
		t.Fatalf("got %d torrents, %v, want 1", len(all), err)
	}
	if len(warnings()) != 1 {
		t.Errorf("warnings: got %q, want one", warnings())
	}
}

func TestServersThatMisbehaveAreRefusedWithTheCause(t *testing.T) {
	_, data := makeTorrent(t, "one", false)
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/404":
			http.NotFound(w, r)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/huge":
			for range maxTorrent/(1<<20) + 2 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		case "/html":
			fmt.Fprint(w, "<html>log in first</html>")
		case "/cut":
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			_, _ = w.Write(data[:len(data)/2])
		}
	})
	for path, want := range map[string]string{
		"/404": "the server answered 404", "/loop": "more than 5 redirects", "/file": "unsupported protocol scheme",
		"/huge": "larger than 30MiB", "/html": "it is a web page", "/cut": "unexpected EOF", "/empty": "it is empty",
	} {
		l, _ := testLoader(nil, "")
		_, err := l.loadAll(t.Context(), []string{address + path + "?passkey=SECRET"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
			continue
		}
		if exitCode(err) != exitInput || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: exit code %d, error %v: want code %d and no secret", path, exitCode(err), err, exitInput)
		}
	}
}

func TestMagnetLinksAreCompletedFromTheirExactSource(t *testing.T) {
	torrent, data := makeTorrent(t, "one", false)
	other, _ := makeTorrent(t, "two", false)
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) })
	l, _ := testLoader(nil, "")

	link := "magnet:?xt=urn:btih:" + torrent.Info.Hash.String() + "&xs=" + url +
		"&tr=http%3A%2F%2Fmore.example%2Fannounce&tr=http%3A%2F%2Fown.example%2Fannounce&x.pe=192.0.2.1:5&x.pe=name.example:5"
	all, err := l.loadAll(t.Context(), []string{link})
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Concat(all[0].torrent.Trackers...)
	if want := []string{"http://own.example/announce", "http://more.example/announce"}; !slices.Equal(got, want) {
		t.Errorf("trackers: got %q, want %q", got, want)
	}
	if len(all[0].peers) != 1 || all[0].peers[0].String() != "192.0.2.1:5" {
		t.Errorf("peers: got %v, want the literal address alone", all[0].peers)
	}

	_, err = l.loadAll(t.Context(), []string{"magnet:?xt=urn:btih:" + other.Info.Hash.String() + "&xs=" + url})
	if err == nil || !strings.Contains(err.Error(), "another torrent than the link's") {
		t.Errorf("wrong torrent at xs: got %v, want a refusal", err)
	}
}

func TestAPrivateTorrentTakesNothingFromTheLink(t *testing.T) {
	torrent, data := makeTorrent(t, "one", true)
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) })
	l, _ := testLoader(nil, "")
	all, err := l.loadAll(t.Context(), []string{"magnet:?xt=urn:btih:" + torrent.Info.Hash.String() + "&xs=" + url +
		"&tr=http%3A%2F%2Fmore.example%2Fannounce&x.pe=192.0.2.1:5&ws=http%3A%2F%2Fweb.example%2F"})
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Concat(all[0].torrent.Trackers...); len(got) != 1 || len(all[0].peers) != 0 || len(all[0].torrent.WebSeeds) != 0 {
		t.Errorf("got trackers %q, peers %v, web seeds %q, want the torrent's own tracker alone", got, all[0].peers, all[0].torrent.WebSeeds)
	}
}

func TestALinkWithoutMetadataWaitsUnlessItIsRemembered(t *testing.T) {
	torrent, data := makeTorrent(t, "one", false)
	_, otherData := makeTorrent(t, "two", false)
	other := writeFile(t, "two.torrent", string(otherData))
	state, err := cache.OpenState(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	hash := torrent.Info.Hash.String()

	l, warnings := testLoader(state, "")
	if _, err := l.loadAll(t.Context(), []string{hash}); !errors.Is(err, errNoMetadata) || exitCode(err) != exitInput {
		t.Errorf("alone: got %v, want errNoMetadata and code %d", err, exitInput)
	}
	all, err := l.loadAll(t.Context(), []string{hash, other})
	if err != nil || len(all) != 1 || len(warnings()) != 1 {
		t.Errorf("beside another: got %d torrents, %v, warnings %q, want one torrent and one warning", len(all), err, warnings())
	}

	l.links = true
	if all, err := l.loadAll(t.Context(), []string{hash, other, "magnet:?xt=urn:btih:" + hash + "&xs=http://127.0.0.1:1/"}); err != nil || len(all) != 2 ||
		all[0].torrent != nil || all[0].magnet.Hash != torrent.Info.Hash || all[1].torrent == nil {
		t.Errorf("where links may wait: got %+v, %v, want the link once and the torrent", all, err)
	}
	l.links = false

	if err := state.Put(torrent.Info.Hash, []byte("damaged")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.loadAll(t.Context(), []string{hash}); !errors.Is(err, errNoMetadata) {
		t.Errorf("damaged memory: got %v, want errNoMetadata", err)
	}
	if err := state.Put(torrent.Info.Hash, data); err != nil {
		t.Fatal(err)
	}
	all, err = l.loadAll(t.Context(), []string{strings.ToUpper(hash)})
	if err != nil || len(all) != 1 || all[0].torrent.Info.Hash != torrent.Info.Hash {
		t.Errorf("remembered: got %v, %v, want the torrent", all, err)
	}
}

func TestAnInterruptEndsAFetch(t *testing.T) {
	asked := make(chan struct{})
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("told to stop")
	result := make(chan error, 1)
	go func() {
		_, err := nets{}.forUser().fetch(ctx, url)
		result <- err
	}()
	<-asked
	cancel(stop)
	if err := <-result; !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
}

func TestALocalSessionAsksOnlyThisMachine(t *testing.T) {
	torrent, data := makeTorrent(t, "one", false)
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) })
	link := "magnet:?xt=urn:btih:" + torrent.Info.Hash.String() + "&xs="
	l, _ := testLoader(nil, "")
	f := networkFlags{listen: addressList{addresses: []string{"127.0.0.1:0"}}}
	confined := net.DefaultResolver
	defer func() { net.DefaultResolver = confined }()
	l.nets = f.networks(slog.New(slog.DiscardHandler))
	if _, err := l.loadAll(t.Context(), []string{link + url}); err != nil {
		t.Errorf("a server on loopback: %v", err)
	}
	for _, elsewhere := range []string{"http://192.0.2.1/a", "http://name.example/a", "http://[2001:db8::1]/a"} {
		_, err := l.loadAll(t.Context(), []string{link + elsewhere})
		if err == nil || !strings.Contains(err.Error(), "--listen is") {
			t.Errorf("%s: got %v, want that it is not on this machine", elsewhere, err)
		}
	}
}
