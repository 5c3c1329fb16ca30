package cache

import (
	"maps"
	"slices"
	"time"
)

// The RAM layer: who may have memory, and what is dropped for it. What is on disk
// too is dropped at no cost. Without a disk what is dropped is fetched again if it
// was not read yet, so drafts that nobody waits for must leave the pieces that
// readers are about to read.

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
	if !s.admits(b, urgent) {
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
	if urgent {
		s.squeeze()
	}
	return nil
}

// diskless says that a piece which is dropped from memory may be nowhere else. mu
// is held.
func (s *Store) diskless() bool { return s.disk == nil || s.degraded != nil }

// admits says whether there is memory for a draft. mu is held.
func (s *Store) admits(b *buffer, urgent bool) bool {
	v, room, quarter := b.v, int64(b.room), s.opts.Memory/4
	// A volume that has nothing in memory gets its piece although the budget is
	// taken, or smaller than the piece. Dirty pieces count, or a slow disk
	// would not hold back a fast network.
	if v.firm == 0 && (urgent || !s.diskless() || v.ahead == 0) {
		return s.firm+room <= max(s.opts.Memory+overdraft, room)
	}
	limit := s.opts.Memory
	if !urgent {
		limit = draftShare * quarter
	}
	if s.diskless() {
		limit -= quarter // what was read is nowhere else
		if !urgent && s.firm+s.ahead+room > draftShare*quarter {
			return false
		}
	}
	return s.firm+room <= limit
}

// shrink drops hot pieces while the memory is over its budget, but not those that a
// reader is about to read if they are nowhere else. mu is held.
func (s *Store) shrink() {
	if over := s.reserved - s.opts.Memory; over > 0 {
		now := s.now()
		for _, at := range s.clean.victims(over, func(at spot) hold { return s.spared(now, at) }) {
			s.drop(at.v.ram[at.piece])
		}
	}
	for s.reserved > s.opts.Memory+overdraft {
		at, _, ok := s.clean.next()
		if !ok {
			return
		}
		s.drop(at.v.ram[at.piece])
	}
}

// lateFor is how long after a read others of the same piece may come that were sent
// before it: the kernel's READs overtake each other.
const lateFor = 100 * time.Millisecond

// spared says whether a clean piece should stay for what is read now. mu is held.
func (s *Store) spared(now time.Duration, at spot) hold {
	b := at.v.ram[at.piece]
	late := b.read > 0 && !b.isRead() && now-b.readAt < lateFor
	if s.diskless() && (b.ahead || late) {
		return windowed
	}
	return unheld
}

// squeeze drops pieces that readers are about to read while the memory is over its
// budget, for one that a reader waits for: first what will be read last. What is
// being read at the moment stays. mu is held.
func (s *Store) squeeze() {
	for s.reserved > s.opts.Memory && s.ahead > 0 {
		var last *buffer
		most := 0
		for _, v := range s.volumes {
			if v.ahead == 0 {
				continue
			}
			for _, b := range v.ram {
				if d := v.distance(b.piece); b.ahead && (d > most || d == most && last != nil && b.piece > last.piece) {
					last, most = b, d
				}
			}
		}
		if last == nil {
			return
		}
		s.drop(last)
	}
}

// drop takes a clean piece out of memory. mu is held.
func (s *Store) drop(b *buffer) {
	v, piece := b.v, uint32(b.piece)
	s.unclean(b)
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
	s.roomMade()
}

// roomMade has those told who asked for room in vain. mu is held.
func (s *Store) roomMade() {
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
	if b.copied {
		s.news.push(copied{b.v, uint32(b.piece)})
	}
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

// readOf counts what a reader gets of a piece, and puts it behind the others when
// that is all of it. mu is held.
func (s *Store) readOf(b *buffer, bytes int) {
	was := b.isRead()
	b.read, b.readAt = b.read+int64(bytes), s.now()
	if b.dirty {
		return // settle will see to it
	}
	at := spot{b.v, uint32(b.piece)}
	s.clean.read(b.readAt, at)
	if !was && b.isRead() {
		s.clean.retire(b.readAt, at)
		s.rehold(b)
		s.shrink() // it may be over its budget for this
	}
}

// isRead says that readers got as many bytes as the piece has.
func (b *buffer) isRead() bool { return b.read >= int64(b.size) }

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
	for _, v := range s.volumes {
		for _, piece := range slices.Sorted(maps.Keys(v.ram)) {
			b := v.ram[piece]
			if _, ok := v.disk[piece]; ok || b.dirty || b.fresh {
				continue
			}
			s.unclean(b)
			s.firm += int64(b.room)
			v.firm += int64(b.room)
			b.dirty = true
			s.dirty = append(s.dirty, b)
		}
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
	now, at := s.now(), spot{b.v, uint32(b.piece)}
	s.clean.add(now, at, uint32(b.room), b.v.edges.has(b.piece))
	if b.isRead() {
		s.clean.retire(now, at)
	}
	s.rehold(b)
	s.yielded(b)
	s.shrink()
}

// unclean takes a piece out of those that can be dropped. mu is held.
func (s *Store) unclean(b *buffer) {
	s.clean.remove(spot{b.v, uint32(b.piece)})
	s.count(b, false)
}

// rehold looks whether windows hold a clean piece. One that was read to its end is
// not held where it is the next to be read: the reader is about to leave it. mu is
// held.
func (s *Store) rehold(b *buffer) {
	d := b.v.distance(b.piece)
	s.count(b, d > 0 || d == 0 && !b.isRead())
}

// count keeps the sums of what windows hold. mu is held.
func (s *Store) count(b *buffer, held bool) {
	if b.ahead == held {
		return
	}
	room := int64(b.room)
	if !held {
		room = -room
	}
	b.ahead = held
	s.ahead += room
	b.v.ahead += room
}
