package engine

import (
	"slices"
	"time"

	"swarmfs/swarm/wire"
)

// requested takes a peer's request. It is queued here, not at the socket, so
// that a choke or a cancel finds it.
func (e *Engine) requested(p *peer, m wire.Message) {
	if int64(m.Index) >= int64(e.n) || m.Length == 0 || m.Length > blockSize ||
		uint64(m.Begin)+uint64(m.Length) > uint64(e.layout.PieceSize(int(m.Index))) {
		e.drop(p, false, "a request for what is no block")
		return
	}
	switch {
	case p.choking || !e.have.Has(int(m.Index)):
		if p.reported++; p.reported > maxMisbehaviour {
			e.drop(p, false, "requests while choked, or for what we lack")
			return
		}
		e.reject(p, m)
	case len(p.queue)+p.inFlight >= maxUploadQueue:
		e.reject(p, m)
	default:
		p.reported = 0
		p.queue = append(p.queue, wire.Message{Index: m.Index, Begin: m.Begin, Length: m.Length})
		e.pump(p)
	}
}

// reject answers a request that will not be served (BEP 6); without the fast
// extension silence says the same.
func (e *Engine) reject(p *peer, m wire.Message) {
	if p.caps.Fast {
		e.send(p, wire.Message{Kind: wire.Reject, Index: m.Index, Begin: m.Begin, Length: m.Length})
	}
}

// cancelled takes a request back. What is already at the driver is sent all the
// same; BEP 6 allows either answer.
func (e *Engine) cancelled(p *peer, m wire.Message) {
	for i, q := range p.queue {
		if q.Index == m.Index && q.Begin == m.Begin && q.Length == m.Length {
			p.queue = slices.Delete(p.queue, i, i+1)
			e.reject(p, m)
			return
		}
	}
}

// rejectQueued gives up what a peer asked of a piece that is gone.
func (e *Engine) rejectQueued(p *peer, piece int) {
	p.queue = slices.DeleteFunc(p.queue, func(q wire.Message) bool {
		if int(q.Index) != piece {
			return false
		}
		e.reject(p, q)
		return true
	})
}

// pump hands queued blocks to the driver, a window at a time.
func (e *Engine) pump(p *peer) {
	n := min(len(p.queue), uploadWindow-p.inFlight)
	if n <= 0 {
		return
	}
	for i, m := range p.queue[:n] {
		if !e.mayUpload() {
			n = i
			break
		}
		e.out = append(e.out, Action{Kind: Upload, Peer: p.id, Piece: int(m.Index), Msg: m})
		p.handed += int64(m.Length)
		e.handed += int64(m.Length)
	}
	p.inFlight += n
	p.queue = slices.Delete(p.queue, 0, n)
	if !e.mayUpload() {
		e.closeUploads()
	}
}

// Uploaded says that the driver is done with some blocks of Upload: so many
// were sent, with so many bytes in all, and so many could not be read.
func (e *Engine) Uploaded(now time.Time, id PeerID, blocks, bytes int, unreadable []wire.Message) {
	e.stats.Uploaded += int64(bytes)
	p := e.byID[id]
	if p == nil {
		return
	}
	p.sent += int64(bytes)
	p.inFlight = max(0, p.inFlight-blocks-len(unreadable))
	done := int64(bytes)
	for _, m := range unreadable {
		done += int64(m.Length)
		e.reject(p, m)
	}
	done = min(done, p.handed)
	p.handed -= done
	e.handed -= done
	e.pump(p)
}
