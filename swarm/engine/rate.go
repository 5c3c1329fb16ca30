package engine

import "time"

// rate estimates bytes per second from what arrives while something is
// outstanding, so that idle time does not make a peer look slow.
type rate struct {
	perSec float64 // smoothed; 0 until the first sample
	bytes  int64   // since start
	start  time.Duration
	busy   bool
	paused time.Duration // since when it is not
}

// Samples shorter than this say more about the scheduler than about the peer.
const rateSample = 50 * time.Millisecond

// begin marks that the peer has work from now on. What was measured before a
// pause goes on: a queue that is served in one go, before a sample is over,
// would never be measured otherwise, and so never grow.
func (r *rate) begin(now time.Duration) {
	if r.busy { // nobody saw when it ran dry
		r.reset(now)
		return
	}
	r.start += now - r.paused
	r.busy = true
}

// pause marks that the peer has delivered all that it was asked for.
func (r *rate) pause(now time.Duration) { r.busy, r.paused = false, now }

func (r *rate) reset(now time.Duration) { r.start, r.bytes = now, 0 }

// add accounts n bytes that arrived now, all that came together in one call.
func (r *rate) add(now time.Duration, n int) {
	if !r.busy { // late, and not waited for any more
		return
	}
	r.bytes += int64(n)
	d := now - r.start
	if r.perSec == 0 && d < rateSample {
		// The very first blocks: a rough guess lets the queue grow at once.
		if d > 0 && r.bytes >= 4*blockSize {
			r.perSec = float64(r.bytes) / max(d, time.Millisecond).Seconds()
			r.reset(now)
		}
		return
	}
	if d < rateSample {
		return
	}
	s := float64(r.bytes) / d.Seconds()
	// A long sample counts for more: weight d/(d+200 ms).
	w := float64(d) / float64(d+200*time.Millisecond)
	if r.perSec == 0 {
		w = 1
	}
	r.perSec += w * (s - r.perSec)
	r.reset(now)
}

// latency keeps the mean and deviation of request-to-block times (as TCP does
// for its retransmission timer, RFC 6298) and a floor that tells the bare round
// trip from our own queueing.
type latency struct {
	mean, dev time.Duration
	floor     time.Duration
	floorAt   time.Duration
	samples   int
}

// A floor older than this may be out of date, for paths change. Then the queue is
// let run nearly dry once (resize), since only a request that met no queue tells
// what the bare round trip is; a floor raised by what met one would deepen the
// queue, and so raise itself for ever. (BBR probes for the same reason.)
const floorAge = 30 * time.Second

func (l *latency) stale(now time.Duration) bool { return now-l.floorAt > floorAge }

// add takes one sample; bare says that the request met no queue of ours.
func (l *latency) add(now, d time.Duration, bare bool) {
	d = max(d, time.Microsecond)
	l.samples++
	if l.samples == 1 {
		l.mean, l.dev, l.floor, l.floorAt = d, d/2, d, now
		return
	}
	diff := d - l.mean
	l.mean += diff / 8
	l.dev += (max(diff, -diff) - l.dev) / 4
	if d <= l.floor || bare && l.stale(now) {
		l.floor, l.floorAt = d, now
	}
}
