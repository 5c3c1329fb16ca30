package engine

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

const kernelRead = 128 << 10

// The window grows with what was read in sequence, to its limit.
func TestReadAheadGrowsWithASequence(t *testing.T) {
	var c Cursor
	const limit = 8 << 20
	last := int64(0)
	for off := int64(0); off < 32<<20; off += kernelRead {
		ahead := c.Read(off, kernelRead, limit)
		if ahead < last || ahead > limit {
			t.Fatalf("got %d ahead at %d, was %d, limit %d", ahead, off, last, limit)
		}
		last = ahead
	}
	if last != limit {
		t.Errorf("got %d ahead after 32 MiB, want %d", last, limit)
	}
}

// A look at the head, or at the tail, or anywhere, fetches nothing ahead.
func TestAProbeCostsNothingAhead(t *testing.T) {
	for _, reads := range [][][2]int64{
		{{0, 4096}},
		{{0, kernelRead}, {kernelRead, kernelRead}},
		{{0, 65536}, {1<<30 - 65536, 65536}, {0, 65536}},
		{{1 << 29, 1 << 19}},
	} {
		var c Cursor
		for _, r := range reads {
			if ahead := c.Read(r[0], r[1], 8<<20); ahead != 0 {
				t.Errorf("reads %v: got %d ahead", reads, ahead)
			}
		}
	}
}

// A seek closes the window, wherever it goes.
func TestASeekClosesTheWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Cursor
		from := rapid.Int64Range(0, 1<<40).Draw(t, "from")
		for i := range int64(200) {
			c.Read(from+i*kernelRead, kernelRead, 64<<20)
		}
		end := from + 200*kernelRead
		to := rapid.Int64Range(0, 1<<41).Draw(t, "to")
		if to <= end+cursorSlack && to+kernelRead >= end-cursorSlack {
			t.Skip("still near the sequence")
		}
		if ahead := c.Read(to, kernelRead, 64<<20); ahead != 0 || c.Sequence() != kernelRead {
			t.Errorf("got %d ahead after a seek, sequence %d", ahead, c.Sequence())
		}
	})
}

// Requests of the kernel's read-ahead come in any order, several at a time: the
// end of the window is what it would be in order.
func TestReadsOutOfOrderKeepTheWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		batch := rapid.IntRange(1, 16).Draw(t, "reads at a time")
		var c Cursor
		const limit = 8 << 20
		read := int64(0)
		for range 40 {
			furthest := int64(0)
			for _, i := range rng.Perm(batch) {
				off := read + int64(i)*kernelRead
				furthest = max(furthest, off+kernelRead)
				ahead := c.Read(off, kernelRead, limit)
				if end := off + kernelRead + ahead; ahead < 0 || ahead > 0 && end < furthest {
					t.Fatalf("got a window to %d with reads to %d", end, furthest)
				}
			}
			read += int64(batch) * kernelRead
			if got := c.Sequence(); got > read || got < read-int64(batch)*kernelRead {
				t.Fatalf("got a sequence of %d after %d", got, read)
			}
		}
	})
}
