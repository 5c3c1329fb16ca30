package engine

import "time"

// How often silent peers are looked for while something is outstanding: no reader
// waits longer than that for another to be asked.
const watchEvery = 50 * time.Millisecond

// And so often while a peer is idle that could help with what a read waits for.
const helpEvery = 4 * time.Millisecond

// How often queues that ran dry give back a sixteenth of what they got for it.
const easeEvery = time.Second

// A peer that is silent for mean + 4 deviations of what it usually takes is
// snubbed, within these bounds; the first holds until it has shown what it takes.
const (
	firstTimeout = 8 * time.Second
	minTimeout   = 2 * time.Second
	maxTimeout   = 60 * time.Second
)

// NextWake returns when Tick wants to be called next; the zero time when it
// need not be until something else happens.
func (e *Engine) NextWake() time.Time {
	var next time.Duration
	asked, idle := false, false
	for _, p := range e.peers {
		asked = asked || p.requests.len() > 0
		idle = idle || p.requests.len() == 0 && p.rejects == 0 && e.mayAsk(p)
	}
	switch {
	case asked && idle && e.blocked > 0:
		next = e.helped + helpEvery
	case asked:
		next = e.watched + watchEvery
	}
	for _, r := range e.readers {
		for _, t := range [...]time.Duration{r.until, r.later} {
			if t > 0 && (next == 0 || t < next) {
				next = t
			}
		}
	}
	if e.choker.next > 0 && len(e.peers) > 0 && (next == 0 || e.choker.next < next) {
		next = e.choker.next
	}
	if next == 0 {
		return time.Time{}
	}
	return e.epoch.Add(next)
}

// Tick does what is due: snubs silent peers, holds the round of unchoking.
func (e *Engine) Tick(now time.Time) {
	at := e.since(now)
	switch {
	case at-e.watched >= watchEvery:
		e.watched = at
		e.watch(now, at)
	case e.blocked > 0 && at-e.helped >= helpEvery:
		e.helpReads(at)
	}
	for _, r := range e.readers {
		if r.later > 0 && at >= r.later {
			r.later, r.since = 0, at
			e.sortReaders()
			e.fillAll(now)
			break // the list has changed; the others in the next tick
		}
	}
	for i := len(e.readers) - 1; i >= 0; i-- {
		if r := e.readers[i]; r.until > 0 && at >= r.until {
			e.ReaderGone(now, r.id)
		}
	}
	if e.choker.next > 0 && at >= e.choker.next {
		e.choker.round(e, at)
	}
}

func (e *Engine) watch(now time.Time, at time.Duration) {
	snubbed := false
	if at-e.eased >= easeEvery {
		e.eased = at
		for _, p := range e.peers {
			p.ease()
		}
	}
	e.together = 0
	for _, p := range e.peers {
		p.tryDeeper(at)
		e.askAgain(at, p, 0)
		if !p.choked && !p.snubbed && !p.dropped {
			e.together += p.rate.perSec
		}
		if p.requests.len() > 0 && at-p.lastBlock > p.timeout() {
			e.snub(at, p)
			snubbed = true
		}
	}
	e.hedge(at)
	if snubbed {
		e.fillAll(now)
		return
	}
	for _, p := range e.peers {
		if p.requests.len() == 0 && e.mayAsk(p) {
			e.fill(now, p)
		}
	}
	e.helped = at
}

// helpReads has idle peers help with what reads are blocked on.
func (e *Engine) helpReads(at time.Duration) {
	e.helped = at
	for _, p := range e.peers {
		if p.requests.len() == 0 && p.rejects == 0 && e.mayAsk(p) {
			e.help(at, p)
		}
	}
}

func (p *peer) timeout() time.Duration {
	if p.lat.samples < 2 {
		return firstTimeout
	}
	return min(max(p.lat.mean+4*p.lat.dev, minTimeout), maxTimeout)
}

// snub gives to others what a silent peer was asked for. What only it has stays
// with it.
func (e *Engine) snub(at time.Duration, p *peer) {
	if !p.snubbed {
		e.stats.Snubs++
	}
	p.snubbed = true
	p.lastBlock = at
	for i := p.requests.len() - 1; i >= 0; i-- {
		r := *p.requests.at(i)
		t := e.open[r.piece]
		if t == nil || !e.elsewhere(p, r.piece) {
			continue
		}
		e.recall(p, i)
		e.release(t, r.block, p)
	}
}

// elsewhere reports whether another peer could deliver the piece now.
func (e *Engine) elsewhere(p *peer, piece int) bool {
	for _, q := range e.peers {
		if q != p && !q.choked && !q.snubbed && !q.dropped && q.has(piece) {
			return true
		}
	}
	return false
}
