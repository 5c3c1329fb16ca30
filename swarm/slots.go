package swarm

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"swarmfs/swarm/engine"
)

// slots are the places for peers that may download from us, which all torrents
// share. How many there are follows from what was seen to leave us. It is safe
// for concurrent use.
type slots struct {
	sent  atomic.Int64 // payload, ever
	fixed bool
	up    *throttle

	mu       sync.Mutex
	pool     *engine.Pool
	capacity capacity
}

func (s *slots) init(fixed int, up *throttle, now time.Time) {
	s.fixed, s.up = fixed > 0, up
	s.pool = engine.NewPool(fixed)
	s.capacity.at = now
	if !s.fixed {
		s.pool.Resize(slotsFor(0))
	}
}

// measure adapts the number of places. The lock is held.
func (s *slots) measure(now time.Time) {
	if s.fixed || !s.capacity.measure(now, s.sent.Load()) {
		return
	}
	perSec := s.capacity.perSec
	if limit := s.up.perSec(); limit > 0 {
		perSec = min(perSec, float64(limit))
	}
	s.pool.Resize(slotsFor(perSec))
}

// slotsFor is how many places a line has that sends so many bytes a second: few
// enough that each is worth something, more for a quick one. (etorrent's numbers,
// and its square root, which is Bram Cohen's.)
func slotsFor(perSec float64) int {
	const most = 100
	switch kB := perSec / 1000; {
	case kB < 1:
		return 8 // nothing is known
	case kB < 9:
		return 2
	case kB < 15:
		return 3
	case kB < 42:
		return 4
	default:
		return min(most, max(4, int(math.Round(math.Sqrt(0.8*kB)))))
	}
}

// capacity is the most that was seen to leave us, in bytes a second, over some
// seconds. It fades in minutes: lines change.
type capacity struct {
	perSec float64
	at     time.Time
	sent   int64
}

// A sample is so long at least, and halves what is remembered in so long.
const (
	capacitySample = 5 * time.Second
	capacityHalf   = 10 * time.Minute
)

// measure takes what was sent up to now, and reports whether perSec is new.
func (c *capacity) measure(now time.Time, sent int64) bool {
	d := now.Sub(c.at)
	if d < capacitySample {
		return false
	}
	c.perSec *= math.Exp2(-float64(d) / float64(capacityHalf))
	c.perSec = max(c.perSec, float64(sent-c.sent)/d.Seconds())
	c.at, c.sent = now, sent
	return true
}

// slotSeat is a run's part of the slots.
type slotSeat struct {
	of *slots
	s  *engine.Seat
}

var _ engine.Slots = (*slotSeat)(nil)

func (s *slots) join() *slotSeat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &slotSeat{s, s.pool.Join()}
}

func (s *slotSeat) leave() {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.s.Leave()
}

// Bid implements engine.Slots.
func (s *slotSeat) Bid(now time.Time, b engine.Bids) (regular, turn int) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.of.measure(now)
	return s.s.Bid(now, b)
}

// Take implements engine.Slots.
func (s *slotSeat) Take() bool {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	return s.s.Take()
}

// Free implements engine.Slots.
func (s *slotSeat) Free(n int) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.s.Free(n)
}
