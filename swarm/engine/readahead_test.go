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
		ahead := c.Read(time.Duration(off)*10, off, kernelRead, testPiece, limit).Bytes // 100 MB/s
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
		ahead = c.Read(now, off, kernelRead, testPiece, 32<<20).Bytes
	}
	if ahead < 6*perSec || ahead > 10*perSec {
		t.Errorf("got %d ahead of a reader of %d bytes a second, want about 8 s", ahead, perSec)
	}
}

// A look at the tail, or anywhere, fetches nothing ahead; one at the head, or a
// longer one, fetches one more piece, unless pieces are large.
func TestAProbeCostsNothingAheadButForOnePiece(t *testing.T) {
	head := func(size int64) (reads [][2]int64) {
		for off := int64(0); off < size; off += kernelRead {
			reads = append(reads, [2]int64{off, kernelRead})
		}
		return reads
	}
	const tail = 1<<30 - 65536
	for _, test := range []struct {
		reads [][2]int64
		piece int64
		want  int64 // after the last read
	}{
		{[][2]int64{{0, 4096}}, testPiece, testPiece},
		{[][2]int64{{0, 4096}}, 16 << 20, 0},
		{[][2]int64{{4096, 4096}}, testPiece, 0},
		{head(kernelRead), testPiece, testPiece},
		{head(cursorShort), testPiece, testPiece},
		{head(cursorShort + kernelRead), testPiece, testPiece},
		{head(cursorProbe), testPiece, testPiece},
		{head(cursorProbe), 64 << 10, cursorSmall},
		{head(cursorProbe), 16 << 20, 0},
		{append(head(cursorProbe), [2]int64{tail, 65536}), testPiece, 0},
		{[][2]int64{{1 << 29, 1 << 19}}, testPiece, 0},
		// The tail of a file that is smaller than the slack is not read in sequence.
		{[][2]int64{{0, 32 << 10}, {3 << 20, 4096}}, testPiece, 0},
	} {
		var c Cursor
		var ahead int64
		for _, r := range test.reads {
			ahead = c.Read(0, r[0], r[1], test.piece, 8<<20).Bytes
		}
		if ahead != test.want || !c.Probing() {
			last := test.reads[len(test.reads)-1]
			t.Errorf("%d reads to %d: got %d ahead, probing: %v; want %d and true", len(test.reads), last[0]+last[1], ahead, c.Probing(), test.want)
		}
	}
}

// Who goes on for two seconds, or beyond what a probe reads, is no probe.
func TestASequenceThatLastsIsNoProbe(t *testing.T) {
	var slow, long Cursor
	slow.Read(time.Second, 0, 1<<20, testPiece, 32<<20)
	if ahead := slow.Read(time.Second+probeTime, 1<<20, kernelRead, testPiece, 32<<20).Bytes; ahead < 1<<20 || slow.Probing() {
		t.Errorf("got %d ahead after %v, probing: %v", ahead, probeTime, slow.Probing())
	}
	long.Read(0, 0, cursorProbe, testPiece, 32<<20)
	if ahead := long.Read(0, cursorProbe, kernelRead, testPiece, 32<<20).Bytes; ahead < cursorProbe || long.Probing() {
		t.Errorf("got %d ahead after %d bytes, probing: %v", ahead, cursorProbe, long.Probing())
	}
}

// What is jumped over counts when it is read, and only once.
func TestSkippedBytesAreNotReadInSequence(t *testing.T) {
	var c Cursor
	for i, r := range [][3]int64{
		{0, 100, 100}, {1000, 100, 200}, // 900 skipped
		{100, 400, 600}, {500, 500, 1100}, // read after all
		{0, 1000, 1100}, {900, 300, 1200}, // again, and 100 more
	} {
		c.Read(0, r[0], r[1], testPiece, 8<<20)
		if c.Sequence() != r[2] {
			t.Errorf("read %d: got a sequence of %d, want %d", i, c.Sequence(), r[2])
		}
	}
}

// A seek closes the window, wherever it goes.
func TestASeekClosesTheWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Cursor
		from := rapid.Int64Range(1, 1<<40).Draw(t, "from")
		reads := rapid.Int64Range(1, cursorProbe/kernelRead-1).Draw(t, "reads")
		for i := range reads {
			c.Read(0, from+i*kernelRead, kernelRead, testPiece, 64<<20)
		}
		end := from + reads*kernelRead
		to := rapid.Int64Range(1, 1<<41).Draw(t, "to")
		if to <= end+cursorSlack && to+kernelRead >= end-cursorSlack {
			t.Skip("still near the sequence")
		}
		if ahead := c.Read(0, to, kernelRead, testPiece, 64<<20).Bytes; ahead != 0 || c.Sequence() != kernelRead {
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
	ahead := c.Read(17*time.Second, 1<<30, kernelRead, testPiece, 32<<20).Bytes
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
				ahead := c.Read(0, off, kernelRead, testPiece, limit).Bytes
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
