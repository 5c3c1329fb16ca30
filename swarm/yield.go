package swarm

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// yielding holds uploads back while a read waits and the uplink is full: requests
// and acknowledgements then queue behind what we send, and the read waits for
// that. It halves the rate of uploads until the uplink is full no more, and lets
// it grow again. An uplink that is not full harms no read, so who waits for slow
// peers does not stop giving. It is safe for concurrent use.
type yielding struct {
	limit atomic.Int64 // bytes/s; 0: none

	reads  atomic.Int64 // that wait
	waited atomic.Int64 // ns, by those that wait no more
	full   atomic.Int64 // until when the uplink counts as full, in ns of the session's clock; 0: it was not

	mu     sync.Mutex
	at     int64     // of the newest look
	sent   int64     // then
	before int64     // waited, then
	next   time.Time // when the next batch may go out
	usable float64   // bytes/s that uploads have without a limit, smoothed
}

const (
	yieldEvery = int64(500 * time.Millisecond)
	// A batch of blocks that takes longer to write has met a full send buffer.
	slowWrite = 200 * time.Millisecond
	fullFor   = 2 * time.Second
	// Others give us as they get: something always goes out.
	yieldFloor = 8 << 10 // bytes/s
	// And an eighth of what went out before.
	yieldShare = 8
	// What uploads gain in each look while a read waits, and while none does.
	yieldCareful = 1.02
	yieldGrowth  = 1.25
	usableWeight = 0.1 // of the newest half second: batches come in bursts
)

// waitedSince says that a read waits no more.
func (y *yielding) waitedSince(since time.Time) {
	y.reads.Add(-1)
	y.waited.Add(int64(time.Since(since)))
}

// wrote says how long the write of a batch of blocks took.
func (y *yielding) wrote(now int64, took time.Duration) {
	if took >= slowWrite {
		y.full.Store(now + int64(min(took, fullFor))) // the next will not be quicker
	}
}

// wait returns when n bytes may go out, or with ctx's cause.
func (y *yielding) wait(ctx context.Context, n int) error {
	for {
		limit := y.limit.Load()
		if limit == 0 {
			return nil
		}
		y.mu.Lock()
		now := time.Now()
		d := y.next.Sub(now)
		if d <= 0 {
			y.next = now.Add(time.Duration(float64(n) / float64(limit) * float64(time.Second)))
		}
		y.mu.Unlock()
		if d <= 0 {
			return nil
		}
		timer := time.NewTimer(min(d, time.Duration(yieldEvery))) // the limit may be another by then
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// look adapts the limit; sent is what was uploaded ever.
func (y *yielding) look(now, sent int64) {
	if y.full.Load() == 0 && y.limit.Load() == 0 { // as nearly always
		return
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	if now-y.at < yieldEvery {
		return
	}
	rate := float64(sent-y.sent) / time.Duration(now-y.at).Seconds()
	full := y.full.Load() > now
	waited := y.waited.Load()
	suffers := y.reads.Load() > 0 || waited-y.before > (now-y.at)/2
	y.at, y.sent, y.before = now, sent, waited
	limit := float64(y.limit.Load())
	if limit == 0 {
		y.usable += usableWeight * (rate - y.usable)
	}
	switch {
	case full && suffers:
		if limit == 0 {
			limit = y.usable
		}
		limit = max(limit/2, y.usable/yieldShare, yieldFloor)
	case limit > 0 && suffers:
		limit = min(limit*yieldCareful, y.usable)
	case limit == 0:
		y.full.Store(0)
		return
	default:
		if limit *= yieldGrowth; limit > 2*y.usable {
			limit = 0
		}
	}
	y.limit.Store(int64(limit))
}
