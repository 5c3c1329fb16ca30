package swarm

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestALimitHoldsOnceItsBurstIsSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l throttle
		l.set(1 << 20)
		start := time.Now()
		for range 5 {
			if err := l.wait(t.Context(), limitBurst); err != nil {
				t.Fatal(err)
			}
		}
		// The first is the burst, the other four are 1 MiB.
		if got := time.Since(start); got < 990*time.Millisecond || got > 1010*time.Millisecond {
			t.Errorf("five waits took %v, want 1 s", got)
		}
	})
}

func TestANewLimitHoldsForThoseWhoWait(t *testing.T) {
	for _, perSec := range []int64{0, 1 << 30, math.MaxInt64} {
		synctest.Test(t, func(t *testing.T) {
			var l throttle
			l.set(1) // 256 KiB take three days
			if err := l.wait(t.Context(), limitBurst); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			done := make(chan error, 1)
			go func() { done <- l.wait(context.Background(), limitBurst) }()
			synctest.Wait()
			l.set(perSec)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if got := time.Since(start); got > time.Second {
				t.Errorf("to %d: waited %v more", perSec, got)
			}
			if got := l.perSec(); got != perSec {
				t.Errorf("the limit is %d, want %d", got, perSec)
			}
		})
	}
}

func TestAWaitForALimitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l throttle
		l.set(1)
		if err := l.wait(t.Context(), limitBurst); err != nil {
			t.Fatal(err)
		}
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if err := l.wait(ctx, 1000); !errors.Is(err, cause) {
			t.Errorf("got %v, want the context's cause", err)
		}
		// What did not pass is not paid for by the next.
		start := time.Now()
		if err := l.wait(t.Context(), 2); err != nil || time.Since(start) > 2*time.Second {
			t.Errorf("the next waited %v: %v", time.Since(start), err)
		}
	})
}

func TestLimitsOfASessionChange(t *testing.T) {
	s, err := New(Options{UploadLimit: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer s.trackers.Close()
	for _, want := range []Limits{{Upload: 5}, {Upload: 5, Download: 7}, {Download: 7}, {}} {
		s.SetLimits(want)
		if got := s.Limits(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}
