package swarm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/engine"
)

// What nobody asked for must not drive out what nobody asked for.
func TestTheBackgroundFetchesWhatTheCacheKeeps(t *testing.T) {
	c := makeContent(t, 16*mebibyte)
	const memory, keeps = 4 * mebibyte, 2 * mebibyte
	for _, tc := range []struct {
		mode Background
		read int // bytes from the start, all of them by one reader
	}{{BackgroundAll, 1}, {BackgroundOpened, len(c.data)}} {
		t.Run(tc.mode.String(), func(t *testing.T) {
			simulate(t, func(l *lab) {
				seed := l.peer(c, rated(4*mebibyte), script{})
				n := l.node(nodeOptions{memory: memory, Options: Options{Background: tc.mode, ReadAhead: 256 << 10}})
				tor := n.add(c, seed.addr())
				r := n.open(tor, c)
				for off := 0; off < tc.read; off += readChunk {
					if err := r.read(off, min(readChunk, tc.read-off)); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(10 * time.Second)
				got := tor.Stats().Downloaded
				if least, most := int64(min(tc.read+keeps, len(c.data))), int64(tc.read+keeps+mebibyte); got < least-pieceLen || got > most {
					t.Errorf("%d bytes were fetched for a read of %d, want %d to %d", got, tc.read, least, most)
				}
				time.Sleep(time.Minute)
				if more := tor.Stats().Downloaded; more != got {
					t.Errorf("%d bytes more were fetched while nobody read", more-got)
				}
			})
		})
	}
}

func TestTheBackgroundOfWhatWasOpenedLaterComesFirst(t *testing.T) {
	a, b := makeContent(t, 16*mebibyte), makeContent(t, 12*mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{memory: 24 * mebibyte, Options: Options{Background: BackgroundAll}}) // 12 of them are kept
		first := n.add(a, l.peer(a, rated(mebibyte), script{}).addr())
		second := n.add(b, l.peer(b, rated(mebibyte), script{}).addr())
		if err := n.open(first, a).read(0, 10); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		before := first.Stats().Downloaded
		if before < mebibyte {
			t.Fatalf("the background fetched %d bytes in 2 s", before)
		}
		if err := n.open(second, b).read(0, 10); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := second.Stats().Held; got != b.pieces() {
			t.Errorf("of what was opened last %d of %d pieces are held", got, b.pieces())
		}
		if more := first.Stats().Downloaded - before; more > mebibyte {
			t.Errorf("what was opened before went on for %d bytes", more)
		}
		if got := len(n.allotment.grants); got != 1 {
			t.Errorf("%d grants, want one", got)
		}
	})
}

func TestTheBackgroundOutlivesAnUnpin(t *testing.T) {
	c := makeContent(t, mebibyte)
	for _, readFirst := range []bool{true, false} {
		simulate(t, func(l *lab) {
			n := l.node(nodeOptions{Options: Options{Background: BackgroundAll}})
			tor, err := n.Add(c.meta, AddOptions{Volume: &pinnable{Volume: n.volumeOf(c)}})
			if err != nil {
				t.Fatal(err)
			}
			read := func() {
				ctx, cancel := context.WithTimeout(l.t.Context(), time.Second)
				defer cancel()
				if err := n.open(tor, c).readCtx(ctx, 0, 10); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v from nobody", err)
				}
			}
			if readFirst {
				read()
			}
			if err := tor.Pin([]int{0}); err != nil {
				t.Fatal(err)
			}
			if !readFirst {
				read()
			}
			time.Sleep(time.Second) // the loop has heard of it
			tor.Unpin([]int{0})
			if !readFirst {
				read()
			}
			l.peer(c, near, script{}).dial(n)
			l.eventually(10*time.Second, "complete", func() bool { return tor.Stats().Held == c.pieces() })
		})
	}
}

// A magnet link's selection (BEP 53): what is completed, not what can be read.
func TestOfASelectionTheBackgroundCompletesThat(t *testing.T) {
	data := make([]byte, 4*mebibyte)
	for i := range data {
		data[i] = byte(i >> 12)
	}
	c := newContent(t, data, pieceLen)
	inFour := fmt.Sprintf("d4:infod5:filesl%[1]s%[2]s%[3]s%[4]se4:name4:four12:piece lengthi%[5]de6:pieces%[6]d:%[7]see",
		"d6:lengthi1048576e4:pathl1:aee", "d6:lengthi1048576e4:pathl1:bee", "d6:lengthi1048576e4:pathl1:cee", "d6:lengthi1048576e4:pathl1:dee",
		pieceLen, len(c.meta.Info.PieceSums()), c.meta.Info.PieceSums())
	meta, err := metainfo.Parse([]byte(inFour))
	if err != nil {
		t.Fatal(err)
	}
	c = &content{meta, data, pieceLen}
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{Options: Options{Background: BackgroundAll}})
		tor, err := n.Add(c.meta, AddOptions{
			Peers:  []netip.AddrPort{l.peer(c, near, script{}).addr()},
			Select: metainfo.FileRanges{{First: 1, Last: 1}, {First: 3, Last: 1 << 30}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.open(tor, c).read(0, 10); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		held := engine.Bitmap(tor.volume.Pieces())
		for piece := range c.pieces() {
			file := piece * pieceLen / mebibyte
			if want := file == 1 || file == 3 || piece == 0; held.Has(piece) != want && piece > 1 {
				t.Errorf("piece %d of file %d: held %v, want %v", piece, file, held.Has(piece), want)
			}
		}
	})
}
