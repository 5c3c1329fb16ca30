package cache

import (
	"container/list"
	"math/rand/v2"
	"slices"
	"time"
)

// The other policies of the comparison.

type fifoPolicy struct {
	order  []spot
	chance map[spot]bool // nil: no second chance
}

func (p *fifoPolicy) add(_ time.Duration, at spot, _ uint32, _ bool) {
	p.order = append(p.order, at)
	if p.chance != nil {
		p.chance[at] = false
	}
}

func (p *fifoPolicy) read(_ time.Duration, at spot) {
	if p.chance != nil {
		p.chance[at] = true
	}
}

func (p *fifoPolicy) victims(bytes int64, _ func(spot) hold) (out []spot) {
	for ; bytes > 0 && len(p.order) > 0; p.order = p.order[1:] {
		at := p.order[0]
		if p.chance[at] {
			p.chance[at] = false
			p.order = append(p.order, at)
			continue
		}
		delete(p.chance, at)
		out = append(out, at)
		bytes -= simPiece
	}
	return out
}

type lruPolicy struct {
	order *list.List
	of    map[spot]*list.Element
}

func (p *lruPolicy) add(_ time.Duration, at spot, _ uint32, _ bool) { p.of[at] = p.order.PushBack(at) }

func (p *lruPolicy) read(_ time.Duration, at spot) { p.order.MoveToBack(p.of[at]) }

func (p *lruPolicy) victims(bytes int64, _ func(spot) hold) (out []spot) {
	for ; bytes > 0 && p.order.Len() > 0; bytes -= simPiece {
		at := p.order.Remove(p.order.Front()).(spot)
		delete(p.of, at)
		out = append(out, at)
	}
	return out
}

// sievePolicy is SIEVE (Zhang and others, NSDI 2024): a hand goes from old to new
// and takes what was not read since it came by last.
type sievePolicy struct {
	order *list.List // of spots, new at the back
	of    map[spot]*list.Element
	seen  map[spot]bool
	hand  *list.Element
}

func (p *sievePolicy) add(_ time.Duration, at spot, _ uint32, _ bool) {
	p.of[at] = p.order.PushBack(at)
}

func (p *sievePolicy) read(_ time.Duration, at spot) { p.seen[at] = true }

func (p *sievePolicy) victims(bytes int64, _ func(spot) hold) (out []spot) {
	for bytes > 0 && p.order.Len() > 0 {
		if p.hand == nil {
			p.hand = p.order.Front()
		}
		e := p.hand
		p.hand = e.Next()
		at := e.Value.(spot)
		if p.seen[at] {
			delete(p.seen, at)
			continue
		}
		p.order.Remove(e)
		delete(p.of, at)
		out = append(out, at)
		bytes -= simPiece
	}
	return out
}

// patient has reads within a while count as one, as policy does.
type patient struct {
	contender
	seen map[spot]time.Duration
}

func (p *patient) add(now time.Duration, at spot, size uint32, isEdge bool) {
	p.seen[at] = now
	p.contender.add(now, at, size, isEdge)
}

func (p *patient) read(now time.Duration, at spot) {
	if now-p.seen[at] >= tuned.patience {
		p.seen[at] = now
		p.contender.read(now, at)
	}
}

func contenders(target int64) []namedContender {
	own := func(t tuning) func() contender { return func() contender { return newPolicy(target, t) } }
	patiently := func(inner func() contender) func() contender {
		return func() contender { return &patient{inner(), map[spot]time.Duration{}} }
	}
	clock := func() contender { return &fifoPolicy{chance: map[spot]bool{}} }
	lru := func() contender { return &lruPolicy{list.New(), map[spot]*list.Element{}} }
	sieve := func() contender {
		return &sievePolicy{order: list.New(), of: map[spot]*list.Element{}, seen: map[spot]bool{}}
	}
	return []namedContender{
		{"FIFO", func() contender { return &fifoPolicy{} }, false},
		{"FIFO, second chance", clock, false},
		{"the same, patient", patiently(clock), false},
		{"LRU", lru, false},
		{"SIEVE", sieve, false},
		{"the same, patient", patiently(sieve), false},
		{"S3-FIFO", own(tuning{smallPercent: 10, windowPercent: tuned.windowPercent}), false},
		{"the same, patient", own(tuning{smallPercent: 10, patience: tuned.patience, windowPercent: tuned.windowPercent}), false},
		{"a quarter for small", own(tuning{smallPercent: 25, patience: tuned.patience, windowPercent: tuned.windowPercent}), false},
		{"and edges: ours", own(tuned), false},
		{"ours, uploads count", own(tuned), true},
		{"ours, half for small", own(tuning{50, 10, tuned.patience, tuned.windowPercent}), false},
		{"ours, patient for 1 h", own(tuning{25, 10, time.Hour, tuned.windowPercent}), false},
	}
}

// randomPolicy lets random pieces go, as true LRU does in a household whose reads
// have little to do with the order of writing.
type randomPolicy struct {
	rng  *rand.Rand
	held []spot
}

func (p *randomPolicy) add(_ time.Duration, at spot, _ uint32, _ bool) { p.held = append(p.held, at) }

func (p *randomPolicy) read(time.Duration, spot) {}

func (p *randomPolicy) victims(bytes int64, _ func(spot) hold) (out []spot) {
	for ; bytes > 0 && len(p.held) > 0; bytes -= simPiece {
		i := p.rng.IntN(len(p.held))
		out = append(out, p.held[i])
		p.held = slices.Delete(p.held, i, i+1)
	}
	return out
}
