package swarm

import (
	"log/slog"
	"sync/atomic"
	"time"

	"swarmfs/swarm/engine"
)

// waiter is one read that is blocked on a piece. The loop registers it and
// answers once on done.
type waiter struct {
	id    engine.ReaderID
	rd    *Reader
	seeks int   // of the reader, when the read began
	file  int   // index in Info.Files
	off   int64 // of the read in the file
	piece int   // the first that is missing
	end   int   // the first after the read
	goal  int   // the end of the pieces that the reader needs before it goes on
	look  bool  // the reader's window has changed with this read
	since time.Time
	done  chan error

	said bool // the log has told of it; owned by the loop

	progress atomic.Int64 // when something of the piece arrived last, in ns since the session began
}

// A range that kept a reader waiting for the whole read timeout answers the
// next ones at once for so long, so that a scan of a dead torrent ends.
const deadFor = time.Second

func (r *run) wants(now time.Time, w *waiter) {
	if r.eng.Have(w.piece) {
		w.done <- nil
		return
	}
	if until, ok := r.dead[w.piece]; ok {
		if now.Before(until) {
			w.done <- ErrTimeout
			return
		}
		delete(r.dead, w.piece)
	}
	r.read(now, w.piece)
	r.waiting[w.piece] = append(r.waiting[w.piece], w)
	if r.undecided(w.piece, w.piece+1) == w.piece { // it was not when it was read
		r.t.volume.(doubtful).Decide(w.piece, true)
	}
	known := r.undecided(w.piece+1, max(w.end, w.goal)) // what lies behind may be held
	r.eng.Want(now, w.id, engine.Window{Need: w.piece, NeedEnd: min(w.end, known), Goal: min(w.goal, known)})
	if w.seeks < w.rd.told { // begun before its reader left the place
		r.eng.Defer(now, w.id)
	}
}

// wake answers everybody who waits for the piece.
func (r *run) wake(piece int, err error) {
	for _, w := range r.waiting[piece] {
		w.done <- err
	}
	delete(r.waiting, piece)
}

// unwait forgets a waiter that gave up.
func (r *run) unwait(id engine.ReaderID) {
	for piece, list := range r.waiting {
		for i, w := range list {
			if w.id != id {
				continue
			}
			if list = append(list[:i], list[i+1:]...); len(list) == 0 {
				delete(r.waiting, piece)
			} else {
				r.waiting[piece] = list
			}
			return
		}
	}
}

func (r *run) progress(now time.Time, piece int) {
	if len(r.dead) > 0 {
		clear(r.dead)
	}
	for _, w := range r.waiting[piece] {
		w.progress.Store(r.t.session.clock(now))
	}
}

// Ranges that are remembered as dead, at most; beyond it all are tried again.
const maxDead = 4096

// stalled takes the read that has failed for want of progress. The log has told
// of it already, unless the time-out is short.
func (r *run) stalled(now time.Time, w *waiter) {
	level := slog.LevelDebug
	if !w.said && now.Sub(r.complaints.gaveUp) >= stallEvery {
		r.complaints.gaveUp = now
		level = slog.LevelWarn
	}
	r.logRead(level, "read gave up waiting", now, w)
	if len(r.dead) >= maxDead {
		clear(r.dead)
	}
	r.dead[w.piece] = now.Add(deadFor)
}
