package swarm

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"swarmfs/cache"
	"swarmfs/metainfo"
	"swarmfs/swarm/simnet"
)

// lab is a bubble of virtual time with a simulated network, sessions of ours,
// and scripted peers.
type lab struct {
	t     *testing.T
	net   *simnet.Net
	hosts byte
	peers sync.WaitGroup

	mu   sync.Mutex
	ends []func()
}

// atEnd has something done at the end, last first.
func (l *lab) atEnd(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = append(l.ends, f)
}

func (l *lab) end() {
	for {
		l.mu.Lock()
		k := len(l.ends) - 1
		if k < 0 {
			l.mu.Unlock()
			break
		}
		f := l.ends[k]
		l.ends = l.ends[:k]
		l.mu.Unlock()
		f()
	}
	l.peers.Wait()
}

// simulate runs a test in a lab, and ends all that it has started. What is left
// over fails the test.
func simulate(t *testing.T, f func(l *lab)) {
	t.Helper()
	simulateSeed(t, 1, f)
}

// simulateSeed is simulate with another seed of the network.
func simulateSeed(t *testing.T, seed uint64, f func(l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, net: simnet.New(seed)}
		defer l.end()
		f(l)
	})
}

// near is the link of hosts that do not matter: 10 ms from everybody.
var near = simnet.Link{Latency: 5 * time.Millisecond}

// rated is near with an uplink of so many bytes/s.
func rated(up int64) simnet.Link { return simnet.Link{Latency: 5 * time.Millisecond, Up: up} }

// host adds a host, each in a network of its own.
func (l *lab) host(link simnet.Link) *simnet.Host {
	l.hosts++
	return l.net.Host(netip.AddrFrom4([4]byte{20, l.hosts, 1, 1}), link)
}

// eventually waits up to limit, in virtual time, until ok holds.
func (l *lab) eventually(limit time.Duration, what string, ok func() bool) {
	l.t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > limit {
			l.t.Fatalf("after %v still not: %s", limit, what)
		}
		time.Sleep(50*time.Millisecond + time.Microsecond)
	}
}

// content is a torrent and its bytes.
type content struct {
	meta     *metainfo.Torrent
	data     []byte
	pieceLen int
}

const (
	pieceLen  = 64 << 10
	mebibyte  = 1 << 20
	readChunk = 128 << 10 // what the kernel asks for at a time
)

// madeContents keeps them, as making them is most of the cost of a small test.
var madeContents sync.Map

// makeContent makes a torrent of one file of so many bytes.
func makeContent(t *testing.T, size int) *content {
	t.Helper()
	if c, ok := madeContents.Load(size); ok {
		return c.(*content)
	}
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)}).Read(data)
	c := newContent(t, data, pieceLen)
	madeContents.Store(size, c)
	return c
}

// newContent makes a torrent of one file of these bytes.
func newContent(t *testing.T, data []byte, pieceLen int) *content {
	t.Helper()
	var sums strings.Builder
	for off := 0; off < len(data); off += pieceLen {
		sum := sha1.Sum(data[off:min(len(data), off+pieceLen)])
		sums.Write(sum[:])
	}
	raw := fmt.Sprintf("d4:infod6:lengthi%de4:name4:file12:piece lengthi%de6:pieces%d:%see",
		len(data), pieceLen, sums.Len(), sums.String())
	meta, err := metainfo.Parse([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return &content{meta, data, pieceLen}
}

func (c *content) pieces() int { return (len(c.data) + c.pieceLen - 1) / c.pieceLen }

func (c *content) block(piece, begin, length int) []byte {
	off := piece*c.pieceLen + begin
	return c.data[off : off+length]
}

// node is a session of ours on a host.
type node struct {
	*Session
	lab   *lab
	host  *simnet.Host
	store *cache.Store
	log   *logBook
	stop  func()
}

type nodeOptions struct {
	Options
	memory int64 // of the store, in bytes; default 64 MiB
	link   simnet.Link
	net    func(*simnet.Host) Network // nil: the host itself
	// encrypts: Options.Encryption is meant. Without it connections are plain, as
	// most scripted peers are, and keys and paddings are not of the seed.
	encrypts bool
}

// node starts a session that listens on port 6881.
func (l *lab) node(o nodeOptions) *node {
	l.t.Helper()
	if o.link == (simnet.Link{}) {
		o.link = near
	}
	h := l.host(o.link)
	store, err := cache.Open(cache.Options{Memory: o.memory})
	if err != nil {
		l.t.Fatal(err)
	}
	book := &logBook{}
	o.Store, o.Listen, o.Network, o.Logger = store, []string{":6881"}, h, slog.New(book)
	o.NoLSD = true // it has no simulated network
	if !o.encrypts {
		o.Encryption = EncryptionOff
	}
	if o.net != nil {
		o.Network = o.net(h)
	}
	s, err := New(o.Options)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() {
		if err := s.Serve(ctx); !errors.Is(err, context.Canceled) {
			l.t.Errorf("session ended with %v", err)
		}
	})
	n := &node{Session: s, lab: l, host: h, store: store, log: book}
	n.stop = sync.OnceFunc(func() {
		start := time.Now()
		cancel()
		g.Wait()
		if d := time.Since(start); d > 5*time.Second {
			l.t.Errorf("session took %v to stop", d)
		}
		if err := store.Close(context.Background()); err != nil {
			l.t.Error(err)
		}
	})
	l.atEnd(n.stop)
	return n
}

func (n *node) addr() netip.AddrPort { return netip.AddrPortFrom(n.host.Addr(), 6881) }

// add adds a torrent and has it connect to some peers.
func (n *node) add(c *content, peers ...netip.AddrPort) *Torrent {
	n.lab.t.Helper()
	t, err := n.Add(c.meta, AddOptions{Peers: peers})
	if err != nil {
		n.lab.t.Fatal(err)
	}
	return t
}

// fill puts pieces into the store, as if they had been downloaded before.
func (n *node) fill(c *content) {
	n.lab.t.Helper()
	n.fillFirst(c, c.pieces())
}

// fillFirst is fill with the first pieces alone.
func (n *node) fillFirst(c *content, pieces int) {
	n.lab.t.Helper()
	info := c.meta.Info
	v, err := n.store.Volume(info.Hash, cache.Geometry{PieceLength: info.PieceLength, Length: info.Length, Sums: info.PieceSums()})
	if err != nil {
		n.lab.t.Fatal(err)
	}
	for piece := range pieces {
		d, err := v.Draft(piece, true)
		if err != nil {
			n.lab.t.Fatal(err)
		}
		for begin := 0; begin < info.Layout().PieceSize(piece); begin += metainfo.BlockSize {
			size := min(metainfo.BlockSize, info.Layout().PieceSize(piece)-begin)
			if _, err := d.WriteBlock(begin, c.block(piece, begin, size)); err != nil {
				n.lab.t.Fatal(err)
			}
		}
		if !d.Verify() {
			n.lab.t.Fatal("filled piece does not verify")
		}
		if err := d.Commit(); err != nil {
			n.lab.t.Fatal(err)
		}
	}
}

// reader opens the file and reads from it, comparing every byte.
type reader struct {
	*Reader
	t     *testing.T
	c     *content
	stall time.Duration // the longest of a read
}

func (n *node) open(t *Torrent, c *content) *reader {
	n.lab.t.Helper()
	r, err := t.Open(0)
	if err != nil {
		n.lab.t.Fatal(err)
	}
	return &reader{Reader: r, t: n.lab.t, c: c}
}

// read reads a range and compares it; it returns ReadAt's error.
func (r *reader) read(off, size int) error {
	r.t.Helper()
	return r.readCtx(context.Background(), off, size)
}

func (r *reader) readCtx(ctx context.Context, off, size int) error {
	r.t.Helper()
	buf := make([]byte, size)
	start := time.Now()
	n, err := r.ReadAt(ctx, buf, int64(off))
	r.stall = max(r.stall, time.Since(start))
	if !bytes.Equal(buf[:n], r.c.data[off:off+n]) {
		r.t.Fatalf("read %d bytes at %d: wrong bytes", n, off)
	}
	if err == nil && n < size {
		r.t.Fatalf("read %d bytes at %d: got %d without an error", size, off, n)
	}
	if errors.Is(err, io.EOF) {
		if off+n != len(r.c.data) {
			r.t.Fatalf("end of file at %d of %d", off+n, len(r.c.data))
		}
		err = nil
	}
	return err
}

// copyOut reads the rest of the file from off on, as cp does.
func (r *reader) copyOut(off int) {
	r.t.Helper()
	for ; off < len(r.c.data); off += readChunk {
		if err := r.read(off, min(readChunk, len(r.c.data)-off)); err != nil {
			r.t.Fatalf("read at %d: %v", off, err)
		}
	}
}

// logBook keeps what is logged, for tests of what users are told.
type logBook struct {
	mu      sync.Mutex
	entries []string
}

func (b *logBook) Enabled(context.Context, slog.Level) bool { return true }
func (b *logBook) WithAttrs([]slog.Attr) slog.Handler       { return b }
func (b *logBook) WithGroup(string) slog.Handler            { return b }

func (b *logBook) Handle(_ context.Context, r slog.Record) error {
	s := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "stack" {
			s += " " + a.String()
		}
		return true
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = append(b.entries, s)
	return nil
}

// count returns how many entries contain a text.
func (b *logBook) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, e := range b.entries {
		if strings.Contains(e, text) {
			n++
		}
	}
	return n
}
