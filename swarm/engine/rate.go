package engine

import "time"

// rate estimates bytes per second from what arrives while something is
// outstanding, so that idle time does not make a peer look slow. Nor does the
// round trip: what a peer sends is timed from the first arrival on.
type rate struct {
	perSec float64       // smoothed; 0 until the first sample
	bytes  int64         // of the sample under way
	span   time.Duration // in which they came
	last   time.Duration // when something came last, or was asked for
	busy   bool          // something is outstanding
	opened bool          // and something of it has come
	burst  int64         // bytes of the first arrival
	asked  time.Duration // since when it is busy
	first  float64       // bytes/s that the very first arrival told of; 0: none yet
}

const (
	// Samples shorter than this say more about the scheduler than about the peer.
	rateSample = 50 * time.Millisecond
	// For the very first a rough guess will do, so that the queue grows at once.
	rateGuess      = 20 * time.Millisecond
	rateGuessBytes = 8 * blockSize
)

// known reports whether the peer has shown anything of what it delivers.
func (r *rate) known() bool { return r.perSec > 0 || r.first > 0 }

// begin marks that the peer has work from now on. What was measured before a
// pause goes on: a queue that is served in one go, before a sample is over,
// would never be measured otherwise, and so never grow.
func (r *rate) begin(now time.Duration) {
	r.busy, r.opened, r.asked, r.last, r.burst = true, false, now, now, 0
}

// pause marks that the peer has delivered all that it was asked for. If all came
// at once, only its way here can be timed: the least that its rate can be.
func (r *rate) pause(now time.Duration) {
	if r.opened && r.bytes == 0 {
		// What came may answer what was taken back before: no time is too short.
		least := float64(r.burst) / max(now-r.asked, rateSample).Seconds()
		r.perSec = max(r.perSec, least)
	}
	r.busy = false
}

// add accounts n bytes that arrived now, all that came together in one call.
func (r *rate) add(now time.Duration, n int) {
	if !r.busy { // late, and not waited for any more
		return
	}
	if !r.opened {
		r.opened, r.last, r.burst = true, now, int64(n)
		if r.first == 0 {
			// How much of it was the round trip nobody knows: half.
			r.first = 2 * float64(n) / max(now-r.asked, time.Millisecond).Seconds()
		}
		return
	}
	r.bytes += int64(n)
	r.span += now - r.last
	r.last = now
	switch {
	case r.span >= rateSample:
	case r.perSec == 0 && r.span > 0 && (r.span >= rateGuess || r.bytes >= rateGuessBytes):
	default:
		return
	}
	s := float64(r.bytes) / max(r.span, time.Millisecond).Seconds()
	// A long sample counts for more: weight d/(d+200 ms).
	w := float64(r.span) / float64(r.span+200*time.Millisecond)
	if r.perSec == 0 {
		w = 1
	}
	r.perSec += w * (s - r.perSec)
	r.bytes, r.span = 0, 0
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
