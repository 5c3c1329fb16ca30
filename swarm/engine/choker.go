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

// A peer that has owed us something for so long and sends nothing has no place
// for what it gave before (BEP 3's anti-snubbing): its place goes round, and may
// find us one that gives.
const antiSnub = 45 * time.Second

// choker decides which peers may download from us, in the places that Slots
// gives the torrent. While others give us something, those who give most, what
// readers wait for first; otherwise those who take fastest. Some places go round
// in a random order, so that newcomers can show what they give.
type choker struct {
	next   time.Duration // of the next round
	rounds int
	ring   []*peer // order of the places in turn; newcomers enter at random
	bids   Bids    // for reuse
}

func (c *choker) joined(e *Engine, p *peer) {
	c.ring = slices.Insert(c.ring, e.rng.IntN(len(c.ring)+1), p)
}

func (c *choker) left(e *Engine, p *peer) {
	c.ring = slices.DeleteFunc(c.ring, func(q *peer) bool { return q == p })
	if !p.choking {
		e.cfg.Slots.Free(1)
	}
	if len(c.ring) == 0 { // there will be no round to say so
		e.cfg.Slots.Bid(e.epoch.Add(e.at), Bids{})
	}
}

func (c *choker) round(e *Engine, at time.Duration) {
	c.next = at + chokeRound
	list := c.appraise(e, at)
	regular, turn := e.cfg.Slots.Bid(e.epoch.Add(at), c.bids)
	best := list[:regular]
	c.takeTurns(best, turn)
	for _, p := range e.peers {
		e.tellChoking(p, !(slices.Contains(best, p) || p.optimist))
	}
	if left := regular + turn - e.unchoked(); left > 0 {
		e.cfg.Slots.Free(left)
	}
	c.fillSlots(e, at)
}

// appraise sets what peers are worth and returns those who want something of us,
// best first. The bids are those of the first of them.
func (c *choker) appraise(e *Engine, at time.Duration) []*peer {
	giving := false
	for _, p := range e.peers {
		p.worth.Reads = p.worth.Reads/2 + p.reads
		p.worth.Worth = p.worth.Worth/2 + p.received - p.received0
		if p.snubbed && at-p.gaveAt >= antiSnub {
			p.worth = Bid{}
		}
		giving = giving || p.worth.Worth > 0
	}
	var list []*peer
	for _, p := range e.peers {
		if !giving || e.haveN == e.n {
			p.worth = Bid{Worth: p.sent - p.sent0}
		}
		p.received0, p.sent0, p.reads = p.received, p.sent, 0
		if p.wantsUs && !p.dropped && e.uploading {
			list = append(list, p)
		}
	}
	slices.SortStableFunc(list, func(a, b *peer) int {
		return cmp.Or(a.worth.compare(b.worth), cmp.Compare(a.sent, b.sent)) // who got least of us: nobody keeps a place for having come first
	})
	c.bids = Bids{List: c.bids.List[:0], Giving: giving && e.haveN < e.n}
	for _, p := range list {
		if p.worth == (Bid{}) {
			c.bids.Others++
		} else {
			c.bids.List = append(c.bids.List, p.worth)
		}
	}
	return list
}

// takeTurns gives n places to the next in the ring that have no regular one. Every
// third round others follow.
func (c *choker) takeTurns(best []*peer, n int) {
	may := func(p *peer) bool { return p.wantsUs && !p.dropped && !slices.Contains(best, p) }
	if c.rounds%optimisticEvery == 0 {
		for _, p := range c.ring {
			p.optimist = false
		}
	}
	c.rounds++
	var stay, back []*peer
	for _, p := range c.ring { // who has one
		p.optimist = p.optimist && n > 0 && may(p)
		if p.optimist {
			n--
		}
	}
	for _, p := range c.ring {
		if !p.optimist && n > 0 && may(p) {
			p.optimist = true
			n--
			back = append(back, p)
		} else {
			stay = append(stay, p)
		}
	}
	c.ring = append(stay, back...)
}

// fillSlots lets interested peers in at once while there are places, those that
// gave most first: interest comes and goes between two rounds, and who gives
// nothing should have no more of that than its turn.
func (c *choker) fillSlots(e *Engine, at time.Duration) {
	if c.next == 0 {
		c.next = at + chokeRound
	}
	if !e.uploading {
		return
	}
	for {
		var best *peer
		for _, p := range c.ring {
			if p.choking && p.wantsUs && !p.dropped && (best == nil || p.worth.compare(best.worth) < 0) {
				best = p
			}
		}
		if best == nil || !e.cfg.Slots.Take() {
			return
		}
		e.tellChoking(best, false)
	}
}

func (c *choker) uninterested(e *Engine, p *peer, at time.Duration) {
	p.optimist = false
	e.setChoking(p, true)
	c.fillSlots(e, at)
}

func (e *Engine) unchoked() (n int) {
	for _, p := range e.peers {
		if !p.choking {
			n++
		}
	}
	return n
}

// setChoking chokes a peer, or not, and gives its place back.
func (e *Engine) setChoking(p *peer, choke bool) {
	if p.choking != choke && choke && !p.dropped {
		e.cfg.Slots.Free(1)
	}
	e.tellChoking(p, choke)
}

// tellChoking tells a peer whether we choke it.
func (e *Engine) tellChoking(p *peer, choke bool) {
	if p.dropped {
		p.choking = p.choking || choke
		return
	}
	if p.choking == choke {
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
