package cache

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// BlockSize is the unit in which drafts are written, in bytes (BEP 3: what
// peers request). Only the last block of a piece may be shorter.
const BlockSize = 16 << 10

// maxPieceLength bounds what one draft may reserve, in bytes. The largest
// pieces seen in the wild are 32 MiB; 256 MiB leaves room and still fits the
// 16-bit chunk number of a database key many times over.
const maxPieceLength = 256 << 20

var (
	// ErrMissing means that the piece is not held.
	ErrMissing = errors.New("piece is not held")
	// ErrNoRoom means that the memory budget is taken; the onRoom function
	// of [Volume.Notify] is called when it is worth asking again.
	ErrNoRoom = errors.New("no room in memory for another piece")
	// ErrHeld means that a draft was asked for a piece that is held.
	ErrHeld = errors.New("piece is held already")
	// ErrDraftOpen means that the piece has an open draft.
	ErrDraftOpen = errors.New("piece has an open draft")
	// ErrReadOnly means that the volume is made of existing files.
	ErrReadOnly = errors.New("volume is read-only")
	// ErrClosed means that the store, or the draft, is closed.
	ErrClosed = errors.New("cache is closed")
	// ErrNotBlock means that a write was not exactly one block of the piece.
	ErrNotBlock = errors.New("not exactly one block of the piece")
	// ErrUnverified means that Commit was called before Verify said yes.
	ErrUnverified = errors.New("piece is not verified")
)

// Geometry says how a volume is cut into pieces.
type Geometry struct {
	// PieceLength is the length of every piece but the last, in bytes.
	PieceLength int64
	// Length is the length of the volume, in bytes.
	Length int64
	// Sums holds the SHA-1 sum of every piece, 20 bytes each. It is not
	// copied and must not change.
	Sums []byte
}

func (g Geometry) check() error {
	switch {
	case g.PieceLength <= 0 || g.PieceLength > maxPieceLength:
		return fmt.Errorf("piece length %d is not in 1…%d", g.PieceLength, maxPieceLength)
	case g.Length < 0:
		return fmt.Errorf("length %d is negative", g.Length)
	case len(g.Sums)%sha1.Size != 0:
		return fmt.Errorf("sums of %d bytes are not a multiple of %d", len(g.Sums), sha1.Size)
	}
	pieces := g.Length / g.PieceLength
	if g.Length%g.PieceLength != 0 {
		pieces++
	}
	if pieces != int64(len(g.Sums)/sha1.Size) || pieces > math.MaxInt32 {
		return fmt.Errorf("%d bytes in pieces of %d need %d sums, there are %d",
			g.Length, g.PieceLength, pieces, len(g.Sums)/sha1.Size)
	}
	return nil
}

// NumPieces returns the number of pieces.
func (g Geometry) NumPieces() int { return len(g.Sums) / sha1.Size }

// PieceSize returns the length of a piece in bytes, 0 if there is no such piece.
func (g Geometry) PieceSize(piece int) int {
	if piece < 0 || piece >= g.NumPieces() {
		return 0
	}
	return int(min(g.PieceLength, g.Length-int64(piece)*g.PieceLength))
}

func (g Geometry) sum(piece int) []byte {
	return g.Sums[piece*sha1.Size : (piece+1)*sha1.Size]
}

// chunkSize returns how pieces are cut in RAM and on disk: 256 KiB, or for
// smaller pieces the piece length rounded up to a power of two of at least
// 16 KiB, so that one chunk is one allocation and one database value.
func (g Geometry) chunkSize() int {
	size := minChunk
	for size < maxChunk && int64(size) < g.PieceLength {
		size <<= 1
	}
	return size
}

// bitmap is a set of pieces: bit i%64 of word i/64 is piece i.
type bitmap []uint64

func newBitmap(n int) bitmap    { return make(bitmap, (n+63)/64) }
func (b bitmap) has(i int) bool { return i/64 < len(b) && b[i/64]&(1<<(i%64)) != 0 }
func (b bitmap) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bitmap) clear(i int)    { b[i/64] &^= 1 << (i % 64) }
func (b bitmap) count() (n int) {
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}
func (b bitmap) clone() []uint64 { return append([]uint64(nil), b...) }
