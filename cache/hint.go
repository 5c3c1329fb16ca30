package cache

// What the owner of a volume tells about its pieces. The store knows no files and
// no readers.

// Protect says that pieces are edges of files, which are read over and over: players
// and library scanners look there for the index. Some of them, up to a tenth of
// the disk budget, stay when others of their age are evicted. Spans may reach
// beyond the volume. The call replaces the one before.
func (v *Volume) Protect(spans ...Span) {
	s := v.store
	s.mu.Lock()
	defer s.mu.Unlock()
	v.edges = v.setOf(spans)
	for piece := range v.geometry.NumPieces() { // in order: not that of a map
		at, isEdge := spot{v, uint32(piece)}, v.edges.has(piece)
		s.policy.setEdge(at, isEdge)
		s.clean.setEdge(at, isEdge)
	}
}

// Window says which pieces a reader, by a number of its owner's choice, is about
// to read; an empty span ends it. They are not evicted, unless all windows together
// take more than half of what the disk budget can hold.
func (v *Volume) Window(reader uint32, window Span) {
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	old := v.windows[reader]
	if window.First < window.End {
		v.windows[reader] = window
	} else {
		delete(v.windows, reader)
		window = Span{}
	}
	// What is in both is held as it was, but for the first piece of each.
	v.rehold(Span{old.First, min(old.End, window.First+1)})
	v.rehold(Span{max(old.First, window.End), old.End})
	v.rehold(Span{window.First, min(window.End, max(old.First, window.First)+1)})
	v.rehold(Span{max(window.First, old.End), window.End})
	v.store.roomMade()
}

// rehold looks anew which pieces in memory windows hold. Store.mu is held.
func (v *Volume) rehold(span Span) {
	span.First, span.End = max(span.First, 0), min(span.End, v.geometry.NumPieces())
	for piece := span.First; piece < span.End; piece++ {
		if b := v.ram[uint32(piece)]; b != nil && !b.dirty && !b.fresh {
			v.store.rehold(b)
		}
	}
}

// distance returns how many pieces lie between a piece and the nearest reader that
// is about to read it; -1 when none is. Store.mu is held.
func (v *Volume) distance(piece int) int {
	near := -1
	for _, w := range v.windows {
		if d := piece - w.First; d >= 0 && piece < w.End && (near < 0 || d < near) {
			near = d
		}
	}
	return near
}

// CloseWindows ends all windows.
func (v *Volume) CloseWindows() {
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	clear(v.windows)
	v.rehold(Span{End: v.geometry.NumPieces()})
	v.store.roomMade()
}

// setOf returns the pieces in some spans.
func (v *Volume) setOf(spans []Span) bitmap {
	n := v.geometry.NumPieces()
	set := newBitmap(n)
	for _, span := range spans {
		for i := max(span.First, 0); i < min(span.End, n); i++ {
			set.set(i)
		}
	}
	return set
}

// hold says what keeps a piece from being evicted. Store.mu is held.
func (at spot) hold() hold {
	if at.v.pins.has(int(at.piece)) {
		return pinned
	}
	if at.v.distance(int(at.piece)) >= 0 {
		return windowed
	}
	return unheld
}
