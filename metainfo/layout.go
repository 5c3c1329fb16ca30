package metainfo

// BlockSize is what is requested from a peer at once, in bytes (BEP 3; every
// client drops larger requests). It is also the leaf of a v2 merkle tree.
const BlockSize = 16 << 10

// MaxPieceLength is the longest piece accepted, in bytes. A piece is verified
// as a whole, so this is a buffer that a torrent can make us need; the longest
// that clients make is 256 MiB.
const MaxPieceLength = 256 << 20

// A Layout is how a torrent's bytes are cut: into pieces of PieceLength bytes,
// the last one shorter, and pieces into blocks of BlockSize. It is a small
// value and pure arithmetic, all in 64 bits.
//
// Piece, block and byte numbers given to its methods must exist, unless a
// method says that it clips them; check what a peer sent before asking.
type Layout struct {
	PieceLength int64 // bytes, 1 to MaxPieceLength
	Length      int64 // bytes in all, pad files included; at least 1

	// Unit is what one hash covers, in bytes: 0 for a whole piece, as in v1.
	// It divides PieceLength. With the 16 KiB leaves of BEP 52 a read need not
	// wait for the whole piece.
	Unit int64
}

// NumPieces returns the number of pieces.
func (l Layout) NumPieces() int {
	if l.Length <= 0 {
		return 0
	}
	return int((l.Length-1)/l.PieceLength + 1) // not (Length+PieceLength-1): that can wrap
}

// PieceOffset returns where the piece starts, in bytes from the torrent's start.
func (l Layout) PieceOffset(piece int) int64 { return int64(piece) * l.PieceLength }

// PieceSize returns the length of the piece in bytes: PieceLength, or what is
// left for the last one.
func (l Layout) PieceSize(piece int) int {
	return int(min(l.PieceLength, l.Length-l.PieceOffset(piece)))
}

// NumBlocks returns the number of blocks of the piece.
func (l Layout) NumBlocks(piece int) int {
	return (l.PieceSize(piece)-1)/BlockSize + 1
}

// Block returns the place of the nth block inside its piece, in bytes.
func (l Layout) Block(piece, n int) (begin, length int) {
	begin = n * BlockSize
	return begin, min(BlockSize, l.PieceSize(piece)-begin)
}

// Pieces returns the half-open range of pieces that hold some of the n bytes
// at off. The range is clipped to the torrent; it is empty when n <= 0 or off
// lies outside.
func (l Layout) Pieces(off, n int64) (first, end int) {
	off, n = l.clip(off, n)
	if n == 0 {
		return 0, 0
	}
	return int(off / l.PieceLength), int((off+n-1)/l.PieceLength) + 1
}

// Verified returns the smallest range of bytes that holds the n bytes at off
// and that hashes cover exactly: what must be there and verified before these
// bytes may be given to a reader. Clipped like Pieces.
func (l Layout) Verified(off, n int64) (from, end int64) {
	off, n = l.clip(off, n)
	if n == 0 {
		return 0, 0
	}
	unit := l.Unit
	if unit == 0 {
		unit = l.PieceLength
	}
	from = off - off%unit
	last := off + n - 1
	return from, min(last-last%unit+unit, l.Length)
}

// clip cuts a range to the torrent. off and n come from a caller's file
// offsets, so they are only added where the sum cannot wrap.
func (l Layout) clip(off, n int64) (int64, int64) {
	if n > 0 && off < 0 {
		off, n = 0, off+n
	}
	if n <= 0 || off < 0 || off >= l.Length {
		return 0, 0
	}
	return off, min(n, l.Length-off)
}
