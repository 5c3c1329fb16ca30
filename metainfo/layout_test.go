package metainfo

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func drawLayout(t *rapid.T) Layout {
	l := Layout{
		PieceLength: rapid.OneOf(rapid.Int64Range(1, 100), rapid.Int64Range(1, MaxPieceLength)).Draw(t, "piece length"),
		Length:      rapid.OneOf(rapid.Int64Range(1, 5000), rapid.Int64Range(1, 1<<45)).Draw(t, "length"),
	}
	if l.PieceLength%BlockSize == 0 && rapid.Bool().Draw(t, "leaves") {
		l.Unit = BlockSize
	}
	return l
}

func TestPiecesAndBlocksCutTheTorrentExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayout(t)
		n := l.NumPieces()
		if got := l.PieceOffset(n-1) + int64(l.PieceSize(n-1)); got != l.Length {
			t.Fatalf("%+v: the last of %d pieces ends at %d", l, n, got)
		}
		for range 5 {
			p := rapid.IntRange(0, n-1).Draw(t, "piece")
			if p < n-1 && int64(l.PieceSize(p)) != l.PieceLength || l.PieceSize(p) < 1 {
				t.Fatalf("%+v: piece %d has %d bytes", l, p, l.PieceSize(p))
			}
			at := 0
			for b := range l.NumBlocks(p) {
				begin, length := l.Block(p, b)
				if begin != at || length < 1 || length > BlockSize {
					t.Fatalf("%+v: block %d of piece %d is %d+%d, want it at %d", l, b, p, begin, length, at)
				}
				at += length
			}
			if at != l.PieceSize(p) {
				t.Fatalf("%+v: blocks of piece %d end at %d of %d", l, p, at, l.PieceSize(p))
			}
		}
	})
}

func TestARangeOfBytesIsCoveredByItsPiecesAndNoOther(t *testing.T) {
	edges := rapid.OneOf(rapid.Int64(), rapid.Int64Range(-10, 10000), rapid.SampledFrom([]int64{0, math.MaxInt64, math.MinInt64}))
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayout(t)
		off, n := edges.Draw(t, "off"), edges.Draw(t, "n")
		first, end := l.Pieces(off, n)
		from, to := l.Verified(off, n)
		// The same by comparing, where nothing can wrap: what is in the torrent.
		lo, hi := max(off, 0), l.Length
		if n <= 0 {
			hi = lo
		} else if off < 0 {
			hi = min(hi, max(0, off+n))
		} else if n < l.Length-off {
			hi = off + n
		}
		if lo >= hi {
			if first != end || from != to {
				t.Fatalf("%+v: %d bytes at %d are outside, but got pieces %d to %d, bytes %d to %d", l, n, off, first, end, from, to)
			}
			return
		}
		if l.PieceOffset(first) > lo || l.PieceOffset(first)+l.PieceLength <= lo ||
			l.PieceOffset(end-1) >= hi || l.PieceOffset(end-1)+int64(l.PieceSize(end-1)) < hi {
			t.Fatalf("%+v: bytes %d to %d: got pieces %d to %d", l, lo, hi, first, end)
		}
		unit := l.Unit
		if unit == 0 {
			unit = l.PieceLength
		}
		if from%unit != 0 || from > lo || lo-from >= unit || to < hi || to-hi >= unit || to%unit != 0 && to != l.Length {
			t.Fatalf("%+v: bytes %d to %d: verified are %d to %d", l, lo, hi, from, to)
		}
	})
}

func TestTheLastPieceOfAnExactMultipleIsFull(t *testing.T) {
	l := Layout{PieceLength: BlockSize, Length: 4 * BlockSize}
	if l.NumPieces() != 4 || l.PieceSize(3) != BlockSize || l.NumBlocks(3) != 1 {
		t.Errorf("got %d pieces, the last of %d bytes", l.NumPieces(), l.PieceSize(3))
	}
}
