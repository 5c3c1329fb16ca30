package swarm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/simnet"
)

// webServer is a web server on a host of its own.
type webServer struct {
	url string

	mu       sync.Mutex
	requests []string // ranges
}

// web starts a web server.
func (l *lab) web(link simnet.Link, h http.HandlerFunc) *webServer {
	l.t.Helper()
	host := l.host(link)
	ln, err := host.Listen(":80")
	if err != nil {
		l.t.Fatal(err)
	}
	w := &webServer{url: "http://" + host.Addr().String() + "/file"}
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.requests = append(w.requests, strings.TrimPrefix(r.Header.Get("Range"), "bytes="))
		w.mu.Unlock()
		h(rw, r)
	})}
	l.peers.Go(func() { _ = srv.Serve(ln) })
	l.atEnd(func() {
		srv.Close()
		host.ResetAll()
	})
	return w
}

func (w *webServer) asked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.requests)
}

// files serves a content as an honest server does.
func files(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

// withSeeds is a content that names web seeds.
func (c *content) withSeeds(servers ...*webServer) *content {
	meta := *c.meta
	meta.WebSeeds = nil
	for _, w := range servers {
		meta.WebSeeds = append(meta.WebSeeds, w.url)
	}
	return &content{&meta, c.data, c.pieceLen}
}

func TestAWebSeedAloneServesAReader(t *testing.T) {
	c := makeContent(t, 16*mebibyte+12345)
	simulate(t, func(l *lab) {
		w := l.web(rated(4*mebibyte), files(c.data))
		n := l.node(nodeOptions{})
		c := c.withSeeds(w)
		tor := n.add(c)
		start := time.Now()
		n.open(tor, c).copyOut(0)
		// 16 MiB at 4 MiB/s, a few round trips, and headers.
		if d := time.Since(start); d > 4300*time.Millisecond {
			t.Errorf("took %v, want about 4.0s", d)
		}
		synctest.Wait()
		st := tor.Stats()
		if st.Held != c.pieces() || st.Duplicate != 0 || st.Downloaded != int64(len(c.data)) || st.Unasked > mebibyte {
			t.Errorf("held %d of %d pieces, %d bytes twice, %d fetched, %d not asked for", st.Held, c.pieces(), st.Duplicate, st.Downloaded, st.Unasked)
		}
		if n := w.asked(); n > 30 {
			t.Errorf("%d requests for a file read from end to end", n)
		}
	})
}

func TestAWebSeedAloneServesTheBackground(t *testing.T) {
	c := makeContent(t, 16*mebibyte)
	simulate(t, func(l *lab) {
		w := l.web(rated(4*mebibyte), files(c.data))
		n := l.node(nodeOptions{Options: Options{Background: BackgroundAll}})
		c := c.withSeeds(w)
		tor := n.add(c)
		start := time.Now()
		if err := n.open(tor, c).read(9*mebibyte, 1000); err != nil {
			t.Fatal(err)
		}
		l.eventually(10*time.Second, "complete", func() bool { return tor.Stats().Held == c.pieces() })
		if d := time.Since(start); d > 4500*time.Millisecond {
			t.Errorf("took %v, want about 4.3s", d)
		}
		if n := w.asked(); n > 16 {
			t.Errorf("%d requests for a file that nobody reads", n)
		}
	})
}

func TestWebSeedsAndPeersAddUp(t *testing.T) {
	c := makeContent(t, 16*mebibyte)
	simulate(t, func(l *lab) {
		a, b := l.web(rated(mebibyte), files(c.data)), l.web(rated(mebibyte), files(c.data))
		p, q := l.peer(c, rated(mebibyte), script{}), l.peer(c, rated(mebibyte), script{})
		n := l.node(nodeOptions{})
		c := c.withSeeds(a, b)
		tor := n.add(c, p.addr(), q.addr())
		start := time.Now()
		n.open(tor, c).copyOut(0)
		// 4 MiB/s in all; the web seeds jump where others have what they would go on with.
		if d := time.Since(start); d > 5600*time.Millisecond {
			t.Errorf("took %v, want about 5s", d)
		}
		st := tor.Stats()
		if lost := st.Duplicate + st.Unasked; lost > int64(len(c.data))/10 {
			t.Errorf("%d bytes of %d for nothing", lost, len(c.data))
		}
	})
}

// One piece is wrong: it is not asked for there again, the rest is, and nobody else
// is blamed.
func TestAWebSeedIsBlamedForItsBadPiece(t *testing.T) {
	c := makeContent(t, 4*mebibyte)
	bad := bytes.Clone(c.data)
	bad[20*pieceLen+5] ^= 1
	simulate(t, func(l *lab) {
		w := l.web(rated(4*mebibyte), files(bad))
		p := l.peer(c, rated(64<<10), script{})
		n := l.node(nodeOptions{})
		c := c.withSeeds(w)
		tor := n.add(c, p.addr())
		n.open(tor, c).copyOut(0)
		if n := n.log.count("piece does not verify"); n < 1 || n > 2 {
			t.Errorf("%d pieces did not verify, want the bad one, at most twice", n)
		}
		if n := n.log.count("peer banned"); n != 0 {
			t.Errorf("%d peers banned, want none", n)
		}
		if st := tor.Stats(); st.Peers != 1 || st.Failed > 2*pieceLen {
			t.Errorf("%d peers left, %d bytes failed", st.Peers, st.Failed)
		}
		if n := n.log.count("not used any more"); n != 0 {
			t.Errorf("one bad piece, and the web seed is let go")
		}
	})
}

func TestAWebSeedWithOtherFilesIsLetGo(t *testing.T) {
	c := makeContent(t, 4*mebibyte)
	simulate(t, func(l *lab) {
		w := l.web(rated(16*mebibyte), files(make([]byte, len(c.data))))
		n := l.node(nodeOptions{Options: Options{ReadTimeout: 20 * time.Second}})
		c := c.withSeeds(w)
		tor := n.add(c)
		err := n.open(tor, c).read(0, 4*pieceLen)
		if !errors.Is(err, ErrTimeout) {
			t.Errorf("got %v", err)
		}
		if n := n.log.count("not used any more"); n != 1 {
			t.Errorf("the log says %d times that it is let go", n)
		}
		if st := tor.Stats(); st.Failed != maxBadPieces*pieceLen || w.asked() > 2*maxBadPieces {
			t.Errorf("%d bytes failed in %d requests, want %d pieces", st.Failed, w.asked(), maxBadPieces)
		}
	})
}

// What a server refuses is not asked for again before its time.
func TestWebSeedsThatRefuseRest(t *testing.T) {
	c := makeContent(t, mebibyte)
	for _, tc := range []struct {
		name       string
		h          http.HandlerFunc
		most       int // requests in 59 minutes
		least, end int // and in 3 hours
	}{
		{"retry after a minute", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
		}, 16, 12, 40},
		{"retry after 30 years", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1000000000")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, 1, 3, 4},
		{"error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, 12, 8, 16},
		{"no such file", http.NotFound, 1, 3, 4},
		{"no ranges", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", "bytes 0-1/1048576")
			}
			w.WriteHeader(http.StatusPartialContent)
		}, 3, 4, 8},
	} {
		t.Run(tc.name, func(t *testing.T) {
			simulate(t, func(l *lab) {
				w := l.web(near, tc.h)
				n := l.node(nodeOptions{Options: Options{ReadTimeout: -1}})
				c := c.withSeeds(w)
				r := n.open(n.add(c), c)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				l.peers.Go(func() { _ = r.readCtx(ctx, 0, 1000) })
				time.Sleep(59 * time.Minute)
				if n := w.asked(); n == 0 || n > tc.most {
					t.Errorf("%d requests in 59 minutes, want at most %d", n, tc.most)
				}
				time.Sleep(121 * time.Minute)
				if n := w.asked(); n < tc.least || n > tc.end {
					t.Errorf("%d requests in 3 hours, want %d to %d", n, tc.least, tc.end)
				}
			})
		})
	}
}

// Of many web seeds four take part at a time, and the next when one fails.
func TestFourWebSeedsAtATime(t *testing.T) {
	c := makeContent(t, 8*mebibyte)
	simulate(t, func(l *lab) {
		var all []*webServer
		for i := range 12 {
			h := files(c.data)
			if i < 6 {
				h = http.NotFound
			}
			all = append(all, l.web(rated(mebibyte), h))
		}
		n := l.node(nodeOptions{})
		c := c.withSeeds(all...)
		tor := n.add(c)
		n.open(tor, c).copyOut(0)
		used := 0
		for _, w := range all[6:] {
			if w.asked() > 0 {
				used++
			}
		}
		if used != 4 {
			t.Errorf("%d good web seeds were used, want 4", used)
		}
		st, err := tor.Status(context.Background(), true)
		if err != nil || len(st.Connections) != 4 || st.Peers != 0 {
			t.Errorf("status: %v, %d connections, %d peers", err, len(st.Connections), st.Peers)
		}
		used, why := 0, 0
		for _, w := range st.WebSeeds {
			if w.Joined {
				used++
			}
			if strings.Contains(w.Why, "status 404") && w.Next.After(time.Now()) {
				why++
			}
		}
		if len(st.WebSeeds) != 12 || used != 4 || why < 4 {
			t.Errorf("status: %d web seeds, %d used, of %d it says why not", len(st.WebSeeds), used, why)
		}
		for _, p := range st.Connections {
			if !strings.HasPrefix(p.URL, "http://20.") || p.Name() != p.URL {
				t.Errorf("a web seed is shown as %q", p.Name())
			}
		}
	})
}

// A server that takes one connection of everybody serves us with one.
func TestAWebSeedThatTakesOneConnection(t *testing.T) {
	c := makeContent(t, 16*mebibyte)
	simulate(t, func(l *lab) {
		var open, refused atomic.Int32
		w := l.web(rated(4*mebibyte), func(w http.ResponseWriter, r *http.Request) {
			defer open.Add(-1)
			if open.Add(1) > 1 {
				refused.Add(1)
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			files(c.data)(w, r)
		})
		n := l.node(nodeOptions{})
		c := c.withSeeds(w)
		tor := n.add(c)
		start := time.Now()
		r := n.open(tor, c)
		for i := range 8 { // two places in turn
			for _, off := range []int{0, 8 * mebibyte} {
				if err := r.read(off+i*mebibyte, mebibyte); err != nil {
					t.Fatal(err)
				}
			}
		}
		if k := refused.Load(); k == 0 || k > 3 || n.log.count("web seed fails") > 0 {
			t.Errorf("refused %d times, %d failures in the log", k, n.log.count("web seed fails"))
		}
		if d := time.Since(start); d > 6*time.Second {
			t.Errorf("took %v, want about 4.5s", d)
		}
	})
}

// A torrent may lack a file on one server: its other files are fetched there.
func TestAWebSeedThatLacksAFile(t *testing.T) {
	data := makeContent(t, 4*mebibyte).data
	meta := filesOf(t, data, "here", 2*mebibyte, "gone", mebibyte, "small", 1000, "there", 0)
	simulate(t, func(l *lab) {
		w := l.web(rated(4*mebibyte), func(w http.ResponseWriter, r *http.Request) {
			for i, f := range meta.Info.Files {
				if strings.HasSuffix(r.URL.Path, "/dir/"+f.Path[0]) && i != 1 {
					files(data[f.Offset:f.Offset+f.Length])(w, r)
					return
				}
			}
			http.NotFound(w, r)
		})
		meta.WebSeeds = []string{w.url}
		n := l.node(nodeOptions{Options: Options{ReadTimeout: 10 * time.Second}})
		tor, err := n.Add(meta, AddOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range meta.Info.Files {
			r, err := tor.Open(i)
			if err != nil {
				t.Fatal(err)
			}
			// Pieces that a lacking file shares with another are lacking, too.
			off := int64(pieceLen)
			buf := make([]byte, max(0, min(f.Length-2*off, 3*pieceLen)))
			k, err := r.ReadAt(context.Background(), buf, off)
			switch {
			case i == 1 && !errors.Is(err, ErrTimeout):
				t.Errorf("the file that is not there: %d bytes, %v", k, err)
			case i != 1 && len(buf) > 0 && (err != nil || !bytes.Equal(buf, data[f.Offset+off:][:len(buf)])):
				t.Errorf("file %d: %d bytes, %v", i, k, err)
			}
		}
		if n := w.asked(); n > 20 {
			t.Errorf("%d requests", n)
		}
	})
}

// The download limit holds for web seeds, too.
func TestWebSeedsKeepTheLimit(t *testing.T) {
	c := makeContent(t, 2*mebibyte)
	simulate(t, func(l *lab) {
		w := l.web(near, files(c.data))
		n := l.node(nodeOptions{Options: Options{DownloadLimit: 512 << 10}})
		c := c.withSeeds(w)
		start := time.Now()
		n.open(n.add(c), c).copyOut(0)
		if d := time.Since(start); d < 3*time.Second || d > 5*time.Second {
			t.Errorf("2 MiB at 512 KiB/s took %v", d)
		}
	})
}

// A local session asks nobody but this machine.
func TestALocalSessionHasNoWebSeedsElsewhere(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		w := l.web(near, files(c.data))
		n := l.node(nodeOptions{Options: Options{Local: true, ReadTimeout: 5 * time.Second}})
		c := c.withSeeds(w)
		if err := n.open(n.add(c), c).read(0, 1000); !errors.Is(err, ErrTimeout) {
			t.Errorf("got %v", err)
		}
		if w.asked() != 0 || n.log.count("web seed fails") == 0 {
			t.Errorf("%d requests, %d failures in the log", w.asked(), n.log.count("web seed fails"))
		}
	})
}

// A seek does not wait for what was asked for before.
func TestASeekInAWebSeed(t *testing.T) {
	c := makeContent(t, 32*mebibyte)
	simulate(t, func(l *lab) {
		w := l.web(simnet.Link{Latency: 20 * time.Millisecond, Up: 2 * mebibyte}, files(c.data))
		n := l.node(nodeOptions{})
		c := c.withSeeds(w)
		r := n.open(n.add(c), c)
		for i := range 20 {
			if err := r.read(i*readChunk, readChunk); err != nil {
				t.Fatal(err)
			}
		}
		for _, off := range []int{25 * mebibyte, 3 * mebibyte, 17*mebibyte + 5} {
			start := time.Now()
			if err := r.read(off, 4096); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d > 500*time.Millisecond {
				t.Errorf("a read at %d took %v", off, d)
			}
		}
	})
}

// filesOf makes a torrent of a directory: names and lengths, 0 for what is left.
func filesOf(t *testing.T, data []byte, spec ...any) *metainfo.Torrent {
	t.Helper()
	var list strings.Builder
	off := 0
	for i := 0; i < len(spec); i += 2 {
		name, n := spec[i].(string), spec[i+1].(int)
		if n == 0 {
			n = len(data) - off
		}
		off += n
		fmt.Fprintf(&list, "d6:lengthi%de4:pathl%d:%see", n, len(name), name)
	}
	sums := newContent(t, data, pieceLen).meta.Info.PieceSums()
	meta, err := metainfo.Parse(fmt.Appendf(nil, "d4:infod5:filesl%se4:name3:dir12:piece lengthi%de6:pieces%d:%see", list.String(), pieceLen, len(sums), sums))
	if err != nil {
		t.Fatal(err)
	}
	return meta
}
