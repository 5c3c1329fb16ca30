package cache

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"sort"
	"time"
)

// Torrents may have pieces in common: a release that was packed again. What a volume
// lacks and another holds, by sum and size, is on loan: it is copied from there, and
// hashed on its way as if a peer had sent it, when somebody wants it. Who offers what
// is found out once, when [Volume.Share] is called, and only where the pieces are is
// kept.

// loan says that pieces [first, end) are those of another volume from at on, in order.
type loan struct {
	first, end int
	from       *Volume
	at         int
}

// loans are the pieces of a volume that others may hold.
type loans struct {
	set  bitmap // those that did not turn out to be gone, or wrong; nil: none
	runs []loan // disjoint, by first
}

// match is a piece that is the same as one of another volume.
type match struct {
	piece int
	from  *Volume
	at    int
}

// of returns where a piece of the set is.
func (l loans) of(piece int) match {
	i := sort.Search(len(l.runs), func(i int) bool { return l.runs[i].end > piece })
	r := l.runs[i]
	return match{piece, r.from, r.at + piece - r.first}
}

// with returns the loans and others, which come before those there are.
func (l loans) with(found []match, numPieces int) loans {
	set := newBitmap(numPieces)
	for _, m := range found {
		set.set(m.piece)
	}
	for piece := l.set.next(0, numPieces); piece < numPieces; piece = l.set.next(piece+1, numPieces) {
		if !set.has(piece) {
			set.set(piece)
			found = append(found, l.of(piece))
		}
	}
	slices.SortFunc(found, func(a, b match) int { return cmp.Compare(a.piece, b.piece) })
	var runs []loan
	for _, m := range found {
		if n := len(runs); n > 0 {
			last := &runs[n-1]
			if m.piece < last.end {
				continue // found twice
			}
			if last.end == m.piece && last.from == m.from && last.at+m.piece-last.first == m.at {
				last.end++
				continue
			}
		}
		runs = append(runs, loan{m.piece, m.piece + 1, m.from, m.at})
	}
	return loans{set, slices.Clip(runs)}
}

// Share has the pieces that the volume lacks looked for in the other volumes, and those
// it holds offered to them. Until that has ended, which onRecount tells of, all that
// is lacking is undecided. What comes later is not looked at before the next call.
func (v *Volume) Share() {
	s := v.store
	s.mu.Lock()
	defer s.mu.Unlock()
	v.shared = true
	if s.closed || v.matching != nil {
		return
	}
	v.matching = make(chan struct{})
	s.unmatched = append(s.unmatched, v)
	poke(s.matchMore)
}

// Borrowed returns how many pieces were copied from other volumes.
func (v *Volume) Borrowed() int64 {
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	return v.borrowed
}

// NotifyRecount sets the function that is told when what Undecided returns has changed
// for many pieces at once. It is called as those of Notify are.
func (v *Volume) NotifyRecount(onRecount func()) {
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	v.onRecount = onRecount
}

// Undecided returns the first piece of [first, end) that is not held and may be had
// from another volume; end if there is none.
func (v *Volume) Undecided(first, end int) int {
	s := v.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; first < end; first++ {
		if v.matching == nil {
			first = v.loans.set.next(first, end)
		}
		if first < end && !v.held(uint32(first)) {
			v.asked = v.asked || v.matching != nil
			break
		}
	}
	return min(first, end)
}

// lent is news that the loans of a volume have changed.
type lent struct{ v *Volume }

func (l lent) tell() {
	s := l.v.store
	s.mu.Lock()
	onRecount := l.v.onRecount
	s.mu.Unlock()
	if onRecount != nil {
		onRecount()
	}
}

// match looks for what volumes have in common until the store is closed. It rests for
// as long as it worked.
func (s *Store) match() {
	for s.await(s.matchMore) {
		began := time.Now()
		s.matchNew()
		if !s.pause(time.Since(began)) {
			return
		}
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// await waits for a poke; false: the store is closed.
func (s *Store) await(c chan struct{}) bool {
	select {
	case <-c:
		return !s.isClosed()
	case <-s.quit:
		return false
	}
}

// pause waits; false: the store is closed.
func (s *Store) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.quit:
		return false
	}
}

// matchNew takes the volumes that wait to be matched.
func (s *Store) matchNew() {
	s.mu.Lock()
	fresh := s.unmatched
	s.unmatched = nil
	var all []*Volume
	for _, v := range s.volumes {
		if v.chunk != 0 { // it was opened
			all = append(all, v)
		}
	}
	s.mu.Unlock()
	old := slices.DeleteFunc(slices.Clone(all), func(v *Volume) bool {
		return !v.isShared() || slices.Contains(fresh, v)
	})
	found := make(map[*Volume][]match)
	pair(all, fresh, maxOffers, found)
	pair(fresh, old, maxOffers, found)
	for _, v := range old {
		v.lend(found[v], false)
	}
	for _, v := range fresh {
		v.lend(found[v], true)
	}
}

// Unopened returns the volumes of which something is held, and that nobody opened.
func (s *Store) Unopened() (ids [][20]byte) {
	<-s.ready
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, v := range s.volumes {
		if v.chunk == 0 && len(v.disk) > 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b [20]byte) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// Offer offers what is held of a volume that nobody opened to those that Share. The
// geometry is kept, which takes its sums, only if they lack some of it.
func (s *Store) Offer(id [20]byte, g Geometry) error {
	if err := g.check(); err != nil {
		return fmt.Errorf("offer volume: %w", err)
	}
	s.mu.Lock()
	v := s.volumes[id]
	if s.closed || v == nil || v.chunk != 0 {
		s.mu.Unlock()
		return nil
	}
	like := newVolume(s, id) // v has no geometry as long as it may be opened with another
	like.geometry = g
	for piece, d := range v.disk {
		if g.PieceSize(int(piece)) == int(d.bytes) {
			like.disk[piece] = d
		}
	}
	var others []*Volume
	for _, o := range s.volumes {
		if o.shared {
			others = append(others, o)
		}
	}
	s.mu.Unlock()
	found := make(map[*Volume][]match)
	pair([]*Volume{like}, others, maxOffers, found)
	if len(found) == 0 {
		return nil
	}
	v, err := s.Volume(id, g)
	if err != nil {
		return err
	}
	for o, list := range found {
		for i := range list {
			list[i].from = v
		}
		o.lend(list, false)
	}
	return nil
}

func (v *Volume) isShared() bool {
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	return v.shared
}

// lend adds to the loans of a volume.
func (v *Volume) lend(found []match, fresh bool) {
	s := v.store
	if len(found) > 0 {
		s.log.Info("pieces are held by other torrents", "torrent", hex.EncodeToString(v.id[:4]), "pieces", len(found))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(found) > 0 {
		v.loans = v.loans.with(found, v.geometry.NumPieces())
	}
	if len(found) > 0 || fresh && v.asked {
		s.news.push(lent{v})
	}
	if fresh {
		v.asked = false
		close(v.matching)
		v.matching = nil
	}
}

// maxOffers bounds the memory of a search: 4 MiB of them at once.
const maxOffers = 1 << 18

// offer is a piece that a volume holds.
type offer struct {
	key    uint64 // of its sum, the first 8 bytes
	volume uint32 // index in offers.volumes
	piece  uint32
}

// offers are pieces to be found by their sums.
type offers struct {
	volumes []*Volume
	list    []offer // by key
	filter  bitmap  // of the first bits of keys: most sums are in no list
}

const filterBits = 22

// pair finds what the others lack and sources may hold, most pieces at a time.
func pair(sources, others []*Volume, most int, found map[*Volume][]match) {
	if len(others) == 0 {
		return
	}
	o := offers{volumes: sources, filter: newBitmap(1 << filterBits)}
	for i, v := range sources {
		held := v.offered()
		for piece := held.next(0, 64*len(held)); piece < 64*len(held); piece = held.next(piece+1, 64*len(held)) {
			o.list = append(o.list, offer{keyOf(v.geometry.sum(piece)), uint32(i), uint32(piece)})
			if len(o.list) == most {
				o.lookUp(others, found)
				o.list = o.list[:0]
			}
		}
	}
	if len(o.list) > 0 {
		o.lookUp(others, found)
	}
}

func keyOf(sum []byte) uint64 { return binary.BigEndian.Uint64(sum) }

// lookUp finds what is offered of what the others lack.
func (o *offers) lookUp(others []*Volume, found map[*Volume][]match) {
	slices.SortFunc(o.list, func(a, b offer) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.volume, b.volume), cmp.Compare(a.piece, b.piece))
	})
	// Of pieces of one volume with the same content one will do: zeros.
	o.list = slices.CompactFunc(o.list, func(a, b offer) bool { return a.key == b.key && a.volume == b.volume })
	clear(o.filter)
	for _, e := range o.list {
		o.filter.set(int(e.key >> (64 - filterBits)))
	}
	for _, v := range others {
		held := v.certain()
		for piece := range v.geometry.NumPieces() {
			if held.has(piece) {
				continue
			}
			if m, ok := o.find(v, piece); ok {
				found[v] = append(found[v], m)
			}
		}
	}
}

// find returns another volume's piece that has the same sum and size.
func (o *offers) find(v *Volume, piece int) (match, bool) {
	sum := v.geometry.sum(piece)
	key := keyOf(sum)
	if !o.filter.has(int(key >> (64 - filterBits))) {
		return match{}, false
	}
	for i := sort.Search(len(o.list), func(i int) bool { return o.list[i].key >= key }); i < len(o.list) && o.list[i].key == key; i++ {
		from, at := o.volumes[o.list[i].volume], int(o.list[i].piece)
		if from != v && from.geometry.PieceSize(at) == v.geometry.PieceSize(piece) && slices.Equal(from.geometry.sum(at), sum) {
			return match{piece, from, at}, true
		}
	}
	return match{}, false
}

// offered returns the pieces that others may have from the volume: those it holds, and
// those that imported files may hold.
func (v *Volume) offered() bitmap {
	set := v.certain()
	if m := v.beneath(); m != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		for i, w := range m.undecided {
			set[i] |= w
		}
	}
	return set
}

// certain returns the pieces held here or in imported files.
func (v *Volume) certain() bitmap {
	if m := v.beneath(); m != nil {
		return m.Pieces()
	}
	return v.Pieces()
}

// beneath returns what lies beneath the volume; nil if nothing does.
func (v *Volume) beneath() *Imported {
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	return v.imported
}

// setBeneath says what lies beneath the volume.
func (v *Volume) setBeneath(was, is *Imported) {
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	if v.imported == was {
		v.imported = is
	}
}
