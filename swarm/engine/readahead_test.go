package engine

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const (
	kernelRead = 128 << 10
	testPiece  = 256 << 10
)

// The window grows with what was read in sequence, to its limit, while the
// reader is quick.
func TestReadAheadGrowsWithASequence(t *testing.T) {
	var c Cursor
	const limit = 8 << 20
	last := int64(0)
	for off := int64(kernelRead); off < 32<<20; off += kernelRead {
		ahead := c.Read(time.Duration(off)*10, off, kernelRead, testPiece, limit) // 100 MB/s
		if ahead < last || ahead > limit {
			t.Fatalf("got %d ahead at %d, was %d, limit %d", ahead, off, last, limit)
		}
		last = ahead
	}
	if last != limit {
		t.Errorf("got %d ahead after 32 MiB, want %d", last, limit)
	}
}

// A slow reader has some seconds ahead of it, and no more.
func TestReadAheadFollowsThePaceOfTheReader(t *testing.T) {
	var c Cursor
	const perSec = 500_000 // a film of 4 Mbit/s
	var ahead int64
	for off := int64(0); off < 64<<20; off += kernelRead {
		now := time.Duration(float64(off) / perSec * float64(time.Second))
		ahead = c.Read(now, off, kernelRead, testPiece, 32<<20)
	}
	if ahead < 6*perSec || ahead > 10*perSec {
		t.Errorf("got %d ahead of a reader of %d bytes a second, want about 8 s", ahead, perSec)
	}
}

// A look at the tail, or anywhere, fetches nothing ahead; one at the head fetches
// one more piece, unless pieces are large.
func TestAProbeCostsNothingAheadButForOnePieceAtTheHead(t *testing.T) {
	for _, test := range []struct {
		reads [][2]int64
		piece int64
		want  int64 // after the first read; nothing after the others
	}{
		{[][2]int64{{0, 4096}}, testPiece, testPiece},
		{[][2]int64{{0, 4096}}, 16 << 20, 0},
		{[][2]int64{{0, kernelRead}, {kernelRead, kernelRead}}, testPiece, testPiece},
		{[][2]int64{{0, 65536}, {1<<30 - 65536, 65536}, {0, 65536}}, testPiece, testPiece},
		{[][2]int64{{1 << 29, 1 << 19}}, testPiece, 0},
	} {
		var c Cursor
		want := test.want
		for i, r := range test.reads {
			if ahead := c.Read(0, r[0], r[1], test.piece, 8<<20); ahead != want {
				t.Errorf("reads %v: got %d ahead of number %d, want %d", test.reads, ahead, i, want)
			}
			want = 0
		}
	}
}

// A seek closes the window, wherever it goes.
func TestASeekClosesTheWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Cursor
		from := rapid.Int64Range(1, 1<<40).Draw(t, "from")
		reads := rapid.Int64Range(1, cursorHabit/kernelRead-1).Draw(t, "reads")
		for i := range reads {
			c.Read(0, from+i*kernelRead, kernelRead, testPiece, 64<<20)
		}
		end := from + reads*kernelRead
		to := rapid.Int64Range(1, 1<<41).Draw(t, "to")
		if to <= end+cursorSlack && to+kernelRead >= end-cursorSlack {
			t.Skip("still near the sequence")
		}
		if ahead := c.Read(0, to, kernelRead, testPiece, 64<<20); ahead != 0 || c.Sequence() != kernelRead {
			t.Errorf("got %d ahead after a seek, sequence %d", ahead, c.Sequence())
		}
	})
}

// Who has shown that they read in sequence gets two seconds of it after a seek.
func TestAPlayerThatSeeksHasSomeSecondsAheadAtOnce(t *testing.T) {
	var c Cursor
	const perSec = 1 << 20
	for off := int64(0); off < 16<<20; off += kernelRead {
		c.Read(time.Duration(off)*time.Second/perSec, off, kernelRead, testPiece, 32<<20)
	}
	ahead := c.Read(17*time.Second, 1<<30, kernelRead, testPiece, 32<<20)
	if ahead < perSec || ahead > 3*perSec {
		t.Errorf("got %d ahead after a seek, want about 2 s of %d bytes a second", ahead, perSec)
	}
}

// Requests of the kernel's read-ahead come in any order, several at a time: the
// end of the window is what it would be in order.
func TestReadsOutOfOrderKeepTheWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		batch := rapid.IntRange(1, 16).Draw(t, "reads at a time")
		var c Cursor
		const limit = 8 << 20
		read := int64(kernelRead)
		for range 40 {
			furthest := int64(0)
			for _, i := range rng.Perm(batch) {
				off := read + int64(i)*kernelRead
				furthest = max(furthest, off+kernelRead)
				ahead := c.Read(0, off, kernelRead, testPiece, limit)
				if end := off + kernelRead + ahead; ahead < 0 || ahead > 0 && end < furthest {
					t.Fatalf("got a window to %d with reads to %d", end, furthest)
				}
			}
			read += int64(batch) * kernelRead
			if got := c.Sequence(); got > read || got < read-int64(batch+1)*kernelRead {
				t.Fatalf("got a sequence of %d after %d", got, read)
			}
		}
	})
}
