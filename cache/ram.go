package cache

import "time"

// The RAM layer: who may have memory, and what is dropped for it.

// overdraft is how far beyond the memory budget the first pieces of volumes may go
// together, in bytes: three of the largest seen in the wild.
const overdraft = 96 << 20

// reserve admits a draft.
func (s *Store) reserve(b *buffer, urgent bool) error {
	v, piece := b.v, uint32(b.piece)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case v.held(piece):
		return ErrHeld
	case v.drafts[piece] != nil:
		return ErrDraftOpen
	}
	s.expire()
	limit := s.opts.Memory
	if !urgent {
		limit = limit / 4 * draftShare
	}
	if s.disk == nil || s.degraded != nil {
		limit -= s.opts.Memory / 4 // what was read is nowhere else
	}
	// A volume that has nothing in memory gets its piece although the budget is
	// taken, or smaller than the piece. Dirty pieces count, or a slow disk
	// would not hold back a fast network.
	if v.firm == 0 {
		limit = max(s.opts.Memory+overdraft, int64(b.room))
	}
	if s.firm > 0 && s.firm+int64(b.room) > limit {
		if !v.starved {
			v.starved = true
			s.starved++
		}
		return ErrNoRoom
	}
	s.firm += int64(b.room)
	v.firm += int64(b.room)
	s.reserved += int64(b.room)
	v.drafts[piece] = b
	s.stats.Drafts++
	s.shrink()
	return nil
}

// shrink drops hot pieces while the memory is over its budget. mu is held.
func (s *Store) shrink() {
	for s.reserved > s.opts.Memory && s.clean.head != nil {
		s.drop(s.clean.head)
	}
}

// drop takes a clean piece out of memory. mu is held.
func (s *Store) drop(b *buffer) {
	v, piece := b.v, uint32(b.piece)
	s.clean.remove(b)
	delete(v.ram, piece)
	if _, ok := v.disk[piece]; !ok {
		s.evicted(v, piece)
	}
	if b.refs.Add(-1) == 0 {
		s.release(b)
	}
}

// evicted counts a piece that is gone and queues the news. mu is held.
func (s *Store) evicted(v *Volume, piece uint32) {
	s.stats.Evicted++
	s.news.evicted(spot{v, piece})
}

// unref gives a reference back.
func (s *Store) unref(b *buffer) {
	if b.refs.Add(-1) > 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release(b)
}

// release frees the memory of a buffer that nobody refers to. mu is held.
func (s *Store) release(b *buffer) {
	for i := range b.chunks {
		if c := b.chunks[i].Swap(nil); c != nil {
			s.mem.put(c)
		}
	}
	s.reserved -= int64(b.room)
}

// yielded notes that memory which could not be dropped now can, and queues the
// news for the volumes that asked in vain. mu is held.
func (s *Store) yielded(b *buffer) {
	s.firm -= int64(b.room)
	b.v.firm -= int64(b.room)
	if s.starved == 0 {
		return
	}
	for _, v := range s.volumes {
		if v.starved {
			v.starved = false
			s.news.room(v)
		}
	}
	s.starved = 0
}

// discard ends a draft that did not become a piece.
func (s *Store) discard(b *buffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endDraft(b)
	s.yielded(b)
	if b.refs.Add(-1) == 0 {
		s.release(b)
	}
}

func (s *Store) endDraft(b *buffer) {
	delete(b.v.drafts, uint32(b.piece))
	s.stats.Drafts--
}

// commit turns a draft into a piece.
func (s *Store) commit(b *buffer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endDraft(b)
	if s.closed {
		s.yielded(b)
		if b.refs.Add(-1) == 0 {
			s.release(b)
		}
		return ErrClosed
	}
	b.v.ram[uint32(b.piece)] = b
	s.stats.Committed++
	if s.disk == nil {
		s.unwritten(b)
		return nil
	}
	b.dirty = true
	s.dirty = append(s.dirty, b)
	s.work.Broadcast()
	return nil
}

// unwritten takes a committed piece that no disk has. mu is held.
func (s *Store) unwritten(b *buffer) {
	if !b.urgent {
		s.settle(b)
		return
	}
	b.dirty, b.fresh, b.until = false, true, time.Now().Add(freshFor)
	s.fresh = append(s.fresh, b)
}

// Without a disk a piece that a reader waits for stays at least until it is read,
// or for so long: otherwise the drafts of other readers could push each other's
// pieces out before anybody has seen them, for ever.
const freshFor = time.Second

// seen settles a fresh piece that is being read; one that is still to be written
// will not be fresh when it cannot be. mu is held.
func (s *Store) seen(b *buffer) {
	b.urgent = false
	if b.fresh {
		b.fresh = false
		s.settle(b)
	}
}

// expire settles the fresh pieces that nobody came for. mu is held.
func (s *Store) expire() {
	for len(s.fresh) > 0 && (!s.fresh[0].fresh || time.Now().After(s.fresh[0].until)) {
		s.seen(s.fresh[0])
		s.fresh[0] = nil
		s.fresh = s.fresh[1:]
	}
}

// rescue queues the pieces that are in memory only for a disk that is there now.
// mu is held.
func (s *Store) rescue() {
	var next *buffer
	for b := s.clean.head; b != nil; b = next {
		next = b.next
		if _, ok := b.v.disk[uint32(b.piece)]; ok {
			continue
		}
		s.clean.remove(b)
		s.firm += int64(b.room)
		b.v.firm += int64(b.room)
		b.dirty = true
		s.dirty = append(s.dirty, b)
	}
	for _, b := range s.fresh {
		if b.fresh {
			b.fresh, b.dirty = false, true
			s.dirty = append(s.dirty, b)
		}
	}
	s.fresh = nil
}

// settle makes a committed piece one that can be dropped. mu is held.
func (s *Store) settle(b *buffer) {
	b.dirty = false
	s.clean.push(b)
	s.yielded(b)
	s.shrink()
}
