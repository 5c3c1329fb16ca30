package swarm

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"swarmfs/cache"
	"swarmfs/swarm/wire"
)

// took checks a duration within 100 ms.
func took(t *testing.T, what string, start time.Time, want time.Duration) {
	t.Helper()
	if d := time.Since(start); d < want || d > want+100*time.Millisecond {
		t.Errorf("%s took %v, want %v", what, d, want)
	}
}

func TestAReadWithoutPeersTimesOutAndIsTriedAgainLater(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		r := n.open(n.add(c), c)
		start := time.Now()
		if err := r.read(0, 1000); !errors.Is(err, ErrTimeout) {
			t.Fatalf("got %v, want a time-out", err)
		}
		took(t, "the first read", start, time.Minute)
		// The range is known to be dead for a second.
		time.Sleep(900 * time.Millisecond)
		start = time.Now()
		if err := r.read(500, 1000); !errors.Is(err, ErrTimeout) {
			t.Fatalf("got %v, want a time-out", err)
		}
		took(t, "a read right after it", start, 0)
		// Another range is not.
		other := n.open(n.Torrents()[0], c)
		l.peers.Go(func() {
			start := time.Now()
			if err := other.read(10*pieceLen, 10); !errors.Is(err, ErrTimeout) {
				t.Errorf("got %v, want a time-out", err)
			}
			took(t, "a read of another piece", start, time.Minute)
		})
		time.Sleep(200 * time.Millisecond)
		start = time.Now()
		if err := r.read(0, 1000); !errors.Is(err, ErrTimeout) {
			t.Fatalf("got %v, want a time-out", err)
		}
		took(t, "a read a second later", start, time.Minute)
		time.Sleep(time.Second)
		if got := n.log.count("gave up waiting"); got != 3 {
			t.Errorf("%d log entries about reads that gave up, want 3", got)
		}
		if got := n.log.count("gave up waiting file=file offset=" + strconv.Itoa(10*pieceLen) + " piece=10 for=1m0s"); got != 1 {
			t.Errorf("got %q, want the read of piece 10 in full", n.log.entries)
		}
	})
}

// A scanner that comes again costs nothing.
func TestAHeadThatIsHeldIsReadWithoutFetchingAhead(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		tor := n.add(c, l.peer(c, near, script{}).addr())
		// The first is not at the head, and gets what it reads; the second finds it.
		for i, off := range []int{1, 0} {
			r := n.open(tor, c)
			if err := r.read(off, 1000); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			if got := tor.Stats().Downloaded; got != pieceLen {
				t.Errorf("fetched %d bytes after %d readers, want %d", got, i+1, pieceLen)
			}
		}
		// A head that is not held still brings what comes next.
		if err := n.open(tor, c).read(0, pieceLen+1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := tor.Stats().Downloaded; got != 3*pieceLen {
			t.Errorf("fetched %d bytes for a head of two pieces, want %d", got, 3*pieceLen)
		}
	})
}

func TestADeadRangeIsTriedAtOnceWhenAPeerComes(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		r := n.open(n.add(c), c)
		if err := r.read(0, 1000); !errors.Is(err, ErrTimeout) {
			t.Fatalf("got %v, want a time-out", err)
		}
		l.silentPeer(c, near, script{}).dial(n)
		time.Sleep(100 * time.Millisecond)
		if err := r.read(0, 1000); err != nil {
			t.Errorf("got %v although a seeder is there", err)
		}
	})
}

func TestProgressPutsTheTimeoutOff(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		// Each block takes 50 s, so a piece takes 200.
		seed := l.peer(c, rated(16<<10/50), script{})
		n := l.node(nodeOptions{})
		r := n.open(n.add(c, seed.addr()), c)
		start := time.Now()
		if err := r.read(0, 1000); err != nil {
			t.Fatalf("got %v although a block came every 50 s", err)
		}
		if d := time.Since(start); d < 150*time.Second || d > 260*time.Second {
			t.Errorf("took %v, want about 200s", d)
		}
	})
}

func TestNegativeReadTimeoutWaitsForEver(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{Options: Options{ReadTimeout: -1}})
		r := n.open(n.add(c), c)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Hour)
		defer cancel()
		if err := r.readCtx(ctx, 0, 10); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's end", err)
		}
	})
}

func TestAReadReturnsAtOnceWhenItsContextEnds(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		tor := n.add(c)
		cause := errors.New("interrupted")
		var g sync.WaitGroup
		ctx, cancel := context.WithCancelCause(context.Background())
		for i := range 50 {
			g.Go(func() {
				r := n.open(tor, c)
				start := time.Now()
				if err := r.readCtx(ctx, i*1000, 100_000); !errors.Is(err, cause) {
					t.Errorf("got %v, want %v", err, cause)
				}
				if d := time.Since(start); d != 10*time.Second {
					t.Errorf("took %v, want 10s", d)
				}
			})
		}
		time.Sleep(10 * time.Second)
		cancel(cause)
		g.Wait()
		// Nothing of them is left in the loop.
		synctest.Wait()
		tor.mu.Lock()
		run := tor.run
		tor.mu.Unlock()
		if len(run.waiting) != 0 {
			t.Errorf("%d pieces still have waiters", len(run.waiting))
		}
	})
}

func TestReadsEndWhenTheTorrentIsRemoved(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		silent := l.peer(c, near, script{request: func(*fakeConn, wire.Message) {}})
		n := l.node(nodeOptions{})
		tor := n.add(c, silent.addr())
		var g sync.WaitGroup
		r := n.open(tor, c)
		for i := range 20 {
			g.Go(func() {
				start := time.Now()
				if _, err := r.ReadAt(context.Background(), make([]byte, 100), int64(i*20_000)); !errors.Is(err, ErrClosed) {
					t.Errorf("got %v, want ErrClosed", err)
				}
				took(t, "the read", start, 5*time.Second)
			})
		}
		time.Sleep(5 * time.Second)
		if err := n.Remove(c.meta.Info.Hash); err != nil {
			t.Fatal(err)
		}
		g.Wait()
		if err := r.read(0, 10); !errors.Is(err, ErrClosed) {
			t.Errorf("a later read got %v, want ErrClosed", err)
		}
		if err := n.Remove(c.meta.Info.Hash); err == nil {
			t.Error("removed twice")
		}
		// It can be added again, and works.
		l.silentPeer(c, near, script{})
		seed := l.peer(c, near, script{})
		n.open(n.add(c, seed.addr()), c).copyOut(0)
	})
}

func TestReadsEndWhenTheSessionEnds(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		r := n.open(n.add(c), c)
		var g sync.WaitGroup
		g.Go(func() {
			start := time.Now()
			if err := r.read(0, 100); !errors.Is(err, ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
			took(t, "the read", start, 5*time.Second)
		})
		time.Sleep(5 * time.Second)
		n.stop() // closes the cache, too
		g.Wait()
		if err := r.read(0, 10); !errors.Is(err, ErrClosed) && !errors.Is(err, cache.ErrClosed) {
			t.Errorf("a later read got %v, want ErrClosed", err)
		}
	})
}

func TestAClosedReaderReadsNoMore(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		seed := l.peer(c, near, script{})
		n := l.node(nodeOptions{})
		r := n.open(n.add(c, seed.addr()), c)
		r.copyOut(0)
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Error(err)
		}
		if err := r.read(0, 10); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
}

func TestFetchingStopsAfterTheLastClose(t *testing.T) {
	c := makeContent(t, 8*mebibyte)
	simulate(t, func(l *lab) {
		seed := l.peer(c, rated(256<<10), script{})
		n := l.node(nodeOptions{Options: Options{Background: BackgroundOff}})
		tor := n.add(c, seed.addr())
		r := n.open(tor, c)
		for off := 0; off < 2*mebibyte; off += readChunk {
			if err := r.read(off, readChunk); err != nil {
				t.Fatal(err)
			}
		}
		r.Close()
		time.Sleep(5 * time.Second) // what was asked for still comes
		before := seed.served.Load()
		time.Sleep(10 * time.Minute)
		if got := seed.served.Load() - before; got != 0 {
			t.Errorf("%d blocks were fetched for nobody", got)
		}
	})
}

func TestReadsAtTheEdges(t *testing.T) {
	c := makeContent(t, mebibyte+1)
	simulate(t, func(l *lab) {
		seed := l.peer(c, near, script{})
		n := l.node(nodeOptions{})
		tor := n.add(c, seed.addr())
		r := n.open(tor, c)
		for _, tc := range []struct {
			off, size, n int
			eof          bool
		}{
			{mebibyte, 1, 1, false},
			{mebibyte, 2, 1, true},
			{mebibyte + 1, 1, 0, true},
			{1 << 40, 1, 0, true},
			{-1, 1, 0, true},
			{pieceLen - 1, 2, 2, false},
			{0, mebibyte + 100, mebibyte + 1, true},
			{5, 0, 0, false},
		} {
			got, err := r.ReadAt(context.Background(), make([]byte, tc.size), int64(tc.off))
			if got != tc.n || (err != nil) != tc.eof {
				t.Errorf("read %d at %d: %d, %v", tc.size, tc.off, got, err)
			}
		}
		for _, file := range []int{-1, 1} {
			if _, err := tor.Open(file); err == nil {
				t.Errorf("file %d opens", file)
			}
		}
	})
}

func TestAProbeFetchesNoMoreThanItsPieces(t *testing.T) {
	c := makeContent(t, 8*mebibyte)
	simulate(t, func(l *lab) {
		seed := l.peer(c, near, script{})
		n := l.node(nodeOptions{})
		tor := n.add(c, seed.addr())
		r := n.open(tor, c)
		for _, off := range []int{0, 8*mebibyte - 65536} {
			if err := r.read(off, 65536); err != nil {
				t.Fatal(err)
			}
		}
		r.Close()
		time.Sleep(time.Minute)
		if got := tor.Stats().Held; got > 3 {
			t.Errorf("%d pieces were fetched for a read of two", got)
		}
	})
}

func TestBackgroundModes(t *testing.T) {
	c := makeContent(t, 4*mebibyte)
	for _, tc := range []struct {
		mode Background
		read int // bytes from the start
		all  bool
	}{
		{BackgroundOff, mebibyte, false},
		{BackgroundOpened, 65536, false},
		{BackgroundOpened, 4 * mebibyte, true}, // less than backgroundAfter: all of it has to be read
		{BackgroundAll, 1, true},
		{BackgroundAll, 0, false},
	} {
		t.Run(tc.mode.String(), func(t *testing.T) {
			simulate(t, func(l *lab) {
				seed := l.peer(c, rated(mebibyte), script{})
				n := l.node(nodeOptions{Options: Options{Background: tc.mode, ReadAhead: 256 << 10}})
				tor := n.add(c, seed.addr())
				r := n.open(tor, c)
				for off := 0; off < tc.read; off += readChunk {
					if err := r.read(off, min(readChunk, tc.read-off)); err != nil {
						t.Fatal(err)
					}
				}
				r.Close()
				time.Sleep(time.Minute)
				if got := tor.Stats().Held == c.pieces(); got != tc.all {
					t.Errorf("held %d of %d pieces, want all: %v", tor.Stats().Held, c.pieces(), tc.all)
				}
			})
		})
	}
}

// A reader's news that a crashed loop had not looked at is told to the next one.
func TestAWindowThatTheLoopLostIsToldAgain(t *testing.T) {
	r := &Reader{t: &Torrent{}}
	r.t.lives.Add(1)
	var w windows
	if !r.move(w, 1) || r.move(w, 2) {
		t.Fatal("want the first change to be told, and no other before it was looked at")
	}
	r.t.lives.Add(1)
	if !r.move(w, 2) || r.move(w, 2) {
		t.Error("want the next run to be told, once")
	}
}
