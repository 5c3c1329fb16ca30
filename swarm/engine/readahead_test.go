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

// A player that demuxes sound and pictures from two places of a file, or a copier
// with two threads on one descriptor: both places are sequences, and going from
// one to the other is no seek.
func TestOneHandleReadAtTwoPlacesInTurnHasTwoWindows(t *testing.T) {
	const chunk, far = 128 << 10, 100 << 20
	var c Cursor
	var a, b int64
	for i := range int64(64) {
		now := time.Duration(i) * 10 * time.Millisecond
		a = c.Read(now, i*chunk, chunk, 256<<10, 32<<20).Bytes
		b = c.Read(now, far+i*chunk, chunk, 256<<10, 32<<20).Bytes
	}
	if a < minAhead || b < minAhead {
		t.Errorf("after 8 MiB at each of two places %d and %d bytes are fetched ahead, want at least %d", a, b, minAhead)
	}
	if c.Seeks() > 1 {
		t.Errorf("%d seeks, want the one that began the second place", c.Seeks())
	}
}

// A handle has several sequences: what it comes back to goes on beside the new
// one, unless it comes too soon to be meant. A new place leaves all others.
func TestAPlaceThatWasLeft(t *testing.T) {
	const mib = 1 << 20
	type step struct {
		at    time.Duration
		off   int64
		seeks int // that the read is of
		left  bool
		live  int // places that are read in turn after it
	}
	ms := time.Millisecond
	for name, steps := range map[string][]step{
		"stays left for the kernel's late READs": {{0, 0, 0, false, 1}, {0, 100 * mib, 1, false, 1}, {leftTime - 1, kernelRead, 0, true, 1}},
		"comes back to life":                     {{0, 0, 0, false, 1}, {0, 100 * mib, 1, false, 1}, {leftTime, kernelRead, 1, false, 2}, {leftTime, 100 * mib, 1, false, 2}, {leftTime, 0, 1, false, 2}},
		"comes back after hours":                 {{0, 0, 0, false, 1}, {0, 100 * mib, 1, false, 1}, {5 * time.Hour, kernelRead, 1, false, 1}},
		"is where late READs have got to":        {{0, 0, 0, false, 1}, {0, 100 * mib, 1, false, 1}, {1, 4 * mib, 0, true, 1}, {2, 8 * mib, 0, true, 1}, {30 * ms, 12 * mib, 1, false, 2}},
		"is all places at a new one":             {{0, 0, 0, false, 1}, {0, 100 * mib, 1, false, 1}, {leftTime, 0, 1, false, 2}, {leftTime, 200 * mib, 2, false, 1}, {leftTime, 0, 1, true, 1}, {leftTime, 100 * mib, 1, true, 1}},
		"is the one that was not read for long":  {{0, 0, 0, false, 1}, {0, 100 * mib, 1, false, 1}, {leftTime, 0, 1, false, 2}, {leftTime + idleTime, 0, 1, false, 1}, {leftTime + idleTime, 100 * mib, 1, false, 2}},
		"is not meant near the current one":      {{0, 0, 0, false, 1}, {0, 5 * mib, 1, false, 1}, {0, 4 * mib, 1, false, 1}},
		"is forgotten for newer ones":            {{0, 0, 0, false, 1}, {0, 100 * mib, 1, false, 1}, {0, 200 * mib, 2, false, 1}, {0, 300 * mib, 3, false, 1}, {leftTime, 0, 4, false, 1}},
		"is kept when it was read since":         {{0, 0, 0, false, 1}, {0, 100 * mib, 1, false, 1}, {leftTime, 0, 1, false, 2}, {30 * ms, 200 * mib, 2, false, 1}, {40 * ms, 300 * mib, 3, false, 1}, {60 * ms, 0, 3, false, 2}},
	} {
		var c Cursor
		for i, s := range steps {
			a := c.Read(s.at, s.off, kernelRead, testPiece, 8<<20)
			live := 0
			for place := range Places {
				if c.Live(place) {
					live++
				}
			}
			if a.Seeks != s.seeks || a.Left != s.left || live != s.live || a.Left && a.Bytes > 0 {
				t.Errorf("%s: read %d: got %+v with %d places, want %d seeks, left: %v, %d places", name, i, a, live, s.seeks, s.left, s.live)
			}
		}
	}
}

// A READ of the kernel's that comes too late to be known as one costs no more
// than a seek, and nothing of the place where the player is.
func TestAPlaceThatComesBackHasSomeSecondsAhead(t *testing.T) {
	var c Cursor
	const perSec = 1 << 20
	for off := int64(0); off < 64<<20; off += kernelRead {
		c.Read(time.Duration(off)*time.Second/perSec, off, kernelRead, testPiece, 32<<20)
	}
	there := c.Read(65*time.Second, 1<<30, kernelRead, testPiece, 32<<20)
	back := c.Read(65*time.Second+2*leftTime, 64<<20, kernelRead, testPiece, 32<<20)
	if back.Bytes < perSec || back.Bytes > 3*perSec {
		t.Errorf("got %d ahead, want about 2 s of %d bytes a second", back.Bytes, perSec)
	}
	if !c.Live(there.Place) || there.Place == back.Place {
		t.Errorf("the place of the player is %d, live: %v, that of the late READ %d", there.Place, c.Live(there.Place), back.Place)
	}
}

// What a place had ahead is free for others once it is left.
func TestAPlaceThatWasLeftGivesItsPartBack(t *testing.T) {
	var c Cursor
	const limit = 8 << 20
	for off := int64(0); off < 64<<20; off += kernelRead {
		c.Read(0, off, kernelRead, testPiece, limit)
	}
	if ahead := c.Read(0, 1<<30, kernelRead, testPiece, limit).Bytes; ahead != limit {
		t.Errorf("got %d ahead after a seek, want %d", ahead, limit)
	}
}

// However many places are read, and in any order: what is ahead of all of them
// together is within the limit, and a place that was left has nothing.
func TestAllPlacesTogetherStayWithinTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Cursor
		limit := rapid.Int64Range(0, 64<<20).Draw(t, "limit")
		piece := int64(1) << rapid.IntRange(14, 24).Draw(t, "piece")
		streams := make([]int64, rapid.IntRange(1, Places+2).Draw(t, "streams"))
		for i := range streams {
			streams[i] = int64(i) * (256 << 20)
		}
		var got, want [Places]int64 // where each place has got to, and its window
		seeks := 0
		now := time.Duration(0)
		for range rapid.IntRange(1, 400).Draw(t, "reads") {
			i := rapid.IntRange(0, len(streams)-1).Draw(t, "stream")
			n := rapid.Int64Range(1, 1<<20).Draw(t, "bytes")
			now += time.Duration(rapid.Int64Range(0, int64(100*time.Millisecond)).Draw(t, "after"))
			a := c.Read(now, streams[i], n, piece, limit)
			streams[i] += n
			if c.Seeks() != seeks {
				seeks = c.Seeks()
				got, want = [Places]int64{}, [Places]int64{}
			}
			if !a.Left {
				got[a.Place] = max(got[a.Place], streams[i])
				want[a.Place] = streams[i] + a.Bytes
			}
			all := int64(0)
			for p := range Places {
				if ahead := want[p] - got[p]; c.Live(p) && ahead > 0 {
					all += ahead
				} else if !c.Live(p) {
					got[p], want[p] = 0, 0
				}
			}
			if all > limit {
				t.Fatalf("got %d bytes ahead of all places, limit %d", all, limit)
			}
		}
	})
}
