package engine

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The estimate comes near a steady rate, however blocks bunch and pause.
func TestTheRateConvergesAndIsNeverNegative(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := math.Pow(10, rapid.Float64Range(3, 9).Draw(t, "log of rate"))
		bunch := rapid.IntRange(1, 64).Draw(t, "blocks at a time")
		pause := time.Duration(rapid.IntRange(0, 3000).Draw(t, "pause in ms")) * time.Millisecond
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var r rate
		var now time.Duration
		r.begin(now)
		step := time.Duration(float64(bunch*blockSize) / want * float64(time.Second))
		for busy := time.Duration(0); busy < 10*time.Second+20*step; busy += step {
			now += step
			r.add(now, bunch*blockSize)
			if r.perSec < 0 || math.IsNaN(r.perSec) || math.IsInf(r.perSec, 0) {
				t.Fatalf("got %v bytes/s", r.perSec)
			}
			if rng.IntN(4) == 0 {
				r.pause(now)
				now += pause
				r.begin(now)
			}
		}
		if r.perSec < want*0.9 || r.perSec > want*1.1 {
			t.Errorf("got %.0f bytes/s, want %.0f", r.perSec, want)
		}
	})
}

// A change of the rate is followed within a few seconds.
func TestTheRateFollowsAChange(t *testing.T) {
	var r rate
	var now time.Duration
	r.begin(now)
	run := func(perSec int, d time.Duration) {
		for end := now + d; now < end; now += 10 * time.Millisecond {
			r.add(now, perSec/100)
		}
	}
	run(10<<20, 5*time.Second)
	run(1<<20, 3*time.Second)
	if r.perSec > 1.2*(1<<20) {
		t.Errorf("got %.0f bytes/s 3 s after a fall to %d", r.perSec, 1<<20)
	}
	run(10<<20, 3*time.Second)
	if r.perSec < 0.8*(10<<20) {
		t.Errorf("got %.0f bytes/s 3 s after a rise to %d", r.perSec, 10<<20)
	}
}

// Mean, deviation and floor stay within what was measured, and the time-out
// within its bounds.
func TestLatencyStaysWithinWhatWasMeasured(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l latency
		var now time.Duration
		least, most := time.Duration(math.MaxInt64), time.Duration(0)
		for range rapid.IntRange(1, 200).Draw(t, "samples") {
			now += time.Duration(rapid.IntRange(0, 20_000).Draw(t, "after ms")) * time.Millisecond
			d := time.Duration(rapid.IntRange(0, 100_000_000).Draw(t, "µs")) * time.Microsecond
			l.add(now, d, rapid.Bool().Draw(t, "bare"))
			d = max(d, time.Microsecond)
			least, most = min(least, d), max(most, d)
			p := peer{lat: l}
			switch got := p.timeout(); {
			case l.mean < least-1 || l.mean > most+1:
				t.Fatalf("mean %v outside %v to %v", l.mean, least, most)
			case l.dev < 0 || l.dev > most:
				t.Fatalf("deviation %v of samples to %v", l.dev, most)
			case l.floor < least || l.floor > most:
				t.Fatalf("floor %v outside %v to %v", l.floor, least, most)
			case got < minTimeout || got > maxTimeout:
				t.Fatalf("time-out %v", got)
			}
		}
	})
}

// On a steady path mean and floor are its round trip and the deviation fades;
// when the path gets longer, the floor follows what met no queue, and only that.
func TestLatencyConverges(t *testing.T) {
	var l latency
	var now time.Duration
	run := func(d time.Duration, bare bool) {
		for range 100 {
			now += time.Second
			l.add(now, d, bare)
		}
	}
	run(40*time.Millisecond, false)
	if l.mean != 40*time.Millisecond || l.floor != l.mean || l.dev > time.Microsecond {
		t.Errorf("got mean %v, floor %v, deviation %v", l.mean, l.floor, l.dev)
	}
	run(90*time.Millisecond, false)
	if l.floor != 40*time.Millisecond {
		t.Errorf("got floor %v after samples behind a queue", l.floor)
	}
	run(90*time.Millisecond, true)
	if l.floor != 90*time.Millisecond {
		t.Errorf("got floor %v, want that of the longer path", l.floor)
	}
}

// Who has not been measured is taken for as quick as the others until its first
// answer is late, and then for no quicker than its silence allows.
func TestAPeerThatKeepsUsWaitingCountsAsSlow(t *testing.T) {
	e := &Engine{usual: 1 << 20}
	p := &peer{}
	if got := e.guess(p); got != e.usual {
		t.Errorf("got %.0f bytes/s of a peer that was asked for nothing, want %.0f", got, e.usual)
	}
	p.rate.begin(0)
	e.at = time.Second
	if got := e.guess(p); got > 1.1*blockSize {
		t.Errorf("got %.0f bytes/s of a peer that is silent for a second, want a block at most", got)
	}
	p.rate.add(e.at, blockSize)
	if got := e.guess(p); got > 2*blockSize {
		t.Errorf("got %.0f bytes/s of a peer whose first block took a second, want two at most", got)
	}
}
