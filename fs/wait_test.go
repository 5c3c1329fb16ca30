package fs

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// newWaiters returns waiters whose callers are in the state that the test sets.
func newWaiters(limit int64) (*waiters, *atomic.Int64) {
	state := new(atomic.Int64)
	state.Store(int64(callerAlive))
	return &waiters{
		limit: limit,
		quit:  make(chan struct{}),
		look:  func(uint32) callerState { return callerState(state.Load()) },
	}, state
}

func TestAReadThatNeedNotWaitCostsOneAllocation(t *testing.T) {
	all, _ := newWaiters(1)
	w := &wait{all: all, owner: &waitSet{}}
	if w.Err() != nil || w.Value("key") != nil {
		t.Error("a fresh read has an error or a value")
	}
	if n := testing.AllocsPerRun(100, func() {
		x := wait{all: all, owner: w.owner}
		_ = x.Err()
		x.end()
	}); n > 1 {
		t.Errorf("got %v allocations, want 1, itself", n)
	}
	if err := w.end(); err != nil {
		t.Errorf("end: got %v, want nil", err)
	}
	<-w.Done() // a late one is over at once and starts nothing
	if n := all.waiting.Load(); n != 0 {
		t.Errorf("got %d waiting reads, want 0", n)
	}
}

func TestWhatEndsAWaitingRead(t *testing.T) {
	for _, c := range []struct {
		name  string
		do    func(all *waiters, state *atomic.Int64, w *wait, interrupt chan struct{})
		want  error
		after time.Duration
	}{
		{"nothing", func(*waiters, *atomic.Int64, *wait, chan struct{}) {}, nil, 0},
		{
			"an innocent signal", func(_ *waiters, _ *atomic.Int64, _ *wait, interrupt chan struct{}) {
				close(interrupt)
			}, nil, 0,
		},
		{
			"a fatal signal", func(_ *waiters, state *atomic.Int64, _ *wait, interrupt chan struct{}) {
				state.Store(int64(callerDying))
				close(interrupt)
			}, errInterrupted, 0,
		},
		{
			"a fatal signal after an innocent one", func(_ *waiters, state *atomic.Int64, _ *wait, interrupt chan struct{}) {
				close(interrupt)
				time.Sleep(10 * time.Second)
				state.Store(int64(callerDying))
			}, errInterrupted, signalPoll,
		},
		{
			"a killed reader of the page cache", func(_ *waiters, state *atomic.Int64, w *wait, _ chan struct{}) {
				state.Store(int64(callerDying))
				w.owner.nudgeAll()
				w.owner.nudgeAll()
			}, errInterrupted, 0,
		},
		{
			"a killed reader that says nothing", func(_ *waiters, state *atomic.Int64, _ *wait, _ chan struct{}) {
				state.Store(int64(callerDying))
			}, errInterrupted, alivePoll,
		},
		{
			"a close of the same file by another process", func(_ *waiters, _ *atomic.Int64, w *wait, _ chan struct{}) {
				w.owner.nudgeAll()
			}, nil, 0,
		},
		{
			"a signal to a caller that is not visible", func(_ *waiters, state *atomic.Int64, _ *wait, interrupt chan struct{}) {
				state.Store(int64(callerUnknown))
				close(interrupt)
			}, errInterrupted, unknownGrace,
		},
		{
			"a caller that is not visible", func(_ *waiters, state *atomic.Int64, w *wait, _ chan struct{}) {
				state.Store(int64(callerUnknown))
				w.owner.nudgeAll()
			}, nil, 0,
		},
		{
			"the end of the file system", func(all *waiters, _ *atomic.Int64, _ *wait, _ chan struct{}) {
				close(all.quit)
			}, errClosed, 0,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all, state := newWaiters(1)
				interrupt := make(chan struct{})
				w := &wait{all: all, owner: &waitSet{}, caller: 7, interrupt: interrupt}
				done := w.Done()
				c.do(all, state, w, interrupt)
				began := time.Now()
				if c.want == nil {
					time.Sleep(time.Hour)
					if err := context.Cause(w); err != nil {
						t.Errorf("it ended: %v", err)
					}
				} else {
					<-done
					if took := time.Since(began); took > c.after {
						t.Errorf("it took %v, want at most %v", took, c.after)
					}
					if err := context.Cause(w); !errors.Is(err, c.want) {
						t.Errorf("cause: got %v, want %v", err, c.want)
					}
				}
				if err := w.end(); !errors.Is(err, c.want) {
					t.Errorf("end: got %v, want %v", err, c.want)
				}
				if n := all.waiting.Load(); n != 0 || len(w.owner.set) != 0 {
					t.Errorf("after the end: %d counted, %d in the set, want none", n, len(w.owner.set))
				}
			})
		})
	}
}

func TestReadsBeyondTheLimitDoNotWait(t *testing.T) {
	all, _ := newWaiters(2)
	var owner waitSet
	reads := make([]wait, 3)
	for i := range reads {
		reads[i] = wait{all: all, owner: &owner}
		reads[i].Done()
	}
	if err := context.Cause(&reads[2]); !errors.Is(err, errTooMany) {
		t.Errorf("third read of two: got %v, want %v", err, errTooMany)
	}
	if err := reads[1].Err(); err != nil {
		t.Errorf("second read: got %v, want nil", err)
	}
	reads[0].end()
	reads[2].end()
	next := wait{all: all, owner: &owner}
	next.Done()
	if err := next.Err(); err != nil {
		t.Errorf("read after another has ended: got %v, want nil", err)
	}
	next.end()
	reads[1].end()
	if n := all.waiting.Load(); n != 0 {
		t.Errorf("got %d waiting reads at the end, want 0", n)
	}
}

func TestContextsDerivedFromAReadSeeItsCause(t *testing.T) {
	all, _ := newWaiters(1)
	w := &wait{all: all, owner: &waitSet{}}
	ctx, cancel := context.WithTimeout(w, time.Hour)
	defer cancel()
	close(all.quit)
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, errClosed) {
		t.Errorf("cause: got %v, want %v", err, errClosed)
	}
	w.end()
}
