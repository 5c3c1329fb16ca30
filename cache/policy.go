package cache

import "time"

// policy decides which pieces leave the disk, and nothing else: it has no lock,
// clock or disk, and is told what happens. docs/cache.md has the comparison with
// other policies that its figures come from.
//
// It is S3-FIFO (Yang and others, SOSP 2023) with a class of its own for the edges
// of files. What is new waits in small; what was read again by the time it has
// come to the front goes on to main, and the rest leaves. A piece at the front of
// main that was read since stays. So one pass through a film moves nothing but
// small, and no piece is moved by a read: the log files of the disk, whose space
// comes back file by file, lose their pieces about in the order they got them.
type policy struct {
	tuning
	target int64 // bytes that all queues together are meant to hold

	index  map[spot]entry
	queues [numClasses]queue
	seq    uint32

	// ghosts are pieces that left small: the last of them, as many bytes as target.
	ghosts map[spot]entry
	gone   queue
}

// tuning are the figures of a policy.
type tuning struct {
	// smallPercent of the target is what small may hold while main has something
	// to give up instead.
	smallPercent int64
	// edgePercent of the target is what edges of files may take.
	edgePercent int64
	// patience is for how long reads of a piece count as one. A player reads a
	// piece in many requests, several programs open a file at once, a viewer goes
	// back by a minute; and which of that the kernel answers from its page cache
	// is chance.
	patience time.Duration
	// windowPercent of the target is what readers' windows protect.
	windowPercent int64
}

// tuned is for the disk.
var tuned = tuning{smallPercent: 25, edgePercent: 10, patience: 10 * time.Minute, windowPercent: 50}

// tunedForMemory is for pieces in memory, which is full within seconds. What has
// been read to its end is retired there, so the reads of one pass need no long
// patience; and the store sees to it that windows do not take all of it.
var tunedForMemory = tuning{smallPercent: 25, edgePercent: 10, patience: 10 * time.Second, windowPercent: 100}

// class is the queue that a piece is in.
type class uint8

const (
	junk  class = iota // could not be read back, or is incomplete: the first to go
	small              // has not been read again yet
	main               // was read again
	edge               // the edge of a file
	kept               // was the next to go, and is pinned
	due                // its turn has passed: was kept, or is retired
	numClasses
)

// entry is what the policy knows of a piece.
type entry struct {
	seq   uint32        // of its item in the queue: others are stale
	size  uint32        // bytes
	seen  time.Duration // when it came, or was last counted as read
	again bool          // was read since it came to its place
	class class
}

// item is a piece's place in a queue.
type item struct {
	at  spot
	seq uint32
}

// queue is a first-in, first-out queue. Items are not removed from its middle:
// those whose number is not their piece's any more are passed over.
type queue struct {
	items []item
	head  int
	bytes int64 // of those that count
}

func newPolicy(target int64, t tuning) *policy {
	return &policy{tuning: t, target: target, index: make(map[spot]entry), ghosts: make(map[spot]entry)}
}

// add enters a piece that was written now. One that is known is as if it had been
// removed before.
func (p *policy) add(now time.Duration, at spot, size uint32, isEdge bool) {
	p.remove(at)
	e := entry{size: size, seen: now, class: small}
	if g, ok := p.ghosts[at]; ok {
		p.forget(at, g)
		e.class = main
	}
	if isEdge {
		e.class = edge
	}
	p.put(at, e)
	p.trimEdges()
}

// read notes that a piece was read.
func (p *policy) read(now time.Duration, at spot) {
	e, ok := p.index[at]
	if !ok || now-e.seen < p.patience {
		return
	}
	e.seen, e.again = now, true
	p.index[at] = e
}

// spoil has a piece go first.
func (p *policy) spoil(at spot) { p.move(at, junk) }

// retire has a piece go before others, as it was read to its end and the reader
// goes on: unless it is read again. Edges stay what they are.
func (p *policy) retire(now time.Duration, at spot) {
	if e, ok := p.index[at]; ok && (e.class == small || e.class == main) {
		p.remove(at)
		e.class, e.again, e.seen = due, false, now
		p.put(at, e)
	}
}

// setEdge says whether a piece is the edge of a file.
func (p *policy) setEdge(at spot, isEdge bool) {
	switch e, ok := p.index[at]; {
	case !ok || e.class == junk || (e.class == edge) == isEdge:
	case isEdge:
		p.move(at, edge)
		p.trimEdges()
	default:
		p.move(at, small)
	}
}

// trimEdges makes edges beyond their share like other pieces, the oldest first;
// one that was read again stays for another round.
func (p *policy) trimEdges() {
	for p.queues[edge].bytes > p.target*p.edgePercent/100 {
		at, e, _ := p.pop(edge)
		if !e.again {
			e.class = small
		}
		e.again = false
		p.put(at, e)
	}
}

// release lets pieces that were kept go again, before others: they are older.
func (p *policy) release() {
	for at, e, ok := p.pop(kept); ok; at, e, ok = p.pop(kept) {
		e.class = due
		p.put(at, e)
	}
}

// remove forgets a piece.
func (p *policy) remove(at spot) {
	if e, ok := p.index[at]; ok {
		p.queues[e.class].bytes -= int64(e.size)
		delete(p.index, at)
	}
}

// hold is what forbids a piece to go.
type hold uint8

const (
	unheld   hold = iota
	windowed      // a reader is about to read it
	pinned
)

// victims takes out the pieces that are to go now: of so many bytes beside junk, or
// fewer if all others are held.
func (p *policy) victims(bytes int64, held func(spot) hold) []spot {
	type piece struct {
		at spot
		e  entry
	}
	var out []spot
	var spared []piece // not put back before the end, or all spare went to the same few
	spare := p.target * p.windowPercent / 100
	for bytes > 0 {
		at, e, ok := p.next()
		if !ok {
			break
		}
		h := held(at)
		switch {
		case e.class == junk:
			out = append(out, at)
		case h == windowed && spare > 0:
			spare -= int64(e.size)
			spared = append(spared, piece{at, e})
		case p.leaves(at, &e, h):
			out = append(out, at)
			bytes -= int64(e.size)
		default:
			p.put(at, e)
		}
	}
	for _, s := range spared {
		p.put(s.at, s.e)
	}
	return out
}

// leaves decides on a piece that has come to the front of its queue, and if it
// stays, to which queue it goes.
func (p *policy) leaves(at spot, e *entry, h hold) bool {
	switch {
	case h == pinned:
		e.class = kept
	case e.again:
		e.again = false
		if e.class == small || e.class == due {
			e.class = main
		}
	default:
		if e.class == small {
			p.haunt(at, *e)
		}
		return true
	}
	return false
}

// next takes the next piece to be considered out of its queue.
func (p *policy) next() (spot, entry, bool) {
	order := [...]class{junk, due, small, main, edge}
	if p.queues[small].bytes < p.target*p.smallPercent/100 && p.queues[main].bytes > 0 {
		order = [...]class{junk, due, main, small, edge}
	}
	for _, c := range order {
		if at, e, ok := p.pop(c); ok {
			return at, e, true
		}
	}
	return spot{}, entry{}, false
}

// put enters a piece at the end of its queue.
func (p *policy) put(at spot, e entry) {
	p.seq++
	e.seq = p.seq
	p.index[at] = e
	p.queues[e.class].push(item{at, e.seq}, e.size)
}

// pop takes the first piece out of a queue.
func (p *policy) pop(c class) (spot, entry, bool) {
	q := &p.queues[c]
	for q.head < len(q.items) {
		it := q.shift()
		if e, ok := p.index[it.at]; ok && e.seq == it.seq {
			q.bytes -= int64(e.size)
			delete(p.index, it.at)
			return it.at, e, true
		}
	}
	return spot{}, entry{}, false
}

// move takes a piece to the end of another queue.
func (p *policy) move(at spot, c class) {
	if e, ok := p.index[at]; ok {
		p.remove(at)
		e.class = c
		p.put(at, e)
	}
}

// haunt remembers a piece that leaves small: if it is wanted again soon, it should
// have stayed.
func (p *policy) haunt(at spot, e entry) {
	p.seq++
	e.seq = p.seq
	p.ghosts[at] = e
	p.gone.push(item{at, e.seq}, e.size)
	for p.gone.bytes > p.target {
		it := p.gone.shift()
		if g, ok := p.ghosts[it.at]; ok && g.seq == it.seq {
			p.forget(it.at, g)
		}
	}
}

func (p *policy) forget(at spot, g entry) {
	p.gone.bytes -= int64(g.size)
	delete(p.ghosts, at)
}

func (q *queue) push(it item, size uint32) {
	q.items = append(q.items, it)
	q.bytes += int64(size)
}

// shift takes the first item. What is in front of it is given up now and then.
func (q *queue) shift() item {
	it := q.items[q.head]
	q.items[q.head] = item{}
	q.head++
	if q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return it
}
