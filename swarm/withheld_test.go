package swarm

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"swarmfs/cache"
)

// doubting is a volume that holds some pieces in the end, of which it does not know at
// first. A read that needs one decides it.
type doubting struct {
	*cache.Volume
	c *content

	mu               sync.Mutex
	undecided        map[int]bool
	there            func(piece int) bool // once decided
	onEvict, onFound func(piece int)
	onRecount        func()
}

// Pin and Unpin keep nothing: there is no disk.
func (v *doubting) Pin(...cache.Span) error { return nil }
func (v *doubting) Unpin(...cache.Span)     {}

func (v *doubting) Undecided(first, end int) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	for first < end && !v.undecided[first] {
		first++
	}
	return first
}

func (v *doubting) Notify(onEvict func(piece int), onRoom func()) {
	v.onEvict = onEvict
	v.Volume.Notify(onEvict, onRoom)
}

func (v *doubting) NotifyFound(onFound func(piece int)) { v.onFound = onFound }
func (v *doubting) NotifyRecount(onRecount func())      { v.onRecount = onRecount }

func (v *doubting) held(piece int) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return !v.undecided[piece] && v.there(piece)
}

func (v *doubting) Has(piece int) bool { return v.held(piece) || v.Volume.Has(piece) }

func (v *doubting) Pieces() []uint64 {
	set := v.Volume.Pieces()
	for piece := range v.c.pieces() {
		if v.held(piece) {
			set[piece/64] |= 1 << (piece % 64)
		}
	}
	return set
}

// decide is what a look at a piece does.
func (v *doubting) decide(piece int) {
	v.mu.Lock()
	was := v.undecided[piece]
	delete(v.undecided, piece)
	v.mu.Unlock()
	switch {
	case !was:
	case v.there(piece):
		v.onFound(piece)
	default:
		v.onEvict(piece)
	}
}

// Decide is left to the tests.
func (v *doubting) Decide(int, bool) {}

func (v *doubting) ReadAt(piece int, p []byte, off int) (int, error) {
	v.decide(piece)
	if v.held(piece) {
		return copy(p, v.c.block(piece, off, min(len(p), v.c.pieceLen-off))), nil
	}
	return v.Volume.ReadAt(piece, p, off)
}

func newDoubting(n *node, c *content, there func(int) bool) *doubting {
	v := &doubting{Volume: n.volumeOf(c), c: c, undecided: make(map[int]bool), there: there}
	for piece := range c.pieces() {
		v.undecided[piece] = true
	}
	return v
}

func even(piece int) bool { return piece%2 == 0 }

// A reader goes through a file of which every second piece is there: the others are
// fetched, and nothing else.
func TestWhatMayBeHeldIsNotFetched(t *testing.T) {
	c := makeContent(t, 16*mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{memory: 64 * mebibyte})
		p := l.peer(c, rated(2*mebibyte), script{})
		tor, err := n.Add(c.meta, AddOptions{Volume: newDoubting(n, c, even), Peers: []netip.AddrPort{p.addr()}})
		if err != nil {
			t.Fatal(err)
		}
		r := n.open(tor, c)
		for off := 0; off < len(c.data); off += readChunk {
			if err := r.read(off, min(readChunk, len(c.data)-off)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second) // the background has begun
		if got, want := tor.Stats().Downloaded, int64(len(c.data)/2); got != want {
			t.Errorf("%d bytes were fetched, want %d", got, want)
		}
		if got := tor.Stats().Held; got != c.pieces() {
			t.Errorf("%d of %d pieces are held", got, c.pieces())
		}
	})
}

// What is pinned waits until it is known to be missing; read-ahead goes on at once when
// pieces ahead are decided.
func TestWhatIsFoundMissingIsFetched(t *testing.T) {
	c := makeContent(t, 4*mebibyte)
	for _, how := range []string{"one by one", "all at once"} {
		simulate(t, func(l *lab) {
			n := l.node(nodeOptions{})
			p := l.peer(c, near, script{})
			v := newDoubting(n, c, even)
			tor, err := n.Add(c.meta, AddOptions{Volume: v, Peers: []netip.AddrPort{p.addr()}})
			if err != nil {
				t.Fatal(err)
			}
			if err := tor.Pin([]int{0}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			if got := tor.Stats().Downloaded; got != 0 {
				t.Errorf("%s: %d bytes of what may be held were fetched", how, got)
			}
			if how == "one by one" {
				for piece := range c.pieces() {
					v.decide(piece)
				}
			} else {
				v.mu.Lock()
				clear(v.undecided)
				v.mu.Unlock()
				v.onRecount()
			}
			l.eventually(10*time.Second, "complete", func() bool { return tor.Stats().Held == c.pieces() })
			if got, want := tor.Stats().Downloaded, int64(len(c.data)/2); got != want {
				t.Errorf("%s: %d bytes were fetched, want %d", how, got, want)
			}
			// The files go away: half of the pieces are missing again, and fetched.
			v.mu.Lock()
			v.there = func(int) bool { return false }
			v.mu.Unlock()
			v.onRecount()
			l.eventually(10*time.Second, "complete again", func() bool {
				return tor.Stats().Downloaded >= int64(len(c.data)) && tor.Stats().Held == c.pieces()
			})
		})
	}
}

// The background of a torrent that was read waits for pieces to be decided, and goes on
// with each that is missing.
func TestTheBackgroundFetchesWhatIsFoundMissing(t *testing.T) {
	c := makeContent(t, 4*mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{memory: 64 * mebibyte, Options: Options{Background: BackgroundAll}})
		p := l.peer(c, near, script{})
		v := newDoubting(n, c, even)
		tor, err := n.Add(c.meta, AddOptions{Volume: v, Peers: []netip.AddrPort{p.addr()}})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.open(tor, c).read(pieceLen, 10); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got := tor.Stats().Downloaded; got != pieceLen {
			t.Errorf("%d bytes were fetched for the read of a piece", got)
		}
		for piece := range c.pieces() {
			v.decide(piece)
		}
		l.eventually(10*time.Second, "complete", func() bool { return tor.Stats().Held == c.pieces() })
		if got, want := tor.Stats().Downloaded, int64(len(c.data)/2); got != want {
			t.Errorf("%d bytes were fetched, want %d", got, want)
		}
	})
}
