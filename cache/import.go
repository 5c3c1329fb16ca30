package cache

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"time"
)

// Imported is a volume some of whose pieces lie in files that exist already and
// belong to others. They are served from where they are and never written; what they
// lack, or do not have right, is in the [Volume] as ever.
//
// A piece is not believed before it was hashed: by the first read that needs it, else
// by [Imports], which goes through all of them. Until then it is undecided. A file
// that is not the one that was hashed any more, which each read looks at, has all its
// pieces withdrawn.
type Imported struct {
	*Volume

	// Set at start, read-only after.
	imports *Imports
	find    func() []Extent

	looking sync.Mutex // held by look, around mu

	mu        sync.Mutex
	looked    bool // files is set; until then all is undecided
	closed    bool
	files     []importFile // by offset
	known     ImportRecord // until looked
	undecided bitmap       // to be hashed
	held      bitmap       // right when hashed last, maybe by an earlier run
	checked   bitmap       // of held: hashed in this run
	examining map[int]chan struct{}
	ahead     map[uint32]Span // windows of readers
	partial   time.Time       // when files that lack something are looked at; zero: there are none
	hashed    int64           // bytes
	onEvict   func(piece int)
	onFound   func(piece int)
	onRecount func()
}

// Undecided returns the first piece of [first, end) of which it is not known yet
// whether the files hold it, or which another volume may hold; end if there is none.
func (m *Imported) Undecided(first, end int) int {
	inFiles := m.undecidedFiles(first, end)
	for ; first < inFiles; first++ {
		if first = m.Volume.Undecided(first, inFiles); first < inFiles && !m.inFiles(first) {
			return first
		}
	}
	return inFiles
}

// undecidedFiles is Undecided for the files alone.
func (m *Imported) undecidedFiles(first, end int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.firstUndecided(first, end)
}

// Decide is [Volume.Decide] for what is not to be looked for in the files first, which
// [Imports] does without being told.
func (m *Imported) Decide(piece int, urgent bool) {
	if m.undecidedFiles(piece, piece+1) > piece {
		m.Volume.Decide(piece, urgent)
	}
}

func (m *Imported) firstUndecided(first, end int) int {
	switch {
	case m.closed:
		return end
	case !m.looked:
		return min(first, end)
	}
	return m.undecided.next(first, end)
}

// next returns the first member of [first, end); end if there is none.
func (b bitmap) next(first, end int) int {
	for i := max(first, 0); i < end && i/64 < len(b); i = (i/64 + 1) * 64 {
		if w := b[i/64] >> (i % 64); w != 0 {
			return min(i+bits.TrailingZeros64(w), end)
		}
	}
	return end
}

// Notify is [Volume.Notify]. onEvict is also told of pieces that turned out not to be
// in the files, or not to be any more.
func (m *Imported) Notify(onEvict func(piece int), onRoom func()) {
	m.mu.Lock()
	m.onEvict = onEvict
	m.mu.Unlock()
	if onEvict == nil {
		m.Volume.Notify(nil, onRoom)
		return
	}
	m.Volume.Notify(func(piece int) {
		if !m.inFiles(piece) {
			onEvict(piece)
		}
	}, onRoom)
}

// NotifyFound is [Volume.NotifyFound]. onFound is also told of pieces found in the
// files.
func (m *Imported) NotifyFound(onFound func(piece int)) {
	m.mu.Lock()
	m.onFound = onFound
	m.mu.Unlock()
	m.Volume.NotifyFound(onFound)
}

// NotifyRecount sets the function that is told when what Pieces and Undecided return
// has changed for many pieces at once. It is called as those of Notify are.
func (m *Imported) NotifyRecount(onRecount func()) {
	m.mu.Lock()
	m.onRecount = onRecount
	m.mu.Unlock()
	m.Volume.NotifyRecount(onRecount)
}

// decided is news of a piece that was looked at. What is told is what holds when it is
// told, so that the last news of a piece is right, whoever was first.
type decided struct {
	m     *Imported
	piece int
}

func (d decided) tell() {
	held := d.m.Has(d.piece)
	d.m.mu.Lock()
	onEvict, onFound := d.m.onEvict, d.m.onFound
	d.m.mu.Unlock()
	switch {
	case held && onFound != nil:
		onFound(d.piece)
	case !held && onEvict != nil:
		onEvict(d.piece)
	}
}

// recount is news of many pieces.
type recount struct{ m *Imported }

func (r recount) tell() {
	r.m.mu.Lock()
	onRecount := r.m.onRecount
	r.m.mu.Unlock()
	if onRecount != nil {
		onRecount()
	}
}

// Pieces is [Volume.Pieces] with those held in files.
func (m *Imported) Pieces() []uint64 {
	set := m.Volume.Pieces()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, w := range m.held {
		set[i] |= w
	}
	return set
}

// Has is [Volume.Has] with those held in files.
func (m *Imported) Has(piece int) bool { return m.inFiles(piece) || m.Volume.Has(piece) }

func (m *Imported) inFiles(piece int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return piece >= 0 && m.held.has(piece)
}

// Draft is [Volume.Draft]; [ErrHeld] also for what the files hold.
func (m *Imported) Draft(piece int, urgent bool) (*Draft, error) {
	if m.inFiles(piece) {
		return nil, ErrHeld
	}
	return m.Volume.Draft(piece, urgent)
}

// Window is [Volume.Window]. Undecided pieces in windows are looked at first.
func (m *Imported) Window(reader uint32, window Span) {
	m.Volume.Window(reader, window)
	m.mu.Lock()
	if window.First < window.End {
		m.ahead[reader] = window
	} else {
		delete(m.ahead, reader)
	}
	some := m.firstUndecided(window.First, window.End) < window.End
	m.mu.Unlock()
	if some {
		m.imports.hurry(m)
	}
}

// CloseWindows is [Volume.CloseWindows].
func (m *Imported) CloseWindows() {
	m.Volume.CloseWindows()
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.ahead)
}

// ReadAt is [Volume.ReadAt] over both. A piece in files is hashed first, all of it,
// unless that was done in this run.
func (m *Imported) ReadAt(piece int, p []byte, off int) (int, error) {
	n, err := m.readBoth(piece, p, off, true)
	if errors.Is(err, ErrMissing) {
		return m.Volume.ReadAt(piece, p, off)
	}
	return n, err
}

// Peek is [Volume.Peek] over both.
func (m *Imported) Peek(piece int, p []byte, off int) (int, error) {
	return m.readBoth(piece, p, off, false)
}

func (m *Imported) readBoth(piece int, p []byte, off int, use bool) (int, error) {
	size := m.geometry.PieceSize(piece)
	if size == 0 || off < 0 || off > size {
		return 0, fmt.Errorf("read %d bytes at %d of piece %d: out of range", len(p), off, piece)
	}
	p = p[:min(len(p), size-off)]
	for {
		if !m.inFiles(piece) {
			n, err := m.readAt(piece, p, off, use)
			if !errors.Is(err, ErrMissing) {
				return n, err
			}
			m.look()
		}
		again, err := m.tryFiles(piece, p, off, false)
		switch {
		case err == nil && !again:
			return len(p), nil
		case !again:
			return 0, err
		}
	}
}

// Check is [Volume.Check] over both: it hashes a piece as it lies in the files, or as
// it is stored.
func (m *Imported) Check(piece int) error {
	m.look()
	if m.geometry.PieceSize(piece) > 0 {
		for {
			again, err := m.tryFiles(piece, nil, 0, true)
			if !again && err == nil {
				return nil
			}
			if !again {
				break
			}
		}
	}
	return m.Volume.Check(piece)
}

// tryFiles reads a piece from the files, and hashes it first if need be, or anyway.
// It is to be called again when something has changed meanwhile. The error is
// ErrMissing: the files do not hold the piece.
func (m *Imported) tryFiles(piece int, p []byte, off int, anyway bool) (again bool, err error) {
	m.mu.Lock()
	held := m.held.has(piece)
	other := m.examining[piece]
	switch {
	case m.closed || !held && !m.undecided.has(piece):
		m.mu.Unlock()
		return false, ErrMissing
	case other != nil:
		m.mu.Unlock()
		<-other
		return true, nil
	case held && m.checked.has(piece) && !anyway:
		parts := m.parts(int64(piece)*m.geometry.PieceLength+int64(off), len(p))
		m.mu.Unlock()
		bad, err := m.imports.read(parts, p, 0)
		if errors.Is(err, ErrClosed) {
			return false, err
		}
		if err != nil {
			m.failed(piece, bad, err)
		}
		return err != nil, nil
	}
	done := make(chan struct{})
	m.examining[piece] = done
	size := m.geometry.PieceSize(piece)
	parts := m.parts(int64(piece)*m.geometry.PieceLength, size)
	m.mu.Unlock()

	m.store.slots <- struct{}{}
	var bad *part
	err = hashPiece(size, m.geometry.sum(piece), func(p []byte, at int) (err error) {
		bad, err = m.imports.read(parts, p, at)
		return err
	}, p, off)
	<-m.store.slots

	m.mu.Lock()
	m.hashed += int64(size)
	switch {
	case err == nil && !m.current(parts):
		again = true // other files have their places now
	case err == nil:
		m.undecided.clear(piece)
		m.held.set(piece)
		m.checked.set(piece)
	}
	m.mu.Unlock()
	switch {
	case errors.Is(err, ErrClosed):
	case err != nil:
		m.failed(piece, bad, err)
		again, err = true, nil // once more, to say that it is missing
	case !again:
		m.store.news.push(decided{m, piece})
	}
	m.mu.Lock()
	delete(m.examining, piece)
	m.mu.Unlock()
	close(done)
	return again, err
}

// failed takes a piece back that could not be read, or is not right. What is wrong
// with a file as a whole, bad if it is not nil, makes all its pieces undecided.
func (m *Imported) failed(piece int, bad *part, err error) {
	if bad != nil && gone(err) {
		m.withdraw(bad, err)
		return
	}
	m.mu.Lock()
	if bad != nil && m.files[bad.file].stamp == bad.stamp {
		m.files[bad.file].trouble = err
	}
	m.undecided.clear(piece)
	m.held.clear(piece)
	m.checked.clear(piece)
	first := m.partial.IsZero()
	if first {
		m.partial = time.Now().Add(lookPartial)
	}
	m.mu.Unlock()
	if first {
		m.imports.relook(m)
	}
	m.store.news.push(decided{m, piece})
}

// Close ends the use of the files. Reads go on from the [Volume].
func (m *Imported) Close() {
	m.imports.remove(m)
	m.setBeneath(m, nil)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.onEvict, m.onFound, m.onRecount = nil, nil, nil
}
