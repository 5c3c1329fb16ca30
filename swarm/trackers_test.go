package swarm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"swarmfs/cache"
	"swarmfs/metainfo"
	"swarmfs/swarm/tracker"
)

// deadTracker is the host and port of a UDP tracker that says nothing.
func deadTracker(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().String()
}

// httpTracker is the host and port of one that answers as h does.
func httpTracker(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// tracked runs a torrent with these trackers, in tiers of one, in a session that
// logs all, until stop.
func tracked(t *testing.T, o Options, trackers ...string) (tor *Torrent, log *lockedBuffer, stop func() time.Duration) {
	t.Helper()
	c := makeContent(t, mebibyte)
	store, err := cache.Open(cache.Options{Memory: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	log = &lockedBuffer{}
	o.Local, o.Store, o.Listen = true, store, []string{"127.0.0.1:0"}
	o.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	meta := &metainfo.Torrent{Info: c.meta.Info}
	for _, url := range trackers {
		meta.Trackers = append(meta.Trackers, []string{url})
	}
	if tor, err = s.Add(meta, AddOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(ctx) })
	stop = sync.OnceValue(func() time.Duration {
		began := time.Now()
		cancel()
		serving.Wait()
		return time.Since(began)
	})
	t.Cleanup(func() { stop() })
	return tor, log, stop
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// within waits for what real sockets take.
func within(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", limit, what)
		}
	}
}

// states is how the trackers of a torrent do, a word each.
func states(tor *Torrent) string {
	var s []string
	for _, st := range tor.search.shown() {
		s = append(s, st.State.String())
	}
	return strings.Join(s, ",")
}

// AP-14: whatever trackers say and do, no passkey is in the log, the status or a
// text about them.
func TestNobodyIsShownAPasskey(t *testing.T) {
	const secret = "5ec2e7c0ffee5ec2"
	repeat := httpTracker(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("do") {
		case "warn":
			text := "the key is " + r.URL.Query().Get("passkey")
			fmt.Fprintf(w, "d8:intervali1800e5:peers0:15:warning message%d:%se", len(text), text)
		case "refuse":
			text := "unknown key " + r.URL.RawQuery
			fmt.Fprintf(w, "d14:failure reason%d:%se", len(text), text)
		case "redirect":
			http.Redirect(w, r, "/elsewhere/"+r.URL.Query().Get("passkey"), http.StatusFound)
		default:
			http.Error(w, r.URL.String(), http.StatusForbidden)
		}
	})
	query := "/announce?passkey=" + secret
	tor, log, stop := tracked(t, Options{AllTrackers: true},
		"http://"+repeat+query+"&do=refuse", "http://"+repeat+query+"&do=redirect", "http://"+repeat+query+"&do=warn", "http://"+repeat+query,
		"http://"+repeat+"/"+secret+"/announce", "http://user:"+secret+"@"+repeat+"/announce",
		"http://127.0.0.1:1"+query, "https://"+repeat+query, "udp://"+deadTracker(t)+"/"+secret+query)
	within(t, 20*time.Second, "all to have been asked", func() bool {
		got := states(tor)
		return strings.Count(got, "fails") == 7 && strings.Count(got, "works") == 1 && strings.HasSuffix(got, ",asking")
	})
	stop()
	text := log.String() + fmt.Sprintf("%+v", tor.search.shown()) + TrackersText(tor.search.shown())
	if i := strings.Index(text, secret); i >= 0 {
		t.Errorf("a passkey is shown: …%s…", text[max(0, i-200):i+len(secret)])
	}
	if !strings.Contains(text, "***") || !strings.Contains(text, "unknown key") {
		t.Errorf("nothing is told of the trackers: %s", text)
	}
}

// TR-09: trackers that know us and die do not hold up the end.
func TestASessionWithDeadTrackersEndsInTime(t *testing.T) {
	var dead sync.WaitGroup
	var once sync.Once
	hang := make(chan struct{})
	defer close(hang)
	dead.Add(1)
	stopping := httpTracker(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("event") == "stopped" {
			once.Do(dead.Done)
			select {
			case <-hang:
			case <-r.Context().Done():
			}
			return
		}
		_, _ = io.WriteString(w, "d8:intervali1800e5:peers0:e")
	})
	tor, _, stop := tracked(t, Options{AllTrackers: true}, "http://"+stopping+"/announce", "udp://"+deadTracker(t)+"/announce")
	within(t, 10*time.Second, "one to answer", func() bool { return states(tor) == "works,asking" })
	if d := stop(); d > 5*time.Second {
		t.Errorf("the end took %v, want 5s at most", d)
	}
	dead.Wait() // it was told
}

// Without the option one tracker that answers is enough; counts that an announce
// leaves out come from a scrape.
func TestTheStatusOfTrackersIsSeen(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("all %v", all), func(t *testing.T) {
			var tor *Torrent
			host := httpTracker(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/scrape" {
					hash := r.URL.Query().Get("info_hash")
					fmt.Fprintf(w, "d5:filesd20:%sd8:completei7e10:incompletei9eeee", hash)
					return
				}
				_, _ = io.WriteString(w, "d8:intervali1800e5:peers0:e")
			})
			tor, _, _ = tracked(t, Options{AllTrackers: all}, "http://127.0.0.1:1/announce", "http://"+host+"/announce", "http://"+host+"/announce?x")
			want := "fails,works,in reserve"
			if all {
				want = "fails,works,works"
			}
			within(t, 10*time.Second, want, func() bool {
				shown := tor.search.shown()
				return states(tor) == want && shown[1].Seeders == 7 && shown[1].Leechers == 9
			})
			st, err := tor.Status(t.Context(), false)
			if err != nil || len(st.Trackers) != 3 || st.Trackers[0].Error == "" {
				t.Errorf("got %+v, %v", st.Trackers, err)
			}
		})
	}
}

func TestWhyTrackersLeadToNobodyIsSaidInAFewWords(t *testing.T) {
	one := func(state tracker.State, failures int) TrackerStatus {
		return TrackerStatus{URL: "http://t/announce", State: state, Failures: failures, Error: map[bool]string{true: "refused"}[failures > 0], Seeders: -1, Leechers: -1}
	}
	works := one(tracker.Works, 0)
	works.Seeders = 3
	for want, all := range map[string][]TrackerStatus{
		"no trackers": nil,
		"1 tracker fails: http://t/announce: refused":       {one(tracker.Fails, 1)},
		"3 trackers fail: http://t/announce: refused":       {one(tracker.Asking, 2), one(tracker.Fails, 1), one(tracker.Never, 1)},
		"1 of 2 trackers fails: http://t/announce: refused": {one(tracker.Fails, 1), one(tracker.Reserve, 0)},
		"2 trackers have not answered yet":                  {one(tracker.Asking, 0), one(tracker.Reserve, 0)},
		"1 of 2 trackers works: seeders 3, leechers 0":      {one(tracker.Fails, 1), works},
	} {
		if got := TrackersText(all); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
