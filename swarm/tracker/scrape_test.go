package tracker

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestAScrapeIsWhereAnnouncesAre(t *testing.T) {
	for _, tc := range []struct{ announce, scrape string }{
		{"http://t/announce", "http://t/scrape?"},
		{"http://t/x/announce", "http://t/x/scrape?"},
		{"http://t/announce.php?passkey=a%20b+c", "http://t/scrape.php?passkey=a%20b+c&"},
		{"http://t/k%2Fy/announce/", ""},
		{"http://t/k%2Fy/announce#x", "http://t/k%2Fy/scrape?"},
		{"http://t/a", ""},
		{"http://t", ""},
		{"http://t/x%064announce", ""},
		{"http://t/announce/x", ""},
	} {
		u, err := url.Parse(tc.announce)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := scrapeURL(u, [20]byte{'a', 'b', 0xff})
		want := tc.scrape + "info_hash=ab%FF" + strings.Repeat("%00", 17)
		if ok != (tc.scrape != "") || ok && got.String() != want {
			t.Errorf("%s: got %v, %v, want %s", tc.announce, got, ok, want)
		}
	}
}

func TestATrackerIsScrapedOverHTTP(t *testing.T) {
	hash := testRequest.InfoHash
	known := "d5:filesd20:" + string(hash[:]) + "d8:completei5e10:downloadedi50e10:incompletei10eeee"
	for _, tc := range []struct {
		name, body string
		want       Scrape
		refused    string
	}{
		{"known", known, Scrape{5, 10, 50}, ""},
		{"in part", "d5:filesd20:" + string(hash[:]) + "d8:completei5e10:incompletei-3eeee", Scrape{5, -1, -1}, ""},
		{"unknown", "d5:filesdee", Scrape{}, "torrent is not known"},
		{"refused", "d14:failure_reason9:not todaye", Scrape{}, "not today"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got *http.Request
			host, _ := serve(t, "127.0.0.2", func(w http.ResponseWriter, r *http.Request) {
				got = r
				io.WriteString(w, tc.body)
			})
			s, err := newTestClient(t, Options{}).Scrape(t.Context(), "http://"+host+"/announce?k=1", hash)
			refusal := (*FailureError)(nil)
			if errors.As(err, &refusal) != (tc.refused != "") || refusal != nil && refusal.Reason != tc.refused || s != tc.want {
				t.Errorf("got %+v, %v", s, err)
			}
			if q := got.URL.Query(); got.URL.Path != "/scrape" || q.Get("k") != "1" || q.Get("info_hash") != string(hash[:]) {
				t.Errorf("asked for %s", got.URL)
			}
		})
	}
	for _, body := range []string{"", "d5:filesi1ee", "de", "i1e"} {
		host, _ := serve(t, "127.0.0.2", answer(body))
		if _, err := newTestClient(t, Options{}).Scrape(t.Context(), "http://"+host+"/announce", hash); err == nil {
			t.Errorf("%q was taken for an answer", body)
		}
	}
	if _, err := newTestClient(t, Options{}).Scrape(t.Context(), "http://127.0.0.1:1/other", hash); !errors.Is(err, ErrNoScrape) {
		t.Errorf("got %v, want ErrNoScrape", err)
	}
}

func TestATrackerIsScrapedOverUDP(t *testing.T) {
	asked := make(chan []byte, 1)
	rawURL, _ := serveUDP(t, "udp4", "127.0.0.1:0", func(q udpPacket) [][]byte {
		switch q.action {
		case actionConnect:
			return [][]byte{q.honest('c')}
		case actionScrape:
			asked <- q.p
			return [][]byte{
				q.reply(actionScrape, "\x00\x00\x00\x05"), // too short: ignored
				q.reply(actionScrape, "\x00\x00\x00\x05\x00\x00\x00\x32\x00\x00\x00\x0a"),
			}
		}
		return nil
	})
	s, err := newTestClient(t, Options{}).Scrape(t.Context(), rawURL, testRequest.InfoHash)
	if want := (Scrape{Seeders: 5, Leechers: 10, Completed: 50}); err != nil || s != want {
		t.Errorf("got %+v, %v, want %+v", s, err, want)
	}
	if p := <-asked; len(p) != 36 || !bytes.Equal(p[:8], []byte("cccccccc")) || !bytes.Equal(p[16:], testRequest.InfoHash[:]) {
		t.Errorf("asked with %x", p)
	}
}

func TestAPartialSeedSaysSo(t *testing.T) {
	u := &url.URL{Scheme: "http", Host: "t", Path: "/announce"}
	r := testRequest
	r.Event, r.Paused = None, true
	if got := announceURL(u, r).Query().Get("event"); got != "paused" {
		t.Errorf("got event %q", got)
	}
	r.Event = Stopped
	if got := announceURL(u, r).Query()["event"]; len(got) != 1 || got[0] != "stopped" {
		t.Errorf("got events %q", got)
	}
}

func FuzzParseScrape(f *testing.F) {
	f.Add([]byte("d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei5eeee"))
	f.Add([]byte("d14:failure reason1:xe"))
	u := &url.URL{Scheme: "http", Host: "t", Path: "/announce"}
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := parseScrape(body, u, [20]byte([]byte("aaaaaaaaaaaaaaaaaaaa")))
		if s.Seeders < -1 || s.Leechers < -1 || s.Completed < -1 || err != nil && s != (Scrape{}) {
			t.Errorf("got %+v, %v", s, err)
		}
		_, _ = parseUDPScrape(body)
	})
}
