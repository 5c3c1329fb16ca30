package swarm

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"swarmfs/cache"
	"swarmfs/metainfo"
)

func TestEdgesAreBothEndsOfEachFile(t *testing.T) {
	const mib = 1 << 20
	info := &metainfo.Info{PieceLength: mib, Length: 23*mib + 1, Files: []metainfo.File{
		{Offset: 0, Length: 10 * mib},
		{Offset: 10 * mib, Length: mib, Pad: true},
		{Offset: 11 * mib, Length: 0},
		{Offset: 11 * mib, Length: mib / 2},
		{Offset: 11*mib + mib/2, Length: 11*mib + mib/2 + 1},
	}}
	want := []cache.Span{{First: 0, End: 2}, {First: 9, End: 10}, {First: 11, End: 12}, {First: 11, End: 12}, {First: 11, End: 14}, {First: 22, End: 24}}
	if got := edges(info); !slices.Equal(got, want) {
		t.Errorf("edges %v, want %v", got, want)
	}
}

// adviceBook is a Volume that remembers what it was told.
type adviceBook struct {
	Volume
	mu      sync.Mutex
	edges   []cache.Span
	windows map[uint32]cache.Span
	largest int // pieces of a window
}

func (b *adviceBook) Protect(spans ...cache.Span) { b.edges = spans }

func (b *adviceBook) Window(reader uint32, w cache.Span) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.windows[reader] = w
	if w == (cache.Span{}) {
		delete(b.windows, reader)
	}
	b.largest = max(b.largest, w.End-w.First)
}

func (b *adviceBook) CloseWindows() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.windows)
}

func (b *adviceBook) open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.windows)
}

func TestTheVolumeKnowsWhatReadersAreAboutToRead(t *testing.T) {
	c := makeContent(t, 8*mebibyte)
	for name, end := range map[string]func(n *node, r *reader) error{
		"reader closed":   func(_ *node, r *reader) error { return r.Close() },
		"torrent removed": func(n *node, _ *reader) error { return n.Remove(c.meta.Info.Hash) },
	} {
		simulate(t, func(l *lab) {
			n := l.node(nodeOptions{})
			seed := l.peer(c, rated(20*mebibyte), script{})
			v := &adviceBook{Volume: n.volumeOf(c), windows: map[uint32]cache.Span{}}
			tor, err := n.Add(c.meta, AddOptions{Volume: v, Peers: []netip.AddrPort{seed.addr()}})
			if err != nil {
				t.Fatal(err)
			}
			if want := edges(c.meta.Info); !slices.Equal(v.edges, want) {
				t.Errorf("edges %v, want %v", v.edges, want)
			}
			r := n.open(tor, c)
			for off := 0; off < 6*mebibyte; off += pieceLen {
				if err := r.read(off, pieceLen); err != nil {
					t.Fatal(err)
				}
			}
			if v.open() != 1 || v.largest < 2 {
				t.Errorf("%d windows, the largest of %d pieces, while a file is read in order", v.open(), v.largest)
			}
			if err := end(n, r); err != nil {
				t.Fatal(err)
			}
			l.eventually(10*time.Second, "no window after "+name, func() bool { return v.open() == 0 })
		})
	}
}
