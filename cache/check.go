package cache

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"hash"
	"sync"
)

// What an earlier run stored is hashed before it is read for the first time,
// so a bit that flipped on the disk, a torn log or a damaged index costs a
// fetch and never a wrong byte. What was written since the store was opened was
// hashed on its way in.

var errChanged = errors.New("stored piece does not have its sum")

// check is the hashing of one piece, which everybody who reads it waits for.
type check struct {
	v     *Volume
	piece uint32
	done  chan struct{} // closed when the piece is checked, or lost
}

// hashBytes is how much of a piece is read at once to be hashed: enough for the
// disk, and whole chunks of any size.
const hashBytes = 4 * maxChunk

// scratch holds what is hashed; as many are in use as there are checks.
var scratch = sync.Pool{New: func() any { return new([hashBytes]byte) }}

// beginCheck notes that a piece is being checked. Store.mu is held.
func (v *Volume) beginCheck(piece uint32) *check {
	c := &check{v: v, piece: piece, done: make(chan struct{})}
	v.checks[piece] = c
	return c
}

// Check hashes a piece as it is stored, also if that was done before. One that is
// not right is lost, as with ReadAt. The error is [ErrMissing] when the piece is not
// held, or is lost now; what is in memory only is right.
func (v *Volume) Check(piece int) error {
	s, at := v.store, uint32(piece)
	if v.geometry.PieceSize(piece) == 0 {
		return fmt.Errorf("check piece %d: no such piece", piece)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	_, stored := v.disk[at]
	other := v.checks[at]
	if !stored || other != nil {
		s.mu.Unlock()
		if other != nil {
			<-other.done
		}
		if !v.Has(piece) {
			return ErrMissing
		}
		return nil
	}
	c, d := v.beginCheck(at), s.disk
	s.reads.Add(1)
	s.mu.Unlock()
	defer s.reads.Done()
	if s.check(c, d, nil, 0) != nil {
		return ErrMissing
	}
	return nil
}

// check hashes a piece, and copies to p what it has from off on; p ends in the
// piece. With an error the piece is lost. It waits while too many are at it.
func (s *Store) check(c *check, d *disk, p []byte, off int) error {
	s.slots <- struct{}{}
	err := c.v.hashStored(d, c.piece, p, off)
	<-s.slots
	if err != nil {
		s.lost(d, c.v, c.piece, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(c.v.checks, c.piece)
	close(c.done)
	s.stats.Checked++
	if stored, ok := c.v.disk[c.piece]; ok && err == nil && s.disk == d {
		stored.checked = true
		c.v.disk[c.piece] = stored
	}
	return err
}

// hashStored reads a piece from the disk and compares its sum. The bytes that p
// gets are the ones that were hashed, not a second reading of them.
func (v *Volume) hashStored(d *disk, piece uint32, p []byte, off int) error {
	k := v.key(int(piece), v.geometry.PieceSize(int(piece)))
	return hashPiece(k.size, v.geometry.sum(int(piece)), func(part []byte, at int) error { return d.read(k, part, at) }, p, off)
}

// hashPiece reads size bytes and compares their sum. p gets what was read from off on.
func hashPiece(size int, sum []byte, read func(part []byte, at int) error, p []byte, off int) error {
	h := hashers.Get().(hash.Hash)
	defer hashers.Put(h)
	h.Reset()
	buf := scratch.Get().(*[hashBytes]byte)
	defer scratch.Put(buf)
	for at := 0; at < size; at += hashBytes {
		part := buf[:min(hashBytes, size-at)]
		end := at + len(part)
		direct := off <= at && end <= off+len(p)
		if direct {
			part = p[at-off : end-off]
		}
		if err := read(part, at); err != nil {
			return err
		}
		h.Write(part)
		if from, to := max(off, at), min(off+len(p), end); !direct && from < to {
			copy(p[from-off:], part[from-at:to-at])
		}
	}
	var got [sha1.Size]byte
	if !bytes.Equal(h.Sum(got[:0]), sum) {
		return errChanged
	}
	return nil
}

// aheadBytes is how far ahead of a reader in order the disk is told to read, in
// bytes. Pieces lie in the order in which they came, so the kernel's own
// read-ahead finds the next one only if they came in order. To check ahead as well
// was measured: through a mount it gains nothing, since the kernel reads ahead there.
const aheadBytes = 4 << 20

// runs are the pieces that would continue what was read last, of as many readers
// at once, and 0 for none. Piece 0 continues nothing.
type runs struct {
	next [8]int
	hand int
}

// inOrder notes that a piece is read from the disk. When a reader has come to it
// from the one before, the result is the piece that the disk should be told of now;
// otherwise it is 0. Store.mu is held.
func (v *Volume) inOrder(piece int) (far int) {
	r := &v.runs
	for i, next := range r.next {
		if next == piece+1 { // goes on in the same piece
			return 0
		}
		if next == piece && piece > 0 {
			r.next[i] = piece + 1
			far = piece + max(1, int(aheadBytes/v.geometry.PieceLength))
			if _, ok := v.disk[uint32(far)]; ok {
				return far
			}
			return 0
		}
	}
	r.next[r.hand] = piece + 1
	r.hand = (r.hand + 1) % len(r.next)
	return 0
}
