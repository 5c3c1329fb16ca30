package engine

import (
	"cmp"
	"slices"
	"time"

	"swarmfs/swarm/wire"
)

// BEP 3's numbers: whom to upload to is decided anew every ten seconds, the
// optimistic place goes round every third time.
const (
	chokeRound      = 10 * time.Second
	optimisticEvery = 3
)

// choker decides which peers may download from us. While we lack pieces, those
// who give us most; when we have all, those who take fastest. One place goes
// round at random, so that newcomers can show what they give.
type choker struct {
	next   time.Duration // of the next round
	rounds int
	ring   []*peer // order of the optimistic place; newcomers enter at random
}

func (c *choker) joined(e *Engine, p *peer) {
	c.ring = slices.Insert(c.ring, e.rng.IntN(len(c.ring)+1), p)
}

func (c *choker) left(p *peer) {
	c.ring = slices.DeleteFunc(c.ring, func(q *peer) bool { return q == p })
}

func (c *choker) round(e *Engine, at time.Duration) {
	c.next = at + chokeRound
	if !e.uploading {
		return
	}
	var list []*peer
	for _, p := range e.peers {
		if p.wantsUs && !p.dropped {
			list = append(list, p)
		}
	}
	seeding := e.haveN == e.n
	worth := func(p *peer) int64 {
		if seeding {
			return p.sent - p.roundSent
		}
		return p.received - p.roundRecv
	}
	slices.SortStableFunc(list, func(a, b *peer) int {
		switch wa, wb := worth(a), worth(b); {
		case wa > wb:
			return -1
		case wa < wb:
			return 1
		}
		return cmp.Compare(a.sent, b.sent) // who got least of us: nobody keeps a place for having come first
	})
	regular := list[:min(len(list), e.cfg.UploadSlots-1)]
	if c.rounds%optimisticEvery == 0 {
		c.rotate(regular)
	}
	c.rounds++
	for _, p := range e.peers {
		p.roundRecv, p.roundSent = p.received, p.sent
		e.setChoking(p, !(slices.Contains(regular, p) || p.optimist && p.wantsUs))
	}
	c.fillSlots(e, at)
}

// rotate gives the optimistic place to the next in the ring that has no
// regular one.
func (c *choker) rotate(regular []*peer) {
	for _, p := range c.ring {
		p.optimist = false
	}
	for i, p := range c.ring {
		if p.wantsUs && !p.dropped && !slices.Contains(regular, p) {
			p.optimist = true
			c.ring = append(slices.Delete(c.ring, i, i+1), p)
			return
		}
	}
}

// fillSlots lets interested peers in at once while there are places.
func (c *choker) fillSlots(e *Engine, at time.Duration) {
	if c.next == 0 {
		c.next = at + chokeRound
	}
	if !e.uploading {
		return
	}
	used := 0
	for _, p := range e.peers {
		if !p.choking {
			used++
		}
	}
	for _, p := range c.ring {
		if used >= e.cfg.UploadSlots {
			return
		}
		if p.choking && p.wantsUs && !p.dropped {
			e.setChoking(p, false)
			used++
		}
	}
}

func (c *choker) uninterested(e *Engine, p *peer, at time.Duration) {
	p.optimist = false
	e.setChoking(p, true)
	c.fillSlots(e, at)
}

func (e *Engine) setChoking(p *peer, choke bool) {
	if p.choking == choke || p.dropped {
		return
	}
	p.choking = choke
	if !choke {
		e.send(p, wire.Message{Kind: wire.Unchoke})
		return
	}
	e.send(p, wire.Message{Kind: wire.Choke})
	queue := p.queue
	p.queue = nil
	for _, m := range queue {
		e.reject(p, m)
	}
}
