package swarm

import (
	"context"
	"errors"
	"testing"
	"time"
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
