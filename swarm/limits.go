package swarm

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"swarmfs/metainfo"
)

// throttle is a rate limit that can be changed while goroutines wait for it. It
// is safe for concurrent use.
type throttle struct{ now atomic.Pointer[limit] }

// limit is one setting of a throttle.
type limit struct {
	perSec  int64         // bytes, 0: none
	bucket  *rate.Limiter // nil: no limit
	changed chan struct{} // closed when another has taken its place
}

// One wait may ask for as much as one read or write brings.
const limitBurst = max(maxReadBuffer, uploadBatch*metainfo.BlockSize)

// set makes perSec bytes a second the limit; 0 or less is none. Whoever waits
// turns to the new one: rate.Limiter.SetLimit would let a wait of minutes, that
// began under a tight limit, go on.
func (t *throttle) set(perSec int64) {
	l := &limit{perSec: max(perSec, 0), changed: make(chan struct{})}
	if perSec > 0 {
		l.bucket = rate.NewLimiter(rate.Limit(perSec), limitBurst)
	}
	if old := t.now.Swap(l); old != nil {
		close(old.changed)
	}
}

// perSec returns the limit in bytes a second, 0 for none.
func (t *throttle) perSec() int64 { return t.now.Load().perSec }

// wait returns when n bytes may pass, n at most limitBurst, or with ctx's cause.
func (t *throttle) wait(ctx context.Context, n int) error {
	for {
		l := t.now.Load()
		if l.bucket == nil || n == 0 {
			return nil
		}
		r := l.bucket.ReserveN(time.Now(), n)
		d := r.Delay()
		if d == 0 {
			return nil
		}
		timer := time.NewTimer(d)
		select {
		case <-timer.C:
			return nil
		case <-l.changed:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			r.Cancel() // others need not wait for bytes that will not pass
			return context.Cause(ctx)
		}
	}
}

// Limits are bounds on the payload of all peers of a session, or of a torrent,
// together, in bytes a second; 0 is no limit.
type Limits struct{ Upload, Download int64 }

// Limits returns the limits in force.
func (s *Session) Limits() Limits { return Limits{Upload: s.up.perSec(), Download: s.down.perSec()} }

// SetLimits changes the limits, also for transfers that wait for them now.
func (s *Session) SetLimits(l Limits) { l.into(&s.up, &s.down) }

func (l Limits) into(up, down *throttle) {
	if l.Upload != up.perSec() {
		up.set(l.Upload)
	}
	if l.Download != down.perSec() {
		down.set(l.Download)
	}
}
