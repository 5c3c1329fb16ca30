package engine

import "time"

// rate estimates bytes per second from what arrives while something is
// outstanding, so that idle time does not make a peer look slow.
type rate struct {
	perSec float64 // smoothed; 0 until the first sample
	bytes  int64   // since start
	start  time.Duration
}

// Samples shorter than this say more about the scheduler than about the peer.
const rateSample = 50 * time.Millisecond

// begin marks that the peer has work from now on.
func (r *rate) begin(now time.Duration) {
	r.start, r.bytes = now, 0
}

// add accounts n bytes that arrived now.
func (r *rate) add(now time.Duration, n int) {
	r.bytes += int64(n)
	d := now - r.start
	if r.perSec == 0 && d < rateSample {
		// The very first blocks: a rough guess lets the queue grow at once.
		if d > 0 && r.bytes >= 4*blockSize {
			r.perSec = float64(r.bytes) / max(d, time.Millisecond).Seconds()
			r.begin(now)
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
	r.begin(now)
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

// A floor older than this is allowed to rise: paths change.
const floorAge = 30 * time.Second

func (l *latency) add(now, d time.Duration) {
	d = max(d, time.Microsecond)
	l.samples++
	if l.samples == 1 {
		l.mean, l.dev, l.floor, l.floorAt = d, d/2, d, now
		return
	}
	diff := d - l.mean
	l.mean += diff / 8
	l.dev += (max(diff, -diff) - l.dev) / 4
	switch {
	case d <= l.floor:
		l.floor, l.floorAt = d, now
	case now-l.floorAt > floorAge:
		l.floor, l.floorAt = min(d, l.floor*5/4), now
	}
}
