package swarm

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"swarmfs/cache"
	"swarmfs/metainfo"
)

func TestPinnedFilesAreFetchedThoughNobodyReads(t *testing.T) {
	c := makeContent(t, mebibyte)
	for _, mode := range []Background{BackgroundOff, BackgroundOpened} {
		simulate(t, func(l *lab) {
			n := l.node(nodeOptions{Options: Options{Background: mode}})
			p := l.peer(c, near, script{})
			v := &pinnable{Volume: n.volumeOf(c)}
			tor, err := n.Add(c.meta, AddOptions{Volume: v, Peers: []netip.AddrPort{p.addr()}})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			if got := tor.Stats().Held; got != 0 {
				t.Fatalf("%v: %d pieces were fetched before the pin", mode, got)
			}
			if err := tor.Pin([]int{0}); err != nil {
				t.Fatal(err)
			}
			l.eventually(10*time.Second, "complete", func() bool { return tor.Stats().Held == c.pieces() })
			if want := []cache.Span{{First: 0, End: c.pieces()}}; !slices.Equal(v.pinned, want) || !slices.Equal(tor.Pinned(), want) {
				t.Errorf("pinned: the volume has %v, the torrent %v, want %v", v.pinned, tor.Pinned(), want)
			}
			tor.Unpin([]int{0})
			if len(v.pinned) != 0 || len(tor.Pinned()) != 0 || len(tor.PinnedFiles()) != 0 {
				t.Errorf("unpinned: %v, %v", v.pinned, tor.Pinned())
			}
		})
	}
}

func TestUnpinnedFilesAreNotFetchedAnyMore(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		tor, err := n.Add(c.meta, AddOptions{Volume: &pinnable{Volume: n.volumeOf(c)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := tor.Pin([]int{0}); err != nil {
			t.Fatal(err)
		}
		tor.Unpin([]int{0})
		p := l.silentPeer(c, near, script{})
		p.dial(n)
		time.Sleep(10 * time.Second)
		if got := p.requests.Load(); got != 0 {
			t.Errorf("%d blocks were asked for after the unpin", got)
		}
	})
}

func TestPinsOutliveACrashOfTheLoop(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		tor, err := n.Add(c.meta, AddOptions{Volume: &pinnable{Volume: n.volumeOf(c)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := tor.Pin([]int{0}); err != nil {
			t.Fatal(err)
		}
		r, err := tor.current(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		tor.crash(&PanicError{Value: "test"})
		<-r.ended
		l.eventually(time.Minute, "running again", func() bool {
			next, _ := tor.current(context.Background())
			return next != r
		})
		l.silentPeer(c, near, script{}).dial(n)
		l.eventually(10*time.Second, "complete", func() bool { return tor.Stats().Held == c.pieces() })
	})
}

func TestAPinThatIsRefusedChangesNothing(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{}) // its store is in memory
		tor := n.add(c)
		if err := tor.Pin([]int{0}); !errors.Is(err, cache.ErrNoPins) {
			t.Errorf("got %v, want ErrNoPins", err)
		}
		if got := tor.Pinned(); len(got) != 0 {
			t.Errorf("got %v, want nothing pinned", got)
		}
	})
}

// Files share pieces: one stays pinned as long as any file in it is.
func TestASharedPieceStaysPinned(t *testing.T) {
	tor := &Torrent{
		info:   &metainfo.Info{Files: make([]metainfo.File, 50)},
		layout: metainfo.Layout{PieceLength: 100, Length: 50 * 70},
	}
	for i := range tor.info.Files {
		tor.info.Files[i] = metainfo.File{Offset: int64(i) * 70, Length: 70}
	}
	v := &pinnable{}
	tor.volume = v
	rng := rand.New(rand.NewPCG(1, 2))
	files := map[int]bool{}
	for range 1000 {
		i := rng.IntN(50)
		if rng.IntN(2) == 0 {
			files[i] = true
			if err := tor.Pin([]int{i, 50, -1}); err != nil {
				t.Fatal(err)
			}
		} else {
			delete(files, i)
			tor.Unpin([]int{i})
		}
		want := map[int]bool{}
		for i := range files {
			for piece := i * 70 / 100; piece <= (i*70+69)/100; piece++ {
				want[piece] = true
			}
		}
		for _, got := range [][]int{Expand(v.pinned, 35), Expand(tor.Pinned(), 35)} {
			if len(got) != len(want) || slices.ContainsFunc(got, func(piece int) bool { return !want[piece] }) {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
		if got := Expand(tor.PinnedFiles(), 50); len(got) != len(files) {
			t.Fatalf("files: got %v, want %v", got, files)
		}
	}
}

// pinnable is a volume that keeps what it is told to.
type pinnable struct {
	Volume
	pinned []cache.Span
}

func (v *pinnable) Pin(spans ...cache.Span) error {
	v.pinned = merge(append(v.pinned, spans...))
	return nil
}

func (v *pinnable) Unpin(spans ...cache.Span) {
	gone := Expand(spans, 1<<20)
	left := slices.DeleteFunc(Expand(v.pinned, 1<<20), func(i int) bool { return slices.Contains(gone, i) })
	v.pinned = nil
	for _, i := range left {
		v.pinned = append(v.pinned, cache.Span{First: i, End: i + 1})
	}
	v.pinned = merge(v.pinned)
}

// merge joins ranges that touch.
func merge(spans []cache.Span) []cache.Span {
	var out []cache.Span
	for _, i := range Expand(spans, 1<<20) {
		if last := len(out) - 1; last >= 0 && out[last].End == i {
			out[last].End++
		} else {
			out = append(out, cache.Span{First: i, End: i + 1})
		}
	}
	return out
}

// volumeOf returns the volume of a torrent in the node's store.
func (n *node) volumeOf(c *content) *cache.Volume {
	n.lab.t.Helper()
	info := c.meta.Info
	v, err := n.store.Volume(info.Hash, cache.Geometry{PieceLength: info.PieceLength, Length: info.Length, Sums: info.PieceSums()})
	if err != nil {
		n.lab.t.Fatal(err)
	}
	return v
}
