package engine

import "time"

// Wait says why a piece is not held yet.
type Wait struct {
	// Availability is how many connected peers have the piece.
	Availability int
	// Received of Blocks blocks are in its draft.
	Received, Blocks int
	// Verifying: all blocks are in, the hash is being checked.
	Verifying bool
	// Asked are the peers that were asked for blocks of it and have not
	// answered, in the order of joining.
	Asked []Asked
}

// Asked is one peer that owes blocks of a piece.
type Asked struct {
	Peer   PeerID
	Blocks int
	Since  time.Time // of the oldest request among them
}

// Why says what is known of a piece that somebody waits for. It changes nothing;
// its cost is that of a look at every outstanding request. A piece that does not
// exist, or is held, waits for nothing: the zero Wait but for Availability.
func (e *Engine) Why(piece int) Wait {
	if piece < 0 || piece >= e.n {
		return Wait{}
	}
	w := Wait{Availability: e.seeds}
	if e.avail != nil {
		w.Availability += int(e.avail[piece])
	}
	if e.have.Has(piece) {
		return w
	}
	w.Blocks = e.layout.NumBlocks(piece)
	t := e.open[piece]
	if t == nil {
		return w
	}
	w.Received, w.Verifying = t.got, t.verifying
	for _, p := range e.peers {
		a := Asked{Peer: p.id}
		var since time.Duration
		for i := range p.requests.len() {
			r := p.requests.at(i)
			if r.piece != piece {
				continue
			}
			if a.Blocks == 0 || r.at < since {
				since = r.at
			}
			a.Blocks++
		}
		if a.Blocks > 0 {
			a.Since = e.epoch.Add(since)
			w.Asked = append(w.Asked, a)
		}
	}
	return w
}

// PeerStatus is a moment of one connection. The words are those of BEP 3, once
// for each direction.
type PeerStatus struct {
	Peer PeerID
	// Choked: it chokes us. Interested: we are interested in it.
	Choked, Interested bool
	// Choking: we choke it. Interesting: it is interested in us.
	Choking, Interesting bool
	// Snubbed: it was silent for so long that others are asked first.
	Snubbed bool
	// Outstanding is how many blocks it owes us.
	Outstanding int
	// Rate is what it sends while it owes us something, in bytes a second; 0 is
	// not known yet.
	Rate float64
	// Pieces it has.
	Pieces int
	// Received from it and Sent to it, in bytes of payload.
	Received, Sent int64
}

// Peers returns the connections in the order of joining. It changes nothing.
func (e *Engine) Peers() []PeerStatus {
	list := make([]PeerStatus, 0, len(e.peers))
	for _, p := range e.peers {
		list = append(list, PeerStatus{
			Peer: p.id, Choked: p.choked, Interested: p.interested,
			Choking: p.choking, Interesting: p.wantsUs, Snubbed: p.snubbed,
			Outstanding: p.requests.len(), Rate: p.rate.perSec, Pieces: p.count,
			Received: p.received, Sent: p.sent,
		})
	}
	return list
}
