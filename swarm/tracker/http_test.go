package tracker

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const goodAnswer = "d8:intervali60e5:peers6:\x01\x02\x03\x04\x1a\xe1e"

// serve starts an HTTP tracker at addr, a loopback address, and returns its
// host and port, and how many connections it got.
func serve(t *testing.T, addr string, h http.HandlerFunc) (host string, connections *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", addr+":0")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	connections = new(atomic.Int32)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return l.Addr().String(), connections
}

func answer(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
}

func TestTheRequestHasTheBytesOfTheBEPs(t *testing.T) {
	var got *http.Request
	host, _ := serve(t, "127.0.0.2", func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(context.Background())
		io.WriteString(w, goodAnswer)
	})
	c := newTestClient(t, Options{})
	r := testRequest
	r.TrackerID, r.NumWant = "a b", 50
	r.IPv4, r.IPv6 = netip.MustParseAddr("1.2.3.4"), netip.MustParseAddr("2001:db8::1")
	resp, err := c.Announce(t.Context(), "http://"+host+"/pass%6Bey/announce.php?uid=%37 x&y#frag", r)
	if err != nil {
		t.Fatal(err)
	}
	want := "/pass%6Bey/announce.php?uid=%37%20x&y" +
		"&info_hash=%00%01%20%2B%26%3D%25~-._aZ09%FF%FE%80%7F%2F&peer_id=-SF0100-abcdefghijkl" +
		"&port=6881&uploaded=1&downloaded=2&left=3&key=0000beef&numwant=50&compact=1&no_peer_id=1&supportcrypto=1" +
		"&event=started&trackerid=a%20b&ipv4=1.2.3.4&ipv6=2001%3Adb8%3A%3A1"
	if got.RequestURI != want {
		t.Errorf("got  %s\nwant %s", got.RequestURI, want)
	}
	if ua := got.UserAgent(); ua != "swarmfs/0.1" {
		t.Errorf("user agent %q", ua)
	}
	wantResp := Response{Interval: time.Minute, Seeders: -1, Leechers: -1, Peers: addrPorts("1.2.3.4:6881")}
	if !reflect.DeepEqual(resp, wantResp) {
		t.Errorf("got %+v, want %+v", resp, wantResp)
	}
}

func TestARegularAnnounceHasNoEventAndAStoppedOneWantsNoPeers(t *testing.T) {
	for _, c := range []struct {
		r             Request
		event, want   string
		uploaded, ids string
	}{
		{Request{}, "", "200", "0", ""},
		{Request{Event: Completed, NumWant: -1, Uploaded: -5}, "completed", "0", "0", ""},
		{Request{Event: Stopped, NumWant: 50, Uploaded: 1 << 40, TrackerID: "x"}, "stopped", "0", "1099511627776", "x"},
	} {
		u, err := parseURL("http://t.example/announce")
		if err != nil {
			t.Fatal(err)
		}
		q := announceURL(u, c.r).Query()
		if q.Get("event") != c.event || q.Get("numwant") != c.want || q.Get("uploaded") != c.uploaded || q.Get("trackerid") != c.ids {
			t.Errorf("%+v: got %v", c.r, q)
		}
		if _, ok := q["event"]; ok != (c.event != "") {
			t.Errorf("%+v: event is there: %v", c.r, ok)
		}
	}
}

func TestAnswersOfHostileTrackersAreBounded(t *testing.T) {
	endless := bytes.Repeat([]byte("a"), 64<<10)
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"endless chunks", func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(endless); err != nil {
					return
				}
			}
		}, "more than 2097152 bytes"},
		{"100 MB by its header", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000000")
			for range 100000000 / len(endless) {
				if _, err := w.Write(endless); err != nil {
					return
				}
			}
		}, "more than 2097152 bytes"},
		{"a gzip bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			for range 100 {
				z.Write(endless)
			}
			z.Close()
		}, "more than 2097152 bytes"},
		{"a body that stops", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "d8:interval")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "deadline exceeded"},
		{"a header that does not come", func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}, "timeout awaiting response headers"},
		{"a megabyte of header", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			for range 16 {
				if _, err := fmt.Fprintf(conn, "X: %s\r\n", endless); err != nil {
					return
				}
			}
		}, "server response headers exceeded"},
		{"a web page", answer("<html>"), "not a bencoded dictionary"},
		{"an error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, "HTTP status 503"},
		{"no content", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "HTTP status 204"},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, _ := serve(t, "127.0.0.2", c.handler)
			client := newTestClient(t, Options{})
			switch c.name {
			case "a body that stops":
				client.httpTimeout = 100 * time.Millisecond
			case "a header that does not come":
				client.headerTimeout = 100 * time.Millisecond
			}
			_, err := client.Announce(t.Context(), "http://"+host+"/0123456789/announce", testRequest)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if strings.Contains(err.Error(), "0123456789") || strings.Contains(err.Error(), "info_hash") {
				t.Errorf("the passkey or the whole URL is in %v", err)
			}
		})
	}
}

func TestARefusalInWordsCountsMoreThanItsStatus(t *testing.T) {
	host, _ := serve(t, "127.0.0.2", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, "d14:failure reason30:passkey 0123456789 is unknown!e")
	})
	_, err := newTestClient(t, Options{}).Announce(t.Context(), "http://"+host+"/0123456789/announce", testRequest)
	f := (*FailureError)(nil)
	if !errors.As(err, &f) || f.Reason != "passkey *** is unknown!" {
		t.Errorf("got %v", err)
	}
}

func TestCompressedAnswersAreRead(t *testing.T) {
	host, _ := serve(t, "127.0.0.2", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, goodAnswer)
		z.Close()
	})
	if _, err := newTestClient(t, Options{}).Announce(t.Context(), "http://"+host+"/announce", testRequest); err != nil {
		t.Error(err)
	}
}

func TestRedirectsAreFollowedWithinTheWorldOnly(t *testing.T) {
	local, connections := serve(t, "127.0.0.1", answer(goodAnswer))
	_, port, err := net.SplitHostPort(local)
	if err != nil {
		t.Fatal(err)
	}
	var self string
	var referer atomic.Value
	self, _ = serve(t, "127.0.0.2", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/end" {
			referer.Store(r.Referer())
			io.WriteString(w, goodAnswer)
			return
		}
		target := map[string]string{
			"/once":     "http://" + self + "/end",
			"/5":        "http://" + self + "/4",
			"/4":        "http://" + self + "/3",
			"/3":        "http://" + self + "/2",
			"/2":        "http://" + self + "/once",
			"/6":        "http://" + self + "/5",
			"/loop":     "http://" + self + "/loop?" + r.URL.RawQuery + "x",
			"/loopback": "http://" + local + "/announce",
			"/name":     "http://localhost:" + port + "/announce",
			"/cloud":    "http://169.254.169.254/announce",
			"/file":     "file:///etc/passwd",
			"/udp":      "udp://" + self + "/announce",
			"/idna":     "http://xn--bcher-kva.example/announce",
		}[r.URL.Path]
		http.Redirect(w, r, target, http.StatusFound)
	})
	c := newTestClient(t, Options{})
	for _, e := range []struct{ path, want string }{
		{"/once", ""},
		{"/5", ""},
		{"/6", "more than 5 redirects"},
		{"/loop", "more than 5 redirects"},
		{"/loopback", "redirects to local address 127.0.0.1"},
		{"/name", "redirects to local address"},
		{"/cloud", "no tracker can be at address 169.254.169.254"},
		{"/file", `scheme "file" is not supported`},
		{"/udp", "redirect from http to udp"},
		{"/idna", "internationalised"},
	} {
		_, err := c.Announce(t.Context(), "http://"+self+e.path+"?passkey=0123456789", testRequest)
		if (err == nil) != (e.want == "") || (err != nil && !strings.Contains(err.Error(), e.want)) {
			t.Errorf("%s: got %v, want %q", e.path, err, e.want)
		}
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections to the local address", n)
	}
	if r := referer.Load(); r != "" {
		t.Errorf("the passkey went along in the referer %q", r)
	}
}

func TestALocalTrackerMustBeCalledAnnounce(t *testing.T) {
	host, connections := serve(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/announce" && r.URL.Query().Get("to") != "" {
			http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
			return
		}
		io.WriteString(w, goodAnswer)
	})
	c := newTestClient(t, Options{})
	if _, err := c.Announce(t.Context(), "http://"+host+"/announce", testRequest); err != nil {
		t.Error(err)
	}
	before := connections.Load()
	for _, path := range []string{"", "/", "/admin", "/announce/x", "/x/../announce"} {
		if _, err := c.Announce(t.Context(), "http://"+host+path, testRequest); err == nil {
			t.Errorf("%q: was announced to", path)
		}
	}
	if n := connections.Load(); n != before {
		t.Errorf("%d connections for other paths", n-before)
	}
	if _, err := c.Announce(t.Context(), "http://"+host+"/announce?to=/admin", testRequest); err == nil {
		t.Error("a redirect to another path was followed")
	}
}

func TestCertificatesAreVerified(t *testing.T) {
	s := httptest.NewUnstartedServer(answer(goodAnswer))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // our refusals
	s.StartTLS()
	t.Cleanup(s.Close)
	_, err := newTestClient(t, Options{}).Announce(t.Context(), s.URL+"/announce", testRequest)
	if bad := (x509.UnknownAuthorityError{}); !errors.As(err, &bad) {
		t.Errorf("self-signed: got %v", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	trusting := newTestClient(t, Options{RootCAs: pool})
	if _, err := trusting.Announce(t.Context(), s.URL+"/announce", testRequest); err != nil {
		t.Errorf("trusted: got %v", err)
	}
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = trusting.Announce(t.Context(), "https://localhost:"+port+"/announce", testRequest)
	if bad := (x509.HostnameError{}); !errors.As(err, &bad) {
		t.Errorf("wrong host: got %v", err)
	}
}

func TestARedirectFromHTTPSToHTTPIsRefused(t *testing.T) {
	plain, connections := serve(t, "127.0.0.1", answer(goodAnswer))
	s := httptest.NewTLSServer(http.RedirectHandler("http://"+plain+"/announce", http.StatusFound))
	t.Cleanup(s.Close)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	_, err := newTestClient(t, Options{RootCAs: pool}).Announce(t.Context(), s.URL+"/announce", testRequest)
	if err == nil || !strings.Contains(err.Error(), "redirect from https to http") {
		t.Errorf("got %v", err)
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections in the clear", n)
	}
}

func TestCancellingAndClosingEndAnAnnounce(t *testing.T) {
	asked := make(chan struct{}, 2)
	host, _ := serve(t, "127.0.0.2", func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	})
	c := newTestClient(t, Options{})
	why := errors.New("the torrent is removed")
	ctx, cancel := context.WithCancelCause(t.Context())
	result := make(chan error, 1)
	announce := func(ctx context.Context) {
		_, err := c.Announce(ctx, "http://"+host+"/announce", testRequest)
		result <- err
	}
	go announce(ctx)
	<-asked
	cancel(why)
	if err := <-result; !errors.Is(err, why) {
		t.Errorf("cancelled: got %v", err)
	}
	go announce(t.Context())
	<-asked
	c.Close()
	if err := <-result; !errors.Is(err, ErrClosed) {
		t.Errorf("closed: got %v", err)
	}
	if _, err := c.Announce(t.Context(), "http://"+host+"/announce", testRequest); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v", err)
	}
}
