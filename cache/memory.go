package cache

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	minChunk = 16 << 10  // one block
	maxChunk = 256 << 10 // one database value, and one slab
	classes  = 5         // 16, 32, 64, 128 and 256 KiB
)

// arena hands out chunks of memory in size classes. The memory lies outside
// the Go heap, so that the collector's pacing (twice the live heap) does not
// double the budget.
//
// It is cut from slabs of 256 KiB. A slab serves one class until all of it is
// free again, so the classes can trade memory without fragmenting it.
type arena struct {
	mu      sync.Mutex
	limit   int64   // bytes kept mapped while unused
	mapped  int64   // bytes mapped now
	free    []*slab // belong to no class
	partial [classes][]*chunk
	closed  bool
}

type slab struct {
	mem    []byte
	chunks []chunk
	used   int
}

// chunk is one allocation. Its bytes belong to whoever holds the buffer.
type chunk struct {
	b    []byte
	slab *slab
	at   int // index in arena.partial of its class, while free
}

func classOf(size int) int {
	c := 0
	for s := minChunk; s < size; s <<= 1 {
		c++
	}
	return c
}

// get returns a chunk of a class size. Its bytes are undefined.
func (a *arena) get(size int) (*chunk, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	class := classOf(size)
	if len(a.partial[class]) == 0 {
		if err := a.split(class, size); err != nil {
			return nil, err
		}
	}
	list := a.partial[class]
	c := list[len(list)-1]
	a.partial[class] = list[:len(list)-1]
	c.slab.used++
	return c, nil
}

// split makes a free slab, or a new one, serve a class.
func (a *arena) split(class, size int) error {
	var s *slab
	if n := len(a.free); n > 0 {
		s, a.free = a.free[n-1], a.free[:n-1]
	} else {
		mem, err := allocSlab(maxChunk)
		if err != nil {
			return err
		}
		a.mapped += maxChunk
		s = &slab{mem: mem}
	}
	if len(s.chunks) != maxChunk/size {
		s.chunks = make([]chunk, maxChunk/size)
		for i := range s.chunks {
			s.chunks[i] = chunk{b: s.mem[i*size : (i+1)*size : (i+1)*size], slab: s}
		}
	}
	for i := range s.chunks {
		a.push(class, &s.chunks[i])
	}
	return nil
}

func (a *arena) push(class int, c *chunk) {
	c.at = len(a.partial[class])
	a.partial[class] = append(a.partial[class], c)
}

func (a *arena) put(c *chunk) {
	a.mu.Lock()
	defer a.mu.Unlock()
	class := classOf(len(c.b))
	a.push(class, c)
	s := c.slab
	s.used--
	if s.used > 0 {
		return
	}
	// The slab is free: take its chunks off the class's list.
	for i := range s.chunks {
		c, list := &s.chunks[i], a.partial[class]
		last := list[len(list)-1]
		list[c.at], last.at = last, c.at
		a.partial[class] = list[:len(list)-1]
	}
	if a.closed || a.mapped > a.limit {
		a.mapped -= maxChunk
		freeSlab(s.mem)
		return
	}
	a.free = append(a.free, s)
}

// close returns what is free; the rest goes back as it is put.
func (a *arena) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for _, s := range a.free {
		a.mapped -= maxChunk
		freeSlab(s.mem)
	}
	a.free = nil
}

// buffer holds the bytes of one piece. It is counted: the draft or the
// volume's table has one reference, every reader and writer at work another,
// so that nobody copies under a lock and nothing is reused under a copy.
type buffer struct {
	// Set at start, read-only after.
	v     *Volume
	piece int
	size  int // bytes of the piece
	room  int // bytes reserved: the chunks it may have

	copied bool // from another volume: by who has the draft

	refs   atomic.Int32
	chunks []atomic.Pointer[chunk]

	// Guarded by Store.mu, once committed.
	dirty  bool // not on disk yet, and to be written
	urgent bool // a reader waits for it
	fresh  bool // not read yet (Store.fresh)
	until  time.Time
	ahead  bool          // counted in Store.ahead
	read   int64         // bytes that readers got of it
	readAt time.Duration // the last time, by Store.now
}

// tryRef takes a reference unless the last one is gone.
func (b *buffer) tryRef() bool {
	for {
		n := b.refs.Load()
		if n == 0 {
			return false
		}
		if b.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// copyOut copies from the piece at off. All bytes must be in.
func (b *buffer) copyOut(p []byte, off int) int {
	n := 0
	for n < len(p) && off < b.size {
		c := b.bytes(off)
		m := copy(p[n:], c)
		n += m
		off += m
	}
	return n
}

// bytes returns what is contiguous in memory from off on, without the part of
// the last chunk that is beyond the piece.
func (b *buffer) bytes(off int) []byte {
	size := b.v.chunk
	c := b.chunks[off/size].Load().b
	end := min(size, b.size-off/size*size)
	return c[off%size : end]
}
