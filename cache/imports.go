package cache

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// Imports goes through the files of imported volumes: what readers are about to read
// first, then all the rest, one piece at a time, resting as long as it worked. It looks
// again for files that went away. Without [Imports.Serve] pieces are decided only as
// they are read.
type Imports struct {
	log *slog.Logger
	fds fdCache
	// wake is 1 deep: there is something new to do.
	wake   chan struct{}
	settle time.Duration                               // see settleTime
	pread  func(f *os.File, off int64, p []byte) error // tests: a faulty disk

	mu      sync.Mutex
	queue   []*Imported            // to be gone through, in turn
	ahead   []*Imported            // whose windows are to be looked at
	waits   map[*Imported]struct{} // with files to be looked for again
	soonest time.Time              // when the first of them is due, at the latest
}

// never is later than anything.
var never = time.Unix(1<<40, 0)

// NewImports returns one that has nothing to do yet. The logger may be nil.
func NewImports(log *slog.Logger) *Imports {
	return &Imports{
		log: cmp.Or(log, slog.New(slog.DiscardHandler)), wake: make(chan struct{}, 1),
		fds: fdCache{open: make(map[string]*fd)}, waits: make(map[*Imported]struct{}),
		settle: settleTime, pread: readFull,
	}
}

// Open lays files beneath a volume. find says where they are: extents that cover the
// volume in order, without a path where there is no file; it is called for the first
// time when something is read, or by Serve, and again when files went away. known is
// what [Imported.Record] returned in an earlier run. The Imported must be closed.
func (im *Imports) Open(v *Volume, known ImportRecord, find func() []Extent) *Imported {
	m := &Imported{
		Volume: v, imports: im, find: find, known: known,
		examining: make(map[int]chan struct{}), ahead: make(map[uint32]Span),
	}
	v.setBeneath(nil, m)
	im.again(m)
	return m
}

// Close closes the files. Reads under way end first.
func (im *Imports) Close() error { return im.fds.close() }

// Serve works until ctx ends, and returns its error.
func (im *Imports) Serve(ctx context.Context) error {
	var rest time.Time // until when what nobody waits for is left
	for {
		now := time.Now()
		next := im.lookAgain(now)
		if m, piece, urgent := im.next(!now.Before(rest)); m != nil {
			_, _ = m.tryFiles(piece, nil, 0, false) // how it ended is told as news
			if took := time.Since(now); urgent {
				next = now
			} else {
				rest = now.Add(2 * took)
				next = rest
			}
		} else if rest.After(now) && (next.IsZero() || rest.Before(next)) {
			next = rest
		}
		if err := im.sleep(ctx, next); err != nil {
			return err
		}
	}
}

// sleep waits until a time, something to do, or the end of ctx. The zero time never
// comes.
func (im *Imports) sleep(ctx context.Context, until time.Time) error {
	var timer <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
	case <-im.wake:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// next returns the piece to be decided next; nil when there is none, or none that is
// urgent and the rest has to wait.
func (im *Imports) next(all bool) (m *Imported, piece int, urgent bool) {
	for m = im.take(&im.ahead); m != nil; m = im.take(&im.ahead) {
		m.look()
		if piece, ok := m.undecidedAhead(); ok {
			im.put(&im.ahead, m)
			return m, piece, true
		}
	}
	if !all {
		return nil, 0, false
	}
	for m = im.take(&im.queue); m != nil; m = im.take(&im.queue) {
		m.look()
		n := m.geometry.NumPieces()
		if piece := m.undecidedFiles(0, n); piece < n {
			im.put(&im.queue, m)
			return m, piece, false
		}
	}
	return nil, 0, false
}

// undecidedAhead returns an undecided piece that a reader is about to read.
func (m *Imported) undecidedAhead() (piece int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.ahead {
		if piece := m.firstUndecided(w.First, w.End); piece < w.End {
			return piece, true
		}
	}
	return 0, false
}

// take takes the first out of a list: who puts it there meanwhile is not overlooked.
func (im *Imports) take(list *[]*Imported) *Imported {
	im.mu.Lock()
	defer im.mu.Unlock()
	if len(*list) == 0 {
		return nil
	}
	m := (*list)[0]
	(*list)[0] = nil
	*list = (*list)[1:]
	return m
}

// hurry has a volume's windows looked at.
func (im *Imports) hurry(m *Imported) {
	im.put(&im.ahead, m)
	im.poke()
}

// again has a volume gone through.
func (im *Imports) again(m *Imported) {
	im.put(&im.queue, m)
	im.poke()
}

// put makes a volume the last of a list, if it is not in it.
func (im *Imports) put(list *[]*Imported, m *Imported) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if !slices.Contains(*list, m) {
		*list = append(*list, m)
	}
}

// relook has the files of a volume looked for that went away.
func (im *Imports) relook(m *Imported) {
	im.mu.Lock()
	im.waits[m], im.soonest = struct{}{}, time.Time{}
	im.mu.Unlock()
	im.poke()
}

func (im *Imports) poke() {
	select {
	case im.wake <- struct{}{}:
	default:
	}
}

// lookAgain looks for files that went away and are due. It returns when the next is;
// the zero time if none is.
func (im *Imports) lookAgain(now time.Time) time.Time {
	im.mu.Lock()
	soonest, all := im.soonest, slices.Collect(maps.Keys(im.waits))
	if len(all) == 0 || now.Before(soonest) {
		im.mu.Unlock()
		return soonest
	}
	im.soonest = never
	im.mu.Unlock()
	for _, m := range all {
		next := m.lookAgain(now)
		im.mu.Lock()
		if next.IsZero() {
			delete(im.waits, m)
		} else if next.Before(im.soonest) {
			im.soonest = next
		}
		im.mu.Unlock()
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	if len(im.waits) == 0 {
		im.soonest = time.Time{}
	}
	return im.soonest
}

// remove forgets a volume. Serve may be at it for one more piece.
func (im *Imports) remove(m *Imported) {
	im.mu.Lock()
	defer im.mu.Unlock()
	is := func(o *Imported) bool { return o == m }
	im.queue, im.ahead = slices.DeleteFunc(im.queue, is), slices.DeleteFunc(im.ahead, is)
	delete(im.waits, m)
}
