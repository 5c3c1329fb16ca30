package swarm

import (
	"slices"
	"sync"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

// webQueue is what a web seed was asked for. The loop adds and takes back without
// ever waiting, the web seed's goroutine takes out; it is what an outbox and the
// list of what was asked are to a peer. The engine bounds it.
type webQueue struct {
	layout metainfo.Layout
	wake   chan struct{} // 1 deep: something is new

	mu        sync.Mutex
	list      []webRequest   // oldest first
	withdrawn []wire.Message // requests taken back, to be answered by a reject (BEP 6)
	overtaken time.Time      // since when others come before the oldest; zero: they do not
}

// webRequest is one block.
type webRequest struct {
	m   wire.Message
	off int64 // in the torrent, in bytes
}

func (r webRequest) end() int64 { return r.off + int64(r.m.Length) }

// What follows in an open response comes before what was asked for earlier, for so
// long: several reads at once are asked for out of order, and each jump costs a
// round trip at least.
const maxOvertaking = 100 * time.Millisecond

func newWebQueue(l metainfo.Layout) webQueue {
	return webQueue{layout: l, wake: make(chan struct{}, 1)}
}

// take takes a message of the engine. A web seed has no use for most.
func (q *webQueue) take(m wire.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	off := q.layout.PieceOffset(int(m.Index)) + int64(m.Begin)
	switch m.Kind {
	case wire.Request:
		q.list = append(q.list, webRequest{m, off})
	case wire.Cancel:
		if i := q.find(off); i >= 0 {
			q.withdrawn = append(q.withdrawn, q.list[i].m)
			q.remove(i)
		}
	}
}

func (q *webQueue) find(off int64) int {
	return slices.IndexFunc(q.list, func(r webRequest) bool { return r.off == off })
}

func (q *webQueue) remove(i int) {
	if i == 0 {
		q.overtaken = time.Time{}
	}
	q.list = slices.Delete(q.list, i, i+1)
}

func (q *webQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next returns the request at an offset; if there is none, or the oldest has been
// overtaken for long enough, the first of the run in which the oldest is.
func (q *webQueue) next(now time.Time, pos int64) (webRequest, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) == 0 {
		return webRequest{}, false
	}
	if i := q.find(pos); i == 0 || i > 0 && (q.overtaken.IsZero() || now.Sub(q.overtaken) < maxOvertaking) {
		if i > 0 && q.overtaken.IsZero() {
			q.overtaken = now
		}
		return q.list[i], true
	}
	sorted := q.sorted()
	i := slices.IndexFunc(sorted, func(r webRequest) bool { return r.off == q.list[0].off })
	for i > 0 && sorted[i-1].end() == sorted[i].off {
		i--
	}
	return sorted[i], true
}

// run returns where the run of requests ends that begins at an offset.
func (q *webQueue) run(off int64) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range q.sorted() {
		if r.off == off {
			off = r.end()
		}
	}
	return off
}

func (q *webQueue) sorted() []webRequest {
	list := slices.Clone(q.list)
	slices.SortFunc(list, func(a, b webRequest) int {
		if a.off < b.off {
			return -1
		}
		return 1
	})
	return list
}

// pop takes a request out and reports whether it was there: it may have been taken
// back.
func (q *webQueue) pop(r webRequest) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := q.find(r.off)
	if i >= 0 {
		q.remove(i)
	}
	return i >= 0
}

// rejects takes out what is to be rejected.
func (q *webQueue) rejects() []wire.Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.withdrawn
	q.withdrawn = nil
	return list
}
