package engine

import "time"

// maxDepth is how many requests the peer takes.
func (e *Engine) maxDepth(p *peer) int {
	m := e.cfg.MaxRequests
	if r := p.caps.MaxRequests; r > 0 {
		m = min(m, r)
	}
	return max(1, m)
}

// Beyond the bandwidth × delay product a queue holds what the peer needs to
// keep its own pipeline busy between two of our refills.
const queueMargin = 20 * time.Millisecond

// A request that finds fewer than so many outstanding measures the bare round
// trip. One would leave the path idle for longer.
const bareQueue = 2

// resize sets how many requests p should have outstanding: rate × one and a
// half bare round trips, so that it grows while the path takes more, and stays
// so shallow that an urgent block never waits long behind our own.
func (e *Engine) resize(at time.Duration, p *peer) {
	if p.rate.perSec > 0 {
		if e.usual == 0 {
			e.usual = p.rate.perSec
		}
		e.usual += (p.rate.perSec - e.usual) / 8
	}
	p.depth = min(e.goodDepth(at, p), e.maxDepth(p))
}

func (e *Engine) goodDepth(at time.Duration, p *peer) int {
	switch {
	case p.rate.perSec > 0 && p.lat.stale(at):
		return bareQueue
	case p.rate.perSec > 0:
	case p.rate.first > 0 && blockTime(p.rate.first) > slowBlock:
		return bareQueue + p.extra // the first block tells that it is slow
	default:
		return e.first + int(p.received/blockSize) + p.extra
	}
	perSec, trip := e.speed(p)
	// Half a round trip more lets it grow while the path takes more. For a slow
	// peer that is less than what its own blocks add to the trip.
	more := max(0, trip-2*blockTime(perSec)) / 2
	bytes := perSec * (trip + more + queueMargin).Seconds()
	// A deeper queue may help a peer, but not at the cost of the next urgent block.
	deepest := max(bytes, perSec*(trip+maxQueueing).Seconds())
	depth := 2 + int(min(bytes*p.probe.gain, deepest)/blockSize) + p.extra
	if p.received < earlyBlocks*blockSize {
		return max(depth, e.first)
	}
	return depth
}

// A peer whose blocks take longer keeps its path busy with two.
const slowBlock = 200 * time.Millisecond

// So few blocks tell little of a peer.
const earlyBlocks = 16

// How long the requests beyond the bare round trip may take at the most.
const maxQueueing = 80 * time.Millisecond

// probe tries whether a deeper queue makes a peer quicker: what it does between a
// request and its answer (a disk, threads, batches) is not in the bare round
// trip. As long as it does, the queue grows; when not, it goes back, and that is
// found out again some seconds later. (BBR probes for bandwidth in this way.)
type probe struct {
	gain    float64 // by which the queue is deeper
	growing bool
	next    time.Duration
	at      time.Duration // since when bytes are counted
	bytes   int64         // received until then
	last    float64       // bytes/s in the period before
}

const (
	probeStep   = 1.5
	probeWorth  = 1.15 // times the rate, or the step was in vain
	probeMax    = 16
	probePeriod = 100 * time.Millisecond
	probeRest   = 5 * time.Second
	probeBlocks = 32 // fewer in a period tell nothing
)

func (p *peer) tryDeeper(at time.Duration) {
	b := &p.probe
	if at < b.next || p.received-b.bytes < probeBlocks*blockSize {
		return
	}
	perSec := float64(p.received-b.bytes) / (at - b.at).Seconds()
	b.at, b.bytes, b.next = at, p.received, at+probePeriod
	switch {
	case !p.full: // nothing is asked of it, or its own reqq is the limit
		b.growing = false
	case b.growing && perSec < b.last*probeWorth:
		b.gain = max(1, b.gain/probeStep)
		b.growing = false
		b.next = at + probeRest
	case !b.growing && perSec > b.last*probeWorth: // it grows by itself
	default:
		b.growing = true
		b.gain = min(b.gain*probeStep, probeMax)
	}
	b.last = perSec
}

// starved deepens the queue of a peer that has answered all of a full one: it
// could have sent more. Some serve in bursts (Transmission every 500 ms), and
// neither their rate nor their round trip tells how much they would take.
func (e *Engine) starved(p *peer) {
	if p.full && p.requests.len() == 0 {
		p.extra = min(max(2*p.extra, p.depth), e.maxDepth(p))
	}
}

// bunched deepens the queue of a slow peer whose blocks come together: something
// on the way passes on whole chunks, the end of a block waits for the beginning of
// the next, and the peer for our next request.
func (p *peer) bunched(gap time.Duration, blocks int) {
	t := blockTime(p.rate.perSec)
	if p.full && p.extra == 0 && t >= chunkTime && (blocks > 1 || gap < t/4) {
		p.extra = 1
	}
}

// A block that takes less is not worth it.
const chunkTime = 20 * time.Millisecond

// ease takes a part of that back now and then.
func (p *peer) ease() { p.extra -= (p.extra + 15) / 16 }

// Guesses for a peer that has not delivered yet: middling, so that it is tried
// after the good ones and before the bad ones.
const (
	guessRate = 1 << 20 // bytes/s, until another peer has shown what is usual here
	guessTrip = 50 * time.Millisecond
)

// speed returns what p delivers, in bytes/s, and its bare round trip.
func (e *Engine) speed(p *peer) (perSec float64, trip time.Duration) {
	perSec = p.rate.perSec
	if perSec == 0 {
		perSec = e.guess(p)
	}
	if p.lat.floor == 0 {
		return perSec, guessTrip
	}
	// The quickest answer took the trip and the time that one block takes.
	return perSec, max(0, p.lat.floor-blockTime(perSec))
}

// guess is the rate of a peer that has not been measured: what is usual here,
// but no more than its silence, or the time of its first block, leaves room for.
// Those that keep us waiting are the slow ones; the quick have been measured.
func (e *Engine) guess(p *peer) float64 {
	perSec := e.usual
	if perSec == 0 {
		perSec = guessRate
	}
	if p.rate.first > 0 {
		perSec = min(perSec, p.rate.first)
	}
	if waited := e.at - p.rate.last; p.rate.busy {
		if !p.rate.opened {
			waited -= guessTrip
		}
		if waited > 0 {
			perSec = min(perSec, blockSize/waited.Seconds())
		}
	}
	return perSec
}

// blockTime is how long one block takes at a rate.
func blockTime(perSec float64) time.Duration {
	return time.Duration(blockSize / perSec * float64(time.Second))
}

// finish estimates how long p takes to deliver all that is outstanding and the
// given number of blocks more.
func (e *Engine) finish(p *peer, blocks int) time.Duration {
	perSec, trip := e.speed(p)
	return trip + time.Duration(p.owes()+blocks)*blockTime(perSec)
}
