package swarm

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"swarmfs/cache"
	"swarmfs/swarm/engine"
)

// Reader reads one file of a torrent. It is safe for concurrent use; each
// Reader has read-ahead windows of its own, one for each place that is read in
// turn.
type Reader struct {
	// Set at start, read-only after.
	t        *Torrent
	ids      [engine.Places]engine.ReaderID // of the windows
	file     int                            // index in Info.Files
	off, end int64                          // of the file in the torrent

	closed atomic.Bool

	// Owned by the loop.
	told       int     // seeks that it knows of
	shown      windows // that shownTo's volume knows of
	wanted     windows // that its engine knows of: without what may be held
	shownTo    *run
	completing *run // that had the file completed behind us

	mu     sync.Mutex // guards the cursor and the windows, held for arithmetic only
	cursor engine.Cursor
	window windows
	ahead  engine.Window // to be the window at place if a read has to wait
	place  int           // of the last read
	seeks  int           // of the cursor, when last looked at
	posted bool          // the loop knows that the windows have changed
	life   uint32        // the run that was told of them
}

// windows are a reader's, by place.
type windows [engine.Places]engine.Window

// Open returns a Reader of the file with that index in Info.Files.
func (t *Torrent) Open(file int) (*Reader, error) {
	if file < 0 || file >= len(t.info.Files) {
		return nil, errors.New("no such file")
	}
	f := t.info.Files[file]
	r := &Reader{t: t, file: file, off: f.Offset, end: f.Offset + f.Length}
	for i := range r.ids {
		r.ids[i] = t.newReaderID()
	}
	if t.sharing.opened() {
		t.tryTell(reshared{})
	}
	return r, nil
}

// ReadAt reads len(p) bytes of the file from off on, as io.ReaderAt does. It
// waits for what is not there yet until ctx ends, nothing has come of it for
// the session's read timeout (ErrTimeout), or the torrent is closed. Only
// verified bytes are returned. A read of held data takes no lock of the torrent.
func (r *Reader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if r.closed.Load() {
		return 0, ErrClosed
	}
	if off < 0 || off >= r.end-r.off {
		return 0, io.EOF
	}
	var eof error
	if rest := r.end - r.off - off; int64(len(p)) >= rest {
		if int64(len(p)) > rest {
			eof = io.EOF
		}
		p = p[:rest]
	}
	at := r.off + off
	done := 0
	w := r.advance(off, int64(len(p)))
	defer w.end()
	if w.look && r.t.volume.Has(int(at/r.t.layout.PieceLength)) {
		w.look = false
		r.tell()
	}
	last := int((at+int64(len(p))-1)/r.t.layout.PieceLength) + 1
	for done < len(p) {
		pos := at + int64(done)
		piece := int(pos / r.t.layout.PieceLength)
		in := int(pos - int64(piece)*r.t.layout.PieceLength)
		n := min(len(p)-done, r.t.layout.PieceSize(piece)-in)
		got, err := r.t.volume.ReadAt(piece, p[done:done+n], in)
		done += got
		switch {
		case err == nil:
		case errors.Is(err, cache.ErrMissing):
			w.look = r.wait() || w.look
			if err := w.wait(ctx, piece, last); err != nil {
				return done, err
			}
		default:
			return done, err
		}
	}
	return done, eof
}

// Close ends the Reader's interest. Reads that wait are not woken by it.
func (r *Reader) Close() error {
	if r.closed.CompareAndSwap(false, true) {
		r.t.sharing.closed(time.Now())
		r.t.tell(closed{r})
	}
	return nil
}

// advance moves the read-ahead window of the place that is read, and closes those
// of places that were left. What may be a probe gets none unless it has
// to wait: what is held was looked at before, and will be by the next scan.
func (r *Reader) advance(off, n int64) waiting {
	r.mu.Lock()
	now := time.Duration(r.t.session.clock(time.Now()))
	a := r.cursor.Read(now, off, n, r.t.layout.PieceLength, r.t.session.opts.ReadAhead)
	wt := waiting{r: r, off: off, seeks: a.Seeks}
	if a.Left {
		r.mu.Unlock()
		return wt
	}
	var w engine.Window // of a probe, or a seek: what is read is asked for by itself
	if rest := r.end - r.off - off; a.Bytes > 0 {
		w.Pos, w.End = r.t.layout.Pieces(r.off+off, min(n+a.Bytes, rest))
		_, wt.goal = r.t.layout.Pieces(r.off+off, min(a.Goal, rest))
	}
	r.ahead, r.place = w, a.Place
	all := r.window
	for i := range all {
		if a.Seeks != r.seeks || !r.cursor.Live(i) {
			all[i] = engine.Window{}
		}
	}
	if !r.cursor.Probing() {
		all[a.Place] = w
	}
	wt.look = r.move(all, a.Seeks)
	r.mu.Unlock()
	return wt
}

// wait has fetched ahead what a reader wants that has to wait anyway. It reports
// whether the loop is to be told.
func (r *Reader) wait() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.window
	all[r.place] = r.ahead
	return r.move(all, r.seeks)
}

// move sets the windows, and reports whether the loop is to be told. r.mu is held.
func (r *Reader) move(all windows, seeks int) (tell bool) {
	life := r.t.lives.Load()
	if life != r.life { // what the last run had not looked at yet is lost with it
		r.posted = false
	}
	tell = (all != r.window || seeks != r.seeks || life != r.life) && !r.posted
	r.life = life
	r.window, r.seeks = all, seeks
	r.posted = r.posted || tell
	return tell
}

// tell has the loop look at the windows.
func (r *Reader) tell() {
	if !r.t.tryTell(looks{r}) {
		r.mu.Lock()
		r.posted = false
		r.mu.Unlock()
	}
}

// looks takes a reader's newest windows: first those of other places, which may be
// in the way of the one that is read.
func (r *run) looks(now time.Time, rd *Reader) {
	rd.mu.Lock()
	rd.posted = false
	all, place, sequence := rd.window, rd.place, rd.cursor.Sequence()
	rd.mu.Unlock()
	if rd.closed.Load() {
		return
	}
	r.moved(now, rd)
	if rd.shownTo != r {
		rd.shown, rd.wanted, rd.shownTo = windows{}, windows{}, r
	}
	var wanted windows
	for i, w := range all {
		if w != rd.shown[i] {
			r.t.showWindow(rd.ids[i], w)
		}
		if wanted[i] = r.until(rd, w); i != place && wanted[i] != rd.wanted[i] {
			r.eng.Want(now, rd.ids[i], wanted[i])
		}
	}
	rd.shown, rd.wanted = all, wanted
	r.eng.Want(now, rd.ids[place], wanted[place])
	r.read(now, all[place].Pos)
	r.consumed(now, rd, sequence, all[place].Pos)
}

// moved lets what waits at the place that a reader has left give way.
func (r *run) moved(now time.Time, rd *Reader) {
	rd.mu.Lock()
	seeks := rd.cursor.Seeks()
	rd.mu.Unlock()
	if seeks == rd.told {
		return
	}
	rd.told = seeks
	for _, list := range r.waiting {
		for _, w := range list {
			if w.rd == rd && w.seeks < seeks {
				r.eng.Defer(now, w.id)
			}
		}
	}
}

// waiting is one blocked ReadAt, over as many pieces as it waits for.
type waiting struct {
	r     *Reader
	off   int64 // of the read in the file
	seeks int   // of r, when the read began
	goal  int   // the end of the pieces that r must have before it goes on for a while
	look  bool  // the window has changed, and the loop does not know yet
	run   *run  // where it is registered
	id    engine.ReaderID
}

// wait returns when the piece may be there.
func (w *waiting) wait(ctx context.Context, piece, end int) error {
	t := w.r.t
	since := time.Now()
	t.session.yielding.reads.Add(1)
	defer func() { t.session.yielding.waitedSince(since) }()
	for {
		run, err := t.current(ctx)
		if err != nil {
			return err
		}
		if w.run != run {
			w.run, w.id = run, t.newReaderID()
		}
		wt := &waiter{id: w.id, rd: w.r, seeks: w.seeks, goal: w.goal, look: w.look, file: w.r.file, off: w.off, piece: piece, end: end, since: since, done: make(chan error, 1)}
		wt.progress.Store(t.session.clock(time.Now()))
		if err := run.post(ctx, wants{wt}); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			continue // that run is over
		}
		w.look = false
		err = w.sleep(ctx, run, wt)
		if errors.Is(err, errRunEnded) {
			continue
		}
		return err
	}
}

var errRunEnded = errors.New("run has ended")

func (w *waiting) sleep(ctx context.Context, run *run, wt *waiter) error {
	s := w.r.t.session
	limit := s.opts.ReadTimeout
	var expired <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		expired = timer.C
		for {
			select {
			case err := <-wt.done:
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-run.ended:
				return errRunEnded
			case <-expired:
				still := limit - time.Duration(s.clock(time.Now())-wt.progress.Load())
				if still <= 0 {
					run.t.tell(stalled{wt})
					return ErrTimeout
				}
				timer.Reset(still)
			}
		}
	}
	select {
	case err := <-wt.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-run.ended:
		return errRunEnded
	}
}

// end takes the read's interest back.
func (w *waiting) end() {
	if w.look {
		w.r.tell()
	}
	if w.run != nil {
		w.run.t.tell(gone{w.id})
	}
}
