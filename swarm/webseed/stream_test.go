package webseed

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"swarmfs/metainfo"
)

const blockLen = 16 << 10

// site is a web server on loopback that has the files of a torrent.
type site struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string // "path range"
	conns atomic.Int64
}

func serve(t *testing.T, h http.HandlerFunc) *site {
	t.Helper()
	return start(t, h, (*httptest.Server).Start)
}

func start(t *testing.T, h http.HandlerFunc, how func(*httptest.Server)) *site {
	t.Helper()
	s := &site{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, strings.TrimSpace(r.URL.Path+" "+strings.TrimPrefix(r.Header.Get("Range"), "bytes=")))
		s.mu.Unlock()
		h(w, r)
	}))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			s.conns.Add(1)
		}
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	how(s.Server)
	t.Cleanup(s.Close)
	return s
}

func (s *site) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// file serves bytes as an honest server does.
func file(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

func stream(t *testing.T, src *Source, o Options) *Stream {
	t.Helper()
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", a.String())
		}
	}
	if o.Lookup == nil {
		o.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
			return nil, errors.New("no such host " + host)
		}
	}
	s := NewStream(src, o)
	t.Cleanup(s.Close)
	return s
}

// reader reads blocks and compares them.
type reader struct {
	*Stream
	t    *testing.T
	data []byte
}

func (r *reader) block(off int64, until int64) error {
	r.t.Helper()
	n := min(blockLen, int64(len(r.data))-off)
	b, err := r.Block(r.t.Context(), off, int(n), func() int64 { return until })
	if err == nil && !bytes.Equal(b, r.data[off:off+n]) {
		r.t.Fatalf("block at %d: wrong bytes", off)
	}
	return err
}

func (r *reader) blocks(off, end int64) {
	r.t.Helper()
	for ; off < end; off += blockLen {
		if err := r.block(off, end); err != nil {
			r.t.Fatalf("block at %d: %v", off, err)
		}
	}
}

func TestReadingOnMakesLongRequests(t *testing.T) {
	data := randomBytes(20*64<<10 + 123)
	srv := serve(t, file(data))
	r := &reader{stream(t, source(t, Files, srv.URL+"/x", single("x", int64(len(data)))), Options{}), t, data}
	r.blocks(0, int64(len(data)))
	want := []string{"/x 0-65535", "/x 65536-327679", "/x 327680-1310842"}
	// All that is wanted is known at once, so one request would do; but who asks
	// for block after block gets a piece, then four, then the rest.
	r2 := &reader{stream(t, r.src, Options{}), t, data}
	for off := int64(0); off < int64(len(data)); off += blockLen {
		if err := r2.block(off, off); err != nil {
			t.Fatal(err)
		}
	}
	got := srv.requests()
	if len(got) != 1+len(want) || got[0] != "/x 0-1310842" {
		t.Fatalf("got %q, want one request for all, and then %q", got, want)
	}
	for i := range want {
		if got[1+i] != want[i] {
			t.Errorf("request %d: got %s, want %s", i, got[1+i], want[i])
		}
	}
	if n := srv.conns.Load(); n != 2 {
		t.Errorf("%d connections for two streams that read on", n)
	}
	r2.Close()
	if n := r2.TakeSkipped(); n != 0 {
		t.Errorf("%d bytes came for nothing", n)
	}
}

func TestAJumpAsksForThePieceAlone(t *testing.T) {
	data := randomBytes(64 * 64 << 10)
	srv := serve(t, file(data))
	r := &reader{stream(t, source(t, Files, srv.URL+"/x", single("x", int64(len(data)))), Options{}), t, data}
	for _, piece := range []int64{40, 3, 17, 18, 62} {
		r.blocks(piece*64<<10, (piece+1)*64<<10)
	}
	want := "/x 2621440-2686975,/x 196608-262143,/x 1114112-1179647,/x 1179648-1441791,/x 4063232-4128767"
	if got := strings.Join(srv.requests(), ","); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestASmallGapIsSkippedAndALargeOneIsNot(t *testing.T) {
	data := randomBytes(64 * 64 << 10)
	srv := serve(t, file(data))
	r := &reader{stream(t, source(t, Files, srv.URL+"/x", single("x", int64(len(data)))), Options{}), t, data}
	all := int64(len(data))
	for _, off := range []int64{0, 3 * blockLen, 200 * blockLen} {
		if err := r.block(off, all); err != nil {
			t.Fatal(err)
		}
	}
	if got := srv.requests(); len(got) != 2 {
		t.Errorf("got %q, want one request that a gap of two blocks does not end, and another", got)
	}
	r.Close()
	if n := r.TakeSkipped(); n < 2*blockLen {
		t.Errorf("%d bytes are told as skipped, want two blocks at least", n)
	}
}

// Reads that go on side by side ask for what was skipped a little later.
func TestWhatWasSkippedIsStillThere(t *testing.T) {
	data := randomBytes(64 * 64 << 10)
	srv := serve(t, file(data))
	all := int64(len(data))
	r := &reader{stream(t, source(t, Files, srv.URL+"/x", single("x", all)), Options{}), t, data}
	if err := r.block(0, all); err != nil {
		t.Fatal(err)
	}
	off := int64(blockLen)
	for ; off+8*blockLen <= all; off += 8 * blockLen {
		for _, n := range []int64{4, 5, 0, 1, 6, 7, 2, 3} {
			if err := r.block(off+n*blockLen, all); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.blocks(off, all)
	r.Close()
	if got, n := srv.requests(), r.TakeSkipped(); len(got) != 1 || n != 0 {
		t.Errorf("got %q, and %d bytes for nothing", got, n)
	}
}

// Files one after another, empty ones and padding among them: a block may take
// several requests, and nothing is asked for that is no file.
func TestBlocksOverTheBordersOfFiles(t *testing.T) {
	f := func(name string, n int64) metainfo.File { return metainfo.File{Path: []string{name}, Length: n} }
	pad := func(n int64) metainfo.File {
		return metainfo.File{Path: []string{".pad", fmt.Sprint(n)}, Length: n, Pad: true}
	}
	info := multi("d", f("empty", 0), f("a", 10_000), pad(6_384), f("b", 100), f("none", 0), f("c", 5), f("e", 40_000), pad(300_000), f("g", 1))
	data := randomBytes(int(info.Length))
	for _, fl := range info.Files {
		if fl.Pad {
			clear(data[fl.Offset : fl.Offset+fl.Length])
		}
	}
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for _, fl := range info.Files {
			if r.URL.Path == "/d/"+strings.Join(fl.Path, "/") && fl.Length > 0 && !fl.Pad {
				file(data[fl.Offset:fl.Offset+fl.Length])(w, r)
				return
			}
		}
		t.Errorf("asked for %s", r.URL.Path)
		w.WriteHeader(http.StatusNotFound)
	})
	src := source(t, Files, srv.URL, info)
	(&reader{stream(t, src, Options{}), t, data}).blocks(0, info.Length)
	back := &reader{stream(t, src, Options{}), t, data}
	for off := (info.Length - 1) / blockLen * blockLen; off >= 0; off -= blockLen {
		back.blocks(off, min(off+blockLen, info.Length))
	}
}

func TestPiecesOfAScript(t *testing.T) {
	data := randomBytes(5*64<<10 + 1000)
	info := single("x", int64(len(data)))
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var piece, from, to int
		q := r.URL.Query()
		fmt.Sscan(q.Get("piece"), &piece)
		fmt.Sscanf(q.Get("ranges"), "%d-%d", &from, &to)
		if q.Get("info_hash") != string(info.Hash[:]) || r.Header.Get("Range") != "" {
			t.Errorf("asked for %s, range %q", r.URL, r.Header.Get("Range"))
		}
		w.Write(data[piece<<16+from : piece<<16+to+1])
	})
	r := &reader{stream(t, source(t, Pieces, srv.URL+"/s", info), Options{}), t, data}
	r.blocks(0, int64(len(data)))
	(&reader{stream(t, r.src, Options{}), t, data}).blocks(3*64<<10+2*blockLen, 4*64<<10)
	if got := srv.requests(); len(got) != 7 {
		t.Errorf("%d requests, want one for each of 6 pieces and another", len(got))
	}
}

// What a server may do wrong: each is an error, and none a wrong byte or a hang.
func TestServersThatDoOtherwise(t *testing.T) {
	data := randomBytes(4 * 64 << 10)
	n := len(data)
	partial := func(w http.ResponseWriter, length int, span string) {
		w.Header().Set("Content-Range", span)
		if length >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(length))
		}
		w.WriteHeader(http.StatusPartialContent)
	}
	second := fmt.Sprintf("bytes 65536-131071/%d", n)
	var fault *Fault
	var refusal *Refusal
	var missing *MissingFile
	for _, tc := range []struct {
		name string
		h    http.HandlerFunc
		ok   func(error) bool
	}{
		{"ignores ranges", func(w http.ResponseWriter, r *http.Request) { w.Write(data) }, func(err error) bool { return errors.As(err, &fault) }},
		{"short", func(w http.ResponseWriter, r *http.Request) {
			partial(w, 65536, second)
			w.Write(data[65536:70000])
			panic(http.ErrAbortHandler)
		}, func(err error) bool { return errors.Is(err, errCut) }},
		{"short without a length", func(w http.ResponseWriter, r *http.Request) {
			partial(w, -1, second)
			w.(http.Flusher).Flush()
			w.Write(data[65536:70000])
		}, func(err error) bool { return errors.Is(err, errCut) }},
		{"silent", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, func(err error) bool { return errors.Is(err, errStalled) }},
		{"silent in the middle", func(w http.ResponseWriter, r *http.Request) {
			partial(w, 65536, second)
			w.Write(data[65536:70000])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, func(err error) bool { return errors.Is(err, errStalled) }},
		{"hangs up", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, func(err error) bool { return err != nil }},
		{"429", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "1000000000")
			w.WriteHeader(429)
		}, func(err error) bool { return errors.As(err, &refusal) && refusal.Retry == time.Hour }},
		{"another file", file(data[:n-1]), func(err error) bool { return errors.As(err, &missing) }},
		{"redirects for ever", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}, func(err error) bool { return strings.Contains(err.Error(), "5 redirects") }},
		{"redirects to a file", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, func(err error) bool { return strings.Contains(err.Error(), "neither http nor https") }},
		{"redirects to a query here", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close")
			http.Redirect(w, r, "/admin?reboot=1", http.StatusFound)
		}, func(err error) bool { return strings.Contains(err.Error(), "has a query") }},
		{"a header without an end", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
		}, func(err error) bool { return err != nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := serve(t, tc.h)
			s := stream(t, source(t, Files, srv.URL+"/secretkey/x", single("x", int64(n))), Options{Stall: 300 * time.Millisecond})
			_, err := s.Block(t.Context(), 64<<10, blockLen, func() int64 { return 0 })
			if err == nil || !tc.ok(err) {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(err.Error(), "secretkey") {
				t.Errorf("the error tells the URL: %v", err)
			}
		})
	}
}

// Of what never ends no more is taken than was asked for, and of a file sent whole
// only what is before the end of what was wanted.
func TestEndlessBodiesAreCut(t *testing.T) {
	data := randomBytes(4 * 64 << 10)
	var sent atomic.Int64
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-65535/%d", len(data)))
		w.WriteHeader(http.StatusPartialContent)
		for i := 0; ; i++ {
			n, err := w.Write(data[:64<<10])
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	r := &reader{stream(t, source(t, Files, srv.URL+"/x", single("x", int64(len(data)))), Options{}), t, data}
	r.blocks(0, 64<<10)
	r.Close()
	if n := r.TakeSkipped(); n != 0 {
		t.Errorf("%d bytes too many were taken", n)
	}
	srv.CloseClientConnections()
}

func TestAPauseAndAConnectionThatWasClosed(t *testing.T) {
	data := randomBytes(64 * 64 << 10)
	srv := serve(t, file(data))
	r := &reader{stream(t, source(t, Files, srv.URL+"/x", single("x", int64(len(data)))), Options{}), t, data}
	r.blocks(0, 64<<10)
	srv.CloseClientConnections()
	r.blocks(64<<10, 128<<10) // the transport finds the idle connection closed, and connects again
	r.Close()
	r.blocks(256<<10, 512<<10)
}

func TestTheLimitIsAskedForEachByte(t *testing.T) {
	data := randomBytes(16 * 64 << 10)
	srv := serve(t, file(data))
	var passed atomic.Int64
	r := &reader{stream(t, source(t, Files, srv.URL+"/x", single("x", int64(len(data)))), Options{
		Pass: func(_ context.Context, n int) error { passed.Add(int64(n)); return nil },
	}), t, data}
	r.blocks(0, int64(len(data)))
	if passed.Load() != int64(len(data)) {
		t.Errorf("%d bytes passed, want %d", passed.Load(), len(data))
	}
	stop := errors.New("stop")
	r = &reader{stream(t, r.src, Options{Pass: func(context.Context, int) error { return stop }}), t, data}
	if err := r.block(0, 0); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

func TestCertificatesAreVerified(t *testing.T) {
	data := randomBytes(64 << 10)
	srv := start(t, file(data), (*httptest.Server).StartTLS)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	info := single("x", int64(len(data)))
	url := func(host string) string { return strings.Replace(srv.URL, "127.0.0.1", host, 1) + "/x" }
	here := func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	good := &reader{stream(t, source(t, Files, url("127.0.0.1"), info), Options{RootCAs: roots}), t, data}
	if err := good.block(0, 0); err != nil {
		t.Errorf("a good certificate: %v", err)
	}
	unknown := &reader{stream(t, source(t, Files, url("127.0.0.1"), info), Options{}), t, data}
	if err := unknown.block(0, 0); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("a certificate of nobody: %v", err)
	}
	wrong := &reader{stream(t, source(t, Files, url("another.host"), info), Options{RootCAs: roots, Lookup: here}), t, data}
	if err := wrong.block(0, 0); !errors.As(err, new(x509.HostnameError)) {
		t.Errorf("the certificate of another host: %v", err)
	}
	if got := srv.requests(); len(got) != 1 {
		t.Errorf("asked for %q", got)
	}
}

// world dials every address at one server here, and notes which.
func world(srv *site, dialled *[]string) func(context.Context, netip.AddrPort) (net.Conn, error) {
	return func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
		*dialled = append(*dialled, a.Addr().String())
		var d net.Dialer
		return d.DialContext(ctx, "tcp", strings.TrimPrefix(srv.URL, "http://"))
	}
}

// Names are checked by what they mean when they are dialled.
func TestAddressesThatAreOutOfReach(t *testing.T) {
	data := randomBytes(64 << 10)
	for _, tc := range []struct {
		name, base, redirect string
		addrs                string // of every name
		want                 string // of the error; "": none
	}{
		{"the internet", "http://seed.example/x", "", "203.0.113.5", ""},
		{"with a query", "http://seed.example/x?k=1", "", "203.0.113.5", ""},
		{"this network", "http://nas.example/x", "", "192.168.1.5", ""},
		{"this network, with a query", "http://router.example/x?reboot=1", "", "192.168.1.1", "has a query"},
		{"loopback in IPv6, with a query", "http://[::1]/x?reboot=1", "", "", "has a query"},
		{"loopback in disguise, with a query", "http://[::ffff:127.0.0.1]/x?reboot=1", "", "", "has a query"},
		{"behind a carrier, with a query", "http://100.64.0.1/x?reboot=1", "", "", "has a query"},
		{"metadata service", "http://meta.example/x", "", "169.254.169.254", "no web seed can be"},
		{"this host", "http://0.0.0.0/x", "", "", "no web seed can be"},
		{"link-local", "http://[fe80::1]/x", "", "", "no web seed can be"},
		{"from the internet to here", "http://203.0.113.5/x", "http://127.0.0.1/x", "", "leads to local"},
		{"from the internet to a name for here", "http://203.0.113.5/x", "http://here.example/x", "127.0.0.1", "leads to local"},
		{"from the internet to the internet", "http://203.0.113.5/x", "http://203.0.113.6/x", "", ""},
		{"from here to the internet", "http://127.0.0.1/x", "http://203.0.113.6/x", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if tc.redirect != "" && !strings.HasPrefix(tc.redirect, "http://"+r.Host+"/") {
					http.Redirect(w, r, tc.redirect, http.StatusFound)
					return
				}
				file(data)(w, r)
			})
			var dialled []string
			r := &reader{stream(t, source(t, Files, tc.base, single("x", int64(len(data)))), Options{
				Dial: world(srv, &dialled),
				Lookup: func(context.Context, string) ([]netip.Addr, error) {
					return []netip.Addr{netip.MustParseAddr(tc.addrs)}, nil
				},
			}), t, data}
			err := r.block(0, 0)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if allowed := map[bool]int{true: 1, false: 0}[tc.redirect != ""]; tc.want != "" && len(dialled) != allowed {
				t.Errorf("dialled %q", dialled)
			}
		})
	}
}

// A name that means the internet first and this machine the next time leads nowhere.
func TestANameThatChangesItsMind(t *testing.T) {
	data := randomBytes(64 << 10)
	srv := serve(t, file(data))
	var dialled []string
	answers := []string{"203.0.113.5", "127.0.0.1"}
	r := &reader{stream(t, source(t, Files, "http://rebind.example/x", single("x", int64(len(data)))), Options{
		Dial: world(srv, &dialled),
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			a := answers[0]
			answers = answers[1:]
			return []netip.Addr{netip.MustParseAddr(a)}, nil
		},
	}), t, data}
	if err := r.block(0, 0); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := r.block(0, 0); err == nil || len(dialled) != 1 {
		t.Errorf("got %v after dialling %q", err, dialled)
	}
}

func TestAllowHasTheLastWord(t *testing.T) {
	never := errors.New("never")
	s := stream(t, source(t, Files, "http://203.0.113.5/x", single("x", 10)), Options{
		Allow: func(netip.Addr) error { return never },
		Dial: func(context.Context, netip.AddrPort) (net.Conn, error) {
			t.Error("dialled")
			return nil, io.EOF
		},
	})
	if _, err := s.Block(t.Context(), 0, 10, func() int64 { return 0 }); !errors.Is(err, never) {
		t.Errorf("got %v", err)
	}
}
