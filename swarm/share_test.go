package swarm

import (
	"net/netip"
	"testing"
	"time"

	"swarmfs/cache"
)

// repacked is a torrent with pieces [first, end) of another between new ones.
func repacked(t *testing.T, c *content, first, end int) *content {
	t.Helper()
	other := makeContent(t, 3*pieceLen)
	data := append([]byte(nil), other.data[:2*pieceLen]...)
	data = append(data, c.data[first*pieceLen:end*pieceLen]...)
	return newContent(t, append(data, other.data[2*pieceLen:]...), pieceLen)
}

// Of what another torrent holds nothing is asked of peers, whether it is read, in turn
// or anywhere, pinned, or completed in the background.
func TestWhatAnotherTorrentHoldsIsNotFetched(t *testing.T) {
	const first, end, fresh = 4, 60, 3
	c := makeContent(t, 4*mebibyte)
	for name, use := range map[string]func(l *lab, n *node, tor *Torrent, c *content){
		"copied out": func(_ *lab, n *node, tor *Torrent, c *content) { n.open(tor, c).copyOut(0) },
		"read backwards": func(_ *lab, n *node, tor *Torrent, c *content) {
			r := n.open(tor, c)
			for off := len(c.data) - pieceLen; off >= 0; off -= pieceLen {
				if err := r.read(off, pieceLen); err != nil {
					t.Fatal(err)
				}
			}
		},
		"in the background": func(l *lab, n *node, tor *Torrent, c *content) {
			if err := n.open(tor, c).read(5*pieceLen, 1000); err != nil {
				t.Fatal(err)
			}
			l.eventually(time.Minute, "complete", func() bool { return tor.Stats().Held == c.pieces() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(l *lab) {
				n := l.node(nodeOptions{Options: Options{Background: BackgroundAll}})
				n.fill(c)
				n.add(c)
				d := repacked(t, c, first, end)
				p := l.peer(d, near, script{})
				tor := n.add(d, p.addr())
				time.Sleep(time.Second) // it has connected
				use(l, n, tor, d)
				l.eventually(time.Minute, "complete", func() bool { return tor.Stats().Held == d.pieces() })
				st := tor.Stats()
				if got, want := st.Downloaded+st.Duplicate, int64(fresh*pieceLen); got != want {
					t.Errorf("%d bytes were fetched, want %d", got, want)
				}
				if st.Borrowed != end-first {
					t.Errorf("%d pieces were borrowed, want %d", st.Borrowed, end-first)
				}
			})
		})
	}
}

// keeper is a volume that has no disk and does as if it could pin.
type keeper struct{ *cache.Volume }

func (keeper) Pin(...cache.Span) error { return nil }
func (keeper) Unpin(...cache.Span)     {}

// A pin completes from another torrent; nothing is copied that nobody wants.
func TestAPinIsCompletedFromAnotherTorrent(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		n.fill(c)
		n.add(c)
		d := repacked(t, c, 0, c.pieces())
		tor, err := n.Add(d.meta, AddOptions{Volume: keeper{n.volumeOf(d)}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got := tor.Stats().Held; got != 0 {
			t.Errorf("%d pieces were copied for nobody", got)
		}
		if err := tor.Pin([]int{0}); err != nil {
			t.Fatal(err)
		}
		l.eventually(10*time.Second, "all that is shared", func() bool { return tor.Stats().Held == c.pieces() })
	})
}

// A reader that waits for peers, who have nothing, gets what another torrent brings.
func TestAReaderThatWaitsGetsWhatAnotherTorrentBrings(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{Options: Options{ReadTimeout: time.Minute}})
		d := repacked(t, c, 0, c.pieces())
		tor := n.add(d)
		r := n.open(tor, d)
		done := make(chan error)
		go func() { done <- r.read(4*pieceLen, 2*pieceLen) }()
		time.Sleep(10 * time.Second)
		n.fill(c)
		n.add(c)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

// What the other torrent has lost meanwhile comes from peers.
func TestWhatAnotherTorrentLostIsFetched(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{memory: 2 * mebibyte})
		n.fill(c)
		n.add(c)
		d := repacked(t, c, 0, c.pieces())
		p := l.peer(d, near, script{})
		tor, err := n.Add(d.meta, AddOptions{Peers: []netip.AddrPort{p.addr()}})
		if err != nil {
			t.Fatal(err)
		}
		n.open(tor, d).copyOut(0) // each copy may push a piece out that is still to be copied
		st := tor.Stats()
		if got, want := st.Downloaded+st.Borrowed*pieceLen, int64(len(d.data)); got < want || st.Borrowed == 0 {
			t.Errorf("%d bytes were fetched and %d pieces borrowed, of %d bytes", st.Downloaded, st.Borrowed, want)
		}
	})
}
