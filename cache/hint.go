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
		s.policy.setEdge(spot{v, uint32(piece)}, v.edges.has(piece))
	}
}

// Window says which pieces a reader, by a number of its owner's choice, is about
// to read; an empty span ends it. They are not evicted, unless all windows together
// take more than half of what the disk budget can hold.
func (v *Volume) Window(reader uint32, window Span) {
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	if window.First < window.End {
		v.windows[reader] = window
	} else {
		delete(v.windows, reader)
	}
}

// CloseWindows ends all windows.
func (v *Volume) CloseWindows() {
	v.store.mu.Lock()
	defer v.store.mu.Unlock()
	clear(v.windows)
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
	for _, w := range at.v.windows {
		if w.First <= int(at.piece) && int(at.piece) < w.End {
			return windowed
		}
	}
	return unheld
}
