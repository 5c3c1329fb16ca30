package cache

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// Volume is a numbered sequence of pieces, some of which are held.
type Volume struct {
	// Set at start, read-only after. The geometry is set by Store.Volume
	// before anybody else has the volume.
	store    *Store
	id       [20]byte
	geometry Geometry
	chunk    int // bytes

	// Guarded by Store.mu.
	disk    map[uint32]diskPiece
	checks  map[uint32]*check  // under way
	runs    runs               // what is read from the disk in order
	ram     map[uint32]*buffer // committed
	drafts  map[uint32]*buffer // open
	firm    int64              // bytes of drafts and dirty pieces
	ahead   int64              // bytes of the other pieces in memory that windows hold
	starved bool               // a draft was refused
	pins    bitmap             // not to be evicted; nil: none
	pinned  int64              // bytes of these, held or not
	edges   bitmap             // of files; nil: none
	windows map[uint32]Span    // of readers, by their numbers
	onEvict func(piece int)
	onRoom  func()
	onFound func(piece int)

	// What other volumes have of it; guarded by Store.mu.
	shared    bool // Share was called
	loans     loans
	matching  chan struct{}            // closed, and nil, when loans are known
	asked     bool                     // somebody was told that all is undecided
	borrowing map[uint32]chan struct{} // being copied; closed at the end
	borrowed  int64                    // pieces
	imported  *Imported                // lies beneath; nil: nothing does
	onRecount func()
}

// diskPiece is what is on disk of a piece.
type diskPiece struct {
	chunks  uint16
	bytes   uint32
	checked bool // written or hashed since the store was opened
}

func newVolume(s *Store, id [20]byte) *Volume {
	return &Volume{
		store: s, id: id,
		disk: make(map[uint32]diskPiece), checks: make(map[uint32]*check),
		ram: make(map[uint32]*buffer), drafts: make(map[uint32]*buffer), windows: make(map[uint32]Span),
	}
}

// adopt sets the geometry. Pieces on disk that do not fit it, or of which a
// chunk is missing, are not held; they are the next to be evicted. Store.mu is held.
func (v *Volume) adopt(g Geometry) error {
	if v.chunk != 0 {
		if v.geometry.PieceLength != g.PieceLength || v.geometry.Length != g.Length {
			return errors.New("geometry differs from the one before")
		}
		return nil
	}
	v.geometry, v.chunk = g, g.chunkSize()
	v.weed()
	return nil
}

// weed forgets the pieces on disk that do not fit the geometry. Store.mu is held.
func (v *Volume) weed() {
	g := v.geometry
	for piece, d := range v.disk {
		size := g.PieceSize(int(piece))
		if size == 0 || int(d.bytes) != size || int(d.chunks) != v.chunks(size) {
			v.store.live -= int64(d.bytes)
			v.store.policy.spoil(spot{v, piece})
			delete(v.disk, piece)
		}
	}
}

// chunks returns how many chunks a piece of so many bytes has.
func (v *Volume) chunks(size int) int { return (size + v.chunk - 1) / v.chunk }

// Notify sets the functions that are told of evicted pieces, and of room for
// drafts after an ErrNoRoom. Either may be nil; the call replaces the ones
// before. They are called by one goroutine, in order, with no lock held; while
// one blocks, the others wait, but not the store.
func (v *Volume) Notify(onEvict func(piece int), onRoom func()) {
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	v.onEvict, v.onRoom = onEvict, onRoom
}

// NotifyFound sets the function that is told of pieces that are held without a
// draft: those of a disk that is back. It is called as those of Notify are.
func (v *Volume) NotifyFound(onFound func(piece int)) {
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	v.onFound = onFound
}

// Pieces returns the pieces held; bit i%64 of word i/64 is piece i.
func (v *Volume) Pieces() []uint64 {
	held := newBitmap(v.geometry.NumPieces())
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	for piece := range v.disk {
		held.set(int(piece))
	}
	for piece := range v.ram {
		held.set(int(piece))
	}
	return held
}

// Has says whether a piece is held.
func (v *Volume) Has(piece int) bool {
	if v.geometry.PieceSize(piece) == 0 {
		return false
	}
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	return v.held(uint32(piece))
}

func (v *Volume) held(piece uint32) bool {
	_, disk := v.disk[piece]
	return disk || v.ram[piece] != nil
}

// Peek is ReadAt that has no influence on what is kept, and copies nothing from other
// volumes: for uploads, which must not keep what only strangers want, and for checks.
func (v *Volume) Peek(piece int, p []byte, off int) (int, error) {
	return v.readAt(piece, p, off, false)
}

func (v *Volume) readAt(piece int, p []byte, off int, use bool) (int, error) {
	size := v.geometry.PieceSize(piece)
	if size == 0 || off < 0 || off > size {
		return 0, fmt.Errorf("read %d bytes at %d of piece %d: out of range", len(p), off, piece)
	}
	for {
		n, wait, err := v.tryReadAt(piece, p[:min(len(p), size-off)], off, use)
		if wait == nil {
			return n, err
		}
		<-wait
	}
}

// tryReadAt is ReadAt, unless somebody else is checking the piece: then it
// returns what to wait for.
func (v *Volume) tryReadAt(piece int, p []byte, off int, use bool) (n int, wait <-chan struct{}, err error) {
	s, at := v.store, uint32(piece)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, nil, ErrClosed
	}
	d, ok := v.disk[at]
	if ok && use {
		s.policy.read(s.now(), spot{v, at})
	}
	if b := v.ram[at]; b != nil {
		b.refs.Add(1) // the table has one, so there is at least one
		s.seen(b)
		if use && v.ram[at] == b { // settling it may have dropped it
			s.readOf(b, len(p))
		}
		s.stats.HitsRAM++
		s.mu.Unlock()
		defer s.unref(b)
		return b.copyOut(p, off), nil, nil
	}
	if !ok {
		s.stats.Misses++
		s.mu.Unlock()
		return 0, nil, ErrMissing
	}
	if c := v.checks[at]; c != nil && !d.checked {
		s.mu.Unlock()
		return 0, c.done, nil
	}
	s.stats.HitsDisk++
	s.reads.Add(1)
	disk := s.disk
	var c *check
	if !d.checked {
		c = v.beginCheck(at)
	}
	far := v.inOrder(piece)
	s.mu.Unlock()
	defer s.reads.Done()
	if far > 0 {
		disk.ahead(v.key(far, v.geometry.PieceSize(far)), aheadBytes)
	}
	if c != nil {
		err = s.check(c, disk, p, off)
	} else {
		err = disk.read(v.key(piece, v.geometry.PieceSize(piece)), p, off)
		if err != nil {
			s.lost(disk, v, at, err)
		}
	}
	if err != nil {
		return 0, nil, ErrMissing
	}
	if s.unread.Load() > 0 {
		s.unread.Store(0)
	}
	return len(p), nil, nil
}

func (v *Volume) key(piece, size int) pieceKey {
	return pieceKey{id: v.id, piece: uint32(piece), size: size, chunk: v.chunk}
}

// Draft opens a draft of a piece and reserves its memory. urgent: a reader
// waits for it, so the last quarter of the memory may be used. The error is
// [ErrNoRoom], [ErrHeld], [ErrDraftOpen] or [ErrClosed].
func (v *Volume) Draft(piece int, urgent bool) (*Draft, error) {
	size := v.geometry.PieceSize(piece)
	if size == 0 {
		return nil, fmt.Errorf("open draft of piece %d: no such piece", piece)
	}
	n := v.chunks(size)
	b := &buffer{v: v, piece: piece, size: size, room: n * v.chunk, urgent: urgent, chunks: make([]atomic.Pointer[chunk], n)}
	b.refs.Store(1)
	if err := v.store.reserve(b, urgent); err != nil {
		return nil, err
	}
	return &Draft{v: v, buf: b, size: size, blocks: make([]atomic.Uint32, (size+BlockSize-1)/BlockSize)}, nil
}
