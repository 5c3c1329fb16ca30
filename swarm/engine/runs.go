package engine

// A peer with Caps.Stream sends what lies in one run at full speed and pays a round
// trip for each jump (a web server). Alone it gets everything in order, as far as
// it is asked for in order. Beside others it would get what they leave, a few
// blocks here and there: so it is given whole pieces that nobody has begun, one
// after another, and leaves the others what they bring sooner than it a piece.

// ownPieces reports whether p is to be given pieces of its own: it is such a peer
// and others are there.
func (e *Engine) ownPieces(p *peer) bool {
	if !p.caps.Stream {
		return false
	}
	for _, q := range e.peers {
		if q != p && !q.choked && !q.snubbed && !q.dropped && q.lacking > 0 {
			return true
		}
	}
	return false
}

// pickRun returns a piece ahead of a reader that nobody has begun: the one after
// p's last if it can be, so that its run goes on.
func (e *Engine) pickRun(p *peer) *partial {
	late := e.latePieces(p, e.layout.NumBlocks(0))
	for _, r := range e.readers {
		from := min(r.win.Pos+late, r.win.End)
		i := p.last + 1
		if i < from || i >= r.win.End || !e.untouched(p, i) {
			for i = e.nextFree(p, from, r.win.End); i >= 0 && !e.untouched(p, i); {
				i = e.nextFree(p, i+1, r.win.End)
			}
		}
		if i >= 0 {
			return e.openPartial(i, tierAhead)
		}
	}
	return nil
}

// untouched reports whether p can have all of a piece that no read is blocked on.
func (e *Engine) untouched(p *peer, piece int) bool {
	return e.free.Has(piece) && e.open[piece] == nil && p.has(piece) && !e.inGoal(piece)
}

// nextInRun returns the piece after p's last, if the background has it to begin;
// -1 if not.
func (e *Engine) nextInRun(p *peer) int {
	if next := p.last + 1; p.caps.Stream && next > 0 && next < e.n && e.rarest.has(next) && p.has(next) {
		return next
	}
	return -1
}

// runStart returns where the run of pieces begins that the background has to begin
// and that a piece is in: p goes through all of it then. Its first run begins where
// chance has it, so that not everybody fetches the same.
func (e *Engine) runStart(p *peer, piece int) int {
	if !p.caps.Stream || p.last < 0 {
		return piece
	}
	for piece > 0 && e.rarest.has(piece-1) && p.has(piece-1) {
		piece--
	}
	return piece
}
