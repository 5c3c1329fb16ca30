package cache

import "sync"

// news is the queue between the store, which must not call out with a lock
// held, and the one goroutine that calls the volumes' functions.
type news struct {
	mu     sync.Mutex
	queue  []any // spot: evicted; found; copied; *Volume: room; decided; recount; lent
	more   *sync.Cond
	closed bool
}

func (n *news) init() { n.more = sync.NewCond(&n.mu) }

func (n *news) evicted(at spot) { n.push(at) }
func (n *news) room(v *Volume)  { n.push(v) }
func (n *news) found(at spot)   { n.push(found(at)) }

// found is a piece that is held without a draft.
type found spot

// copied is a piece that was copied from another volume. It is told even if it was
// evicted since: that is told next.
type copied spot

func (n *news) push(item any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.queue = append(n.queue, item)
		n.more.Signal()
	}
}

// take waits for news. It returns nil after close, even if there are some.
func (n *news) take() []any {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.queue) == 0 && !n.closed {
		n.more.Wait()
	}
	if n.closed {
		return nil
	}
	q := n.queue
	n.queue = nil
	return q
}

func (n *news) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	n.more.Broadcast()
}

// notify tells the volumes the news until the store is closed.
func (s *Store) notify() {
	for {
		items := s.news.take()
		if items == nil {
			return
		}
		for _, item := range items {
			if s.isClosed() {
				return
			}
			s.tell(item)
		}
	}
}

func (s *Store) isClosed() bool {
	select {
	case <-s.quit:
		return true
	default:
		return false
	}
}

func (s *Store) tell(item any) {
	switch item := item.(type) {
	case spot:
		s.mu.Lock()
		onEvict := item.v.onEvict
		// It may have come back meanwhile; then the owner never lost it.
		if item.v.held(item.piece) {
			onEvict = nil
		}
		s.mu.Unlock()
		if onEvict != nil {
			onEvict(int(item.piece))
		}
	case found:
		s.mu.Lock()
		onFound := item.v.onFound
		if !item.v.held(item.piece) {
			onFound = nil
		}
		s.mu.Unlock()
		if onFound != nil {
			onFound(int(item.piece))
		}
	case copied:
		s.mu.Lock()
		onFound := item.v.onFound
		s.mu.Unlock()
		if onFound != nil {
			onFound(int(item.piece))
		}
	case interface{ tell() }: // of other volumes or files
		item.tell()
	case *Volume:
		s.mu.Lock()
		onRoom := item.onRoom
		s.mu.Unlock()
		if onRoom != nil {
			onRoom()
		}
	}
}
