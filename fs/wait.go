package fs

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// signalPoll is how often the caller of an interrupted read is looked at.
	// The kernel sends one INTERRUPT a request, for the first signal of any
	// kind; the one that matters may come later.
	signalPoll = 100 * time.Millisecond
	// alivePoll is how often the caller of any other waiting read is looked
	// at. Who waits for the page cache sends no INTERRUPT: when killed, a FLUSH,
	// and not even that if the file is only mapped; when it has a handler for
	// the signal, nothing.
	alivePoll = 250 * time.Millisecond
	// unknownGrace is how long an interrupted read of a caller that /proc does
	// not show goes on: most signals are innocent, and most data comes soon.
	unknownGrace = time.Second
)

// Why a waiting read was ended. The reader's answer is in errno.go.
var (
	errInterrupted = errors.New("reader was interrupted or is gone")
	errTooMany     = errors.New("too many waiting reads")
	errClosed      = errors.New("file system is closed")
)

var closedChan = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// waiters is what all waiting reads of a mount share.
type waiters struct {
	// Set at start, read-only after.
	limit int64
	quit  chan struct{} // closed by Server.Close
	look  func(tid uint32) callerState

	waiting atomic.Int64
}

// A wait is the context of one read. It is free for a read that is answered at
// once: only Done, which a File calls when it has to wait, makes a channel,
// counts the read as waiting, and starts a goroutine that watches the caller.
type wait struct {
	// Set at start, read-only after.
	all       *waiters
	owner     *waitSet
	caller    uint32          // thread ID, 0 if not known
	interrupt <-chan struct{} // closed by the request's first INTERRUPT

	once    sync.Once
	inner   atomic.Pointer[cancelContext] // nil until Done
	counted bool                          // waits within the limit: has a watcher
	nudge   chan struct{}                 // capacity 1: look at the caller now
	watcher sync.WaitGroup
}

type cancelContext struct {
	context.Context
	cancel context.CancelCauseFunc
}

// A waitSet holds the waiting reads of one open file. The zero value is ready.
type waitSet struct {
	mu  sync.Mutex
	set map[*wait]struct{}
}

// nudgeAll makes every watcher of the set look at its caller.
func (s *waitSet) nudgeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.set {
		select {
		case w.nudge <- struct{}{}:
		default: // one is pending already
		}
	}
}

// Deadline is part of context.Context: how long data may take is the File's
// business.
func (w *wait) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done is part of context.Context. The first call counts the read as waiting.
func (w *wait) Done() <-chan struct{} {
	w.once.Do(w.start)
	if in := w.inner.Load(); in != nil {
		return in.Done()
	}
	return closedChan // a forgotten goroutine of a read that has ended
}

// Err is part of context.Context.
func (w *wait) Err() error {
	if in := w.inner.Load(); in != nil {
		return in.Err()
	}
	return nil
}

// Value is part of context.Context; it lets context.Cause see the cause.
func (w *wait) Value(key any) any {
	if in := w.inner.Load(); in != nil {
		return in.Value(key)
	}
	return nil
}

func (w *wait) start() {
	ctx, cancel := context.WithCancelCause(context.Background())
	w.inner.Store(&cancelContext{ctx, cancel})
	if w.all.waiting.Add(1) > w.all.limit {
		w.all.waiting.Add(-1)
		cancel(errTooMany)
		return
	}
	w.counted = true
	w.nudge = make(chan struct{}, 1)
	w.owner.mu.Lock()
	if w.owner.set == nil {
		w.owner.set = make(map[*wait]struct{})
	}
	w.owner.set[w] = struct{}{}
	w.owner.mu.Unlock()
	w.watcher.Go(func() { w.watch(ctx, cancel) })
}

// end releases what the read held and returns why it was ended, nil if it was
// not. Nobody may use the context after it.
func (w *wait) end() error {
	w.once.Do(func() {}) // a late Done must not start a watcher
	in := w.inner.Load()
	if in == nil {
		return nil
	}
	in.cancel(nil)
	if w.counted {
		w.watcher.Wait()
		w.owner.mu.Lock()
		delete(w.owner.set, w)
		w.owner.mu.Unlock()
		w.all.waiting.Add(-1)
	}
	if cause := context.Cause(in); cause != context.Canceled {
		return cause
	}
	return nil
}

// watch cancels the read when its caller no longer wants it or the file system
// is closed. It returns when the read has ended.
func (w *wait) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	interrupt, period := w.interrupt, alivePoll
	var interrupted time.Time
	timer := time.NewTimer(period)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.all.quit:
			cancel(errClosed)
			return
		case <-interrupt:
			interrupt, period, interrupted = nil, signalPoll, time.Now()
		case <-w.nudge:
		case <-timer.C:
		}
		if cause := w.verdict(interrupted); cause != nil {
			cancel(cause)
			return
		}
		timer.Reset(period)
	}
}

// verdict returns why the read is to be ended now, or nil. interrupted is when
// the INTERRUPT came, zero if none has.
func (w *wait) verdict(interrupted time.Time) error {
	switch w.all.look(w.caller) {
	case callerDying:
		return errInterrupted
	case callerUnknown:
		if !interrupted.IsZero() && time.Since(interrupted) >= unknownGrace {
			return errInterrupted
		}
	}
	return nil
}
