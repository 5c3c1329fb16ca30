package cache

import (
	"bytes"
	"crypto/sha1"
	"hash"
	"sync"
	"sync/atomic"
)

const (
	blockFree = iota
	blockClaimed
	blockWritten
)

// hashBurst is how many blocks one WriteBlock hashes at most. A block that
// closes a gap may make a whole piece hashable (16 ms for 16 MiB); that is
// left to the next writers and to Verify, since the writer is a peer's reader.
const hashBurst = 4

var hashers = sync.Pool{New: func() any { return sha1.New() }}

// A Draft is a piece in assembly. It ends with Commit or Discard.
type Draft struct {
	// Set at start, read-only after.
	v    *Volume
	buf  *buffer
	size int

	blocks []atomic.Uint32 // blockFree → blockClaimed → blockWritten
	closed atomic.Bool     // committed or discarded

	// Whoever holds hashMu advances hashed, in order.
	hashMu sync.Mutex
	hash   hash.Hash // nil when finished
	hashed atomic.Int32
	good   bool // guarded by hashMu: the sum is right
}

// WriteBlock stores a block: off is a multiple of [BlockSize], and p is all of
// the block. kept is false when another writer had the block first; the bytes
// of p are ignored then. It never waits for a slower writer and allocates
// nothing but, once for every 256 KiB, memory that the draft has reserved.
// After the draft ended the error is [ErrClosed].
func (d *Draft) WriteBlock(off int, p []byte) (kept bool, err error) {
	// off comes from a peer.
	if off < 0 || off >= d.size || off%BlockSize != 0 || len(p) != min(BlockSize, d.size-off) {
		return false, ErrNotBlock
	}
	if d.closed.Load() || !d.buf.tryRef() {
		return false, ErrClosed
	}
	defer d.v.store.unref(d.buf)
	n := off / BlockSize
	if !d.blocks[n].CompareAndSwap(blockFree, blockClaimed) {
		return false, nil
	}
	c, err := d.chunkAt(off)
	if err != nil {
		d.blocks[n].Store(blockFree)
		return false, err
	}
	copy(c.b[off%d.v.chunk:], p)
	d.blocks[n].Store(blockWritten)
	d.advance()
	return true, nil
}

// chunkAt returns the chunk of an offset, allocated by the first to ask.
func (d *Draft) chunkAt(off int) (*chunk, error) {
	slot := &d.buf.chunks[off/d.v.chunk]
	if c := slot.Load(); c != nil {
		return c, nil
	}
	c, err := d.v.store.mem.get(d.v.chunk)
	if err != nil {
		return nil, err
	}
	if !slot.CompareAndSwap(nil, c) {
		d.v.store.mem.put(c)
	}
	return slot.Load(), nil
}

// advance hashes what is next in order, if nobody else is at it.
func (d *Draft) advance() {
	for done := 0; done < hashBurst && d.ready(); {
		if !d.hashMu.TryLock() {
			return // the holder looks again after it unlocked
		}
		for ; done < hashBurst && d.ready(); done++ {
			d.hashNext()
		}
		d.hashMu.Unlock()
	}
}

// ready says that the next block in order is in.
func (d *Draft) ready() bool {
	n := int(d.hashed.Load())
	return n < len(d.blocks) && d.blocks[n].Load() == blockWritten
}

// hashNext hashes the next block in order. hashMu is held.
func (d *Draft) hashNext() {
	if d.hash == nil {
		d.hash = hashers.Get().(hash.Hash)
		d.hash.Reset()
	}
	n := int(d.hashed.Load())
	d.hash.Write(d.block(n))
	d.hashed.Store(int32(n + 1))
}

// block returns the bytes of block n, which must be in.
func (d *Draft) block(n int) []byte {
	p := d.buf.bytes(n * BlockSize)
	return p[:min(len(p), BlockSize)]
}

// Verify finishes the hash and says whether the piece has its sum. It is false
// while a block is missing. It hashes what WriteBlock left, up to the whole
// piece.
func (d *Draft) Verify() bool {
	if d.closed.Load() || !d.buf.tryRef() {
		return false
	}
	defer d.v.store.unref(d.buf)
	d.hashMu.Lock()
	defer d.hashMu.Unlock()
	for d.ready() {
		d.hashNext()
	}
	if int(d.hashed.Load()) < len(d.blocks) || d.hash == nil {
		return d.good
	}
	var sum [sha1.Size]byte
	d.good = bytes.Equal(d.hash.Sum(sum[:0]), d.v.geometry.sum(d.buf.piece))
	hashers.Put(d.hash)
	d.hash = nil
	return d.good
}

// Block returns the bytes of block n, or nil if it is not in. They belong to
// the draft and are valid until Commit or Discard; the caller must not call
// those at the same time.
func (d *Draft) Block(n int) []byte {
	if n < 0 || n >= len(d.blocks) || d.closed.Load() || d.blocks[n].Load() != blockWritten {
		return nil
	}
	return d.block(n)
}

// Commit makes a verified piece readable at once and queues it for the disk.
// It ends the draft, unless the error is [ErrUnverified].
func (d *Draft) Commit() error {
	d.hashMu.Lock()
	good := d.good
	d.hashMu.Unlock()
	if !good {
		return ErrUnverified
	}
	if !d.closed.CompareAndSwap(false, true) {
		return ErrClosed
	}
	return d.v.store.commit(d.buf)
}

// Discard ends the draft and gives its memory back. It does nothing after
// Commit or Discard.
func (d *Draft) Discard() {
	if d.closed.CompareAndSwap(false, true) {
		d.v.store.discard(d.buf)
	}
}
