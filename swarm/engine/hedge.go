package engine

import "time"

// help gives an idle peer a block that another was asked for and is expected to
// deliver later than p would: the end-game, for one reader's piece or for the
// whole torrent. A block is asked of two peers at most; whoever is late gets a
// cancel.
func (e *Engine) help(at time.Duration, p *peer) {
	if p.choked || p.snubbed {
		return
	}
	for _, r := range e.readers[:e.blocked] {
		if e.helpRead(at, p, r) {
			return
		}
	}
	for _, r := range e.readers {
		if e.helpRange(at, p, r.win.Pos, min(r.win.End, r.win.Pos+2), helpMargin) {
			return
		}
	}
	if e.background != nil && e.rarest.len() == 0 {
		e.helpBackground(at, p)
	}
}

// helpRead gives p what a blocked read waits for, as much as it could still deliver
// much sooner: one block at a time, a peer that stopped with half a piece was waited
// for again with every block. But where much is read ahead, much would come twice.
func (e *Engine) helpRead(at time.Duration, p *peer, r *reader) (some bool) {
	for e.helpRange(at, p, r.win.Need, r.win.NeedEnd, patience(p)) {
		some = true
		if e.readsAhead() || !e.mayAsk(p) {
			break
		}
	}
	return some
}

// readsAhead reports whether any reader has a window beyond what it waits for.
func (e *Engine) readsAhead() bool {
	for _, r := range e.readers {
		if r.win.End > max(r.win.Pos, r.win.NeedEnd) {
			return true
		}
	}
	return false
}

func (e *Engine) helpRange(at time.Duration, p *peer, from, end int, patience time.Duration) bool {
	for i := from; i < end; i++ {
		if t := e.open[i]; t != nil && p.has(i) && e.helpPartial(at, p, t, 2*e.finish(p, 1)+patience) {
			return true
		}
	}
	return false
}

// patience is how much later than p could deliver it a block may be before p is
// asked, too: what blocks of its rate vary by, a few of them.
func patience(p *peer) time.Duration {
	return min(helpMargin, max(leastPatience, 4*blockTime(p.rate.perSec)))
}

const leastPatience = 4 * time.Millisecond

func (e *Engine) helpBackground(at time.Duration, p *peer) {
	var best *partial
	for _, t := range e.open { // in any order: the choice has no ties
		if t.asked > 0 && p.has(t.piece) && (best == nil || t.asked < best.asked || t.asked == best.asked && t.piece < best.piece) {
			best = t
		}
	}
	if best != nil {
		e.helpPartial(at, p, best, e.finish(p, 1))
	}
}

// A read is not to wait for one slow peer while a quicker one takes what is
// wanted less: a block that is due so much later than that one would deliver it
// is asked of both. Between peers of one kind it never is.
const hastenAfter = 100 * time.Millisecond

// So many reads, who wait longest, are looked at for each block.
const maxHastened = 4

// hasten asks p for a block that a read is blocked on and that another peer is
// expected to deliver much later.
func (e *Engine) hasten(at time.Duration, p *peer) bool {
	if e.blocked == 0 || p.choked || p.snubbed {
		return false
	}
	for _, r := range e.readers[:min(e.blocked, maxHastened)] {
		if e.nextFree(p, r.win.Need, r.win.NeedEnd) >= 0 {
			return false // there is something that nobody was asked for
		}
		for i := r.win.Need; i < r.win.NeedEnd; i++ {
			t := e.open[i]
			if t != nil && p.has(i) && e.helpPartial(at, p, t, 2*e.finish(p, 1)+hastenAfter) {
				return true
			}
		}
	}
	return false
}

// hedge asks a second peer for what a read is blocked on and what is overdue: by
// half of what it was expected to take, and more than the holder's answers
// usually vary. When the second is late, too, a third takes the place of the first.
func (e *Engine) hedge(at time.Duration) {
	for _, r := range e.readers[:e.blocked] {
		for i := r.win.Need; i < r.win.NeedEnd; i++ {
			if t := e.open[i]; t != nil && t.asked > 0 && !e.ban.suspected(i) {
				e.hedgePartial(at, t)
			}
		}
	}
}

func (e *Engine) hedgePartial(at time.Duration, t *partial) {
	for b := range t.blocks {
		k := &t.blocks[b]
		if k.state != blockAsked {
			continue
		}
		first, second := k.by[0], k.by[1]
		asked, late := e.overdue(at, first, t.piece, b)
		if late && second != nil {
			asked, late = e.overdue(at, second, t.piece, b)
		}
		if !late {
			continue
		}
		p := e.soonest(t.piece, first, second)
		if p == nil {
			return
		}
		if e.finish(p, 1) >= at-asked { // it may well take as long again
			continue
		}
		if second != nil { // both are late: the first has had its time
			e.recall(first, first.requests.find(t.piece, b))
			e.release(t, b, first)
			e.short = append(e.short, first)
		}
		k.by[1] = p
		e.ask(at, p, t, b)
	}
}

// overdue reports when a peer was asked for a block, and whether it should have
// been here by now.
func (e *Engine) overdue(at time.Duration, p *peer, piece, b int) (asked time.Duration, late bool) {
	i := p.requests.findFrom(p.near, piece, b)
	if i < 0 {
		return at, false
	}
	p.near = i + 1
	q := p.requests.at(i)
	return q.at, at >= q.due+(q.due-q.at)/2+2*p.lat.dev+hastenAfter
}

// helpPartial takes the block of t that is expected last, if that is later than
// so long from now.
func (e *Engine) helpPartial(at time.Duration, p *peer, t *partial, mine time.Duration) bool {
	if t.asked == 0 || e.ban.suspected(t.piece) {
		return false
	}
	if t.last.at == at && t.last.asked == e.stats.Requested && mine >= t.last.due {
		return false
	}
	best, latest := -1, mine
	t.last = lastDue{at: at, asked: e.stats.Requested}
	for b := range t.blocks {
		k := &t.blocks[b]
		if k.state != blockAsked || k.by[1] != nil {
			continue
		}
		f := e.due(at, k.by[0], t.piece, b)
		t.last.due = max(t.last.due, f)
		if f > latest && k.by[0] != p {
			best, latest = b, f
		}
	}
	if best < 0 {
		return false
	}
	e.second(at, p, t, best)
	return true
}

// second asks p for a block that another was asked for. What that one has
// probably not begun to send, since it sends in order, it need not send at all.
func (e *Engine) second(at time.Duration, p *peer, t *partial, b int) {
	k := &t.blocks[b]
	holder := k.by[0]
	if i := holder.requests.find(t.piece, b); i > 0 && holder.caps.Fast {
		e.recall(holder, i)
		k.by[0] = p
		e.short = append(e.short, holder)
	} else {
		k.by[1] = p
	}
	e.ask(at, p, t, b)
}

// due estimates how long from now the peer takes to deliver a block that it was
// asked for. What is overdue is trusted less the longer it is.
func (e *Engine) due(at time.Duration, p *peer, piece, b int) time.Duration {
	i := p.requests.findFrom(p.near, piece, b)
	if i < 0 {
		return 0
	}
	p.near = i + 1
	waited := at - p.requests.at(i).at
	f := e.finish(p, i+1-p.requests.len())
	if waited > f {
		return waited
	}
	return f
}
