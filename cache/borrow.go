package cache

import (
	"errors"
	"slices"
	"time"
)

// errLender means that another volume does not have a piece any more, or not as it
// should be.
var errLender = errors.New("other volume does not have the piece")

// ReadAt copies from a piece, from off on, and returns how many bytes: fewer
// than len(p) only at the end of the piece. The error is [ErrMissing] when the
// piece is not held, which includes that it was evicted a moment ago, could not
// be read back from the disk or came back changed (then onEvict is told). What
// an earlier run stored is hashed first, all of the piece; others that want to
// read it wait for that. What another volume may hold is copied from there. What
// is read is kept for longer.
func (v *Volume) ReadAt(piece int, p []byte, off int) (int, error) {
	n, err := v.readAt(piece, p, off, true)
	if !errors.Is(err, ErrMissing) {
		return n, err
	}
	err = v.borrow(piece, true)
	if err == nil {
		n, err = v.readAt(piece, p, off, true)
		if !errors.Is(err, ErrMissing) {
			return n, err
		}
	}
	if errors.Is(err, errLender) {
		return 0, ErrMissing
	}
	return v.readThrough(piece, p, off)
}

// borrow makes a piece held that another volume holds. The error is errLender when
// none does, or one of [Volume.Draft] when there is no memory for a copy now.
func (v *Volume) borrow(piece int, urgent bool) error {
	m, done, err := v.beginBorrow(piece)
	if done == nil {
		return err
	}
	err = v.copyFrom(m, urgent)
	s := v.store
	s.mu.Lock()
	switch {
	case err == nil:
		v.borrowed++
		s.stats.Borrowed++
	case errors.Is(err, errLender):
		v.forgo(piece)
	case errors.Is(err, ErrHeld):
		err = nil
	}
	delete(v.borrowing, uint32(piece))
	s.mu.Unlock()
	close(done)
	return err
}

// beginBorrow returns where a piece is to be copied from, and what to close when that
// is done; nil if there is nothing to do, since it is held, or with an error.
func (v *Volume) beginBorrow(piece int) (m match, done chan struct{}, err error) {
	s, at := v.store, uint32(piece)
	for {
		s.mu.Lock()
		wait := v.matching
		if wait == nil {
			wait = v.borrowing[at]
		}
		switch {
		case s.closed:
			err = ErrClosed
		case v.held(at):
		case wait != nil:
			s.mu.Unlock()
			select {
			case <-wait:
			case <-s.quit:
			}
			continue
		case !v.loans.set.has(piece):
			err = errLender
		default:
			m, done = v.loans.of(piece), make(chan struct{})
			if v.borrowing == nil {
				v.borrowing = make(map[uint32]chan struct{})
			}
			v.borrowing[at] = done
		}
		s.mu.Unlock()
		return m, done, err
	}
}

// forgo notes that a piece cannot be had from another volume. Store.mu is held.
func (v *Volume) forgo(piece int) {
	v.loans.set.clear(piece)
	v.store.news.push(spot{v, uint32(piece)}) // not held: peers may be asked
}

// copyFrom copies a piece and hashes it.
func (v *Volume) copyFrom(m match, urgent bool) error {
	d, err := v.Draft(m.piece, urgent)
	if err != nil {
		return err
	}
	defer d.Discard() // unless it was committed
	d.buf.copied = true
	buf := scratch.Get().(*[hashBytes]byte)
	defer scratch.Put(buf)
	for at := 0; at < d.size; at += hashBytes {
		part := buf[:min(hashBytes, d.size-at)]
		if err := m.read(part, at); err != nil {
			return err
		}
		for i := 0; i < len(part); i += BlockSize {
			if _, err := d.WriteBlock(at+i, part[i:min(i+BlockSize, len(part))]); err != nil {
				return err
			}
		}
	}
	if !d.Verify() {
		return errLender
	}
	return d.Commit()
}

// read fills p from a place in the piece on. Other than ErrClosed its error is
// errLender.
func (m match) read(p []byte, off int) error {
	read := m.from.Peek
	if files := m.from.beneath(); files != nil {
		read = files.Peek
	}
	n, err := read(m.at, p, off)
	switch {
	case errors.Is(err, ErrClosed):
		return err
	case err != nil || n < len(p):
		return errLender
	}
	return nil
}

// readThrough reads a piece where another volume has it, and hashes all of it each
// time: there is no memory for a copy.
func (v *Volume) readThrough(piece int, p []byte, off int) (int, error) {
	s, size := v.store, v.geometry.PieceSize(piece)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, ErrClosed
	}
	if !v.loans.set.has(piece) {
		s.mu.Unlock()
		return 0, ErrMissing
	}
	m := v.loans.of(piece)
	s.mu.Unlock()
	p = p[:min(len(p), size-off)]
	err := hashPiece(size, v.geometry.sum(piece), m.read, p, off)
	switch {
	case err == nil:
		return len(p), nil
	case errors.Is(err, ErrClosed):
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v.forgo(piece)
	return 0, ErrMissing
}

// Decide has an undecided piece copied soon, at once if it is urgent. How that ended is
// told by onFound, onEvict or onRecount.
func (v *Volume) Decide(piece int, urgent bool) {
	s := v.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || v.matching != nil {
		return
	}
	list := &s.toBorrow
	if urgent {
		list = &s.toBorrowSoon
	}
	if at := (spot{v, uint32(piece)}); !slices.Contains(*list, at) {
		*list = append(*list, at)
		poke(s.borrowMore)
	}
}

// borrowAgain is when a copy is tried again that there was no memory for.
const borrowAgain = 100 * time.Millisecond

// lend copies what is to be decided until the store is closed. After what nobody
// waits for it rests as long as it worked.
func (s *Store) lend() {
	for {
		at, urgent, ok := s.nextToBorrow()
		if !ok {
			if !s.await(s.borrowMore) {
				return
			}
			continue
		}
		began := time.Now()
		rest := s.decide(at, urgent)
		if !urgent {
			rest = max(rest, time.Since(began))
		}
		if !s.pause(rest) {
			return
		}
	}
}

// nextToBorrow takes the piece that is the next to be copied.
func (s *Store) nextToBorrow() (at spot, urgent, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, list := range []*[]spot{&s.toBorrowSoon, &s.toBorrow} {
		if len(*list) > 0 {
			at = (*list)[0]
			*list = slices.Delete(*list, 0, 1)
			return at, list == &s.toBorrowSoon, true
		}
	}
	return at, false, false
}

// decide copies a piece, or puts it off, and returns for how long.
func (s *Store) decide(at spot, urgent bool) (wait time.Duration) {
	err := at.v.borrow(int(at.piece), urgent)
	switch {
	case err == nil: // maybe by somebody else
		s.news.found(at)
	case errors.Is(err, errLender):
		s.news.push(at)
	case errors.Is(err, ErrClosed):
	default:
		at.v.Decide(int(at.piece), false)
		return borrowAgain
	}
	return 0
}
