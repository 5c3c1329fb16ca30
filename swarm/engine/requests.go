package engine

import "time"

// request is one block that a peer was asked for.
type request struct {
	piece, block int
	at           time.Duration
	due          time.Duration // when it was expected to be here
	bare         bool          // next to nothing was outstanding then
	// It was taken back, and is wanted again before the peer has answered: by the
	// block, or by a reject, upon which it is sent again.
	revived bool
}

// requests is the queue of what is outstanding at one peer, oldest first. Blocks
// mostly come in the order they were asked for, so the head is cheap to find
// and to take out.
type requests struct {
	buf  []request
	head int
}

func (q *requests) len() int          { return len(q.buf) - q.head }
func (q *requests) at(i int) *request { return &q.buf[q.head+i] }

func (q *requests) push(r request) {
	if q.head > 0 && len(q.buf) == cap(q.buf) {
		n := copy(q.buf, q.buf[q.head:])
		q.buf, q.head = q.buf[:n], 0
	}
	q.buf = append(q.buf, r)
}

// find returns the index of a request, or -1.
func (q *requests) find(piece, block int) int { return q.findFrom(0, piece, block) }

// findFrom is find for a caller who knows that the request is likely at index i
// or soon after.
func (q *requests) findFrom(i, piece, block int) int {
	i = min(i, q.len())
	for j := range q.len() {
		k := i + j
		if k >= q.len() {
			k -= q.len()
		}
		if r := q.at(k); r.block == block && r.piece == piece {
			return k
		}
	}
	return -1
}

func (q *requests) remove(i int) {
	i += q.head
	copy(q.buf[q.head+1:i+1], q.buf[q.head:i])
	if q.head++; q.head == len(q.buf) {
		q.buf, q.head = q.buf[:0], 0
	}
}

func (q *requests) clear() { q.buf, q.head = q.buf[:0], 0 }

// Recalled requests that are remembered at most; a peer that answers none would
// have us keep them for ever.
const maxRecalled = 512

// owes is how many blocks the peer may still send before the next that it is
// asked for.
func (p *peer) owes() int { return p.requests.len() + p.recalled.len() }

// unrecall notes that the peer answered a request that was taken back, and
// reports whether there was one.
func (p *peer) unrecall(piece, block int) bool {
	i := p.recalled.find(piece, block)
	if i >= 0 {
		p.recalled.remove(i)
	}
	return i >= 0
}

// answered notes that the peer answered a request made at a time. It serves them
// in order: of those before it, what was taken back comes no more.
func (p *peer) answered(at time.Duration) {
	for i := p.recalled.len() - 1; i >= 0; i-- {
		if p.recalled.at(i).at < at {
			p.recalled.remove(i)
		}
	}
}
