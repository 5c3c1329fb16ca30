package lsd

import "time"

const (
	// announceEvery is how often a torrent is announced (BEP 14).
	announceEvery = 5 * time.Minute
	// packetEvery is how often anything is: torrents that are due share packets.
	packetEvery = time.Second
)

// schedule says which torrents are announced when. It is pure.
type schedule struct {
	list []*entry // in the order of joining
	last time.Time
}

// entry is one search.
type entry struct {
	hash  [20]byte
	due   time.Time
	heard chan heard // of those who have the torrent; full: they are heard again
}

func (s *schedule) join(e *entry) { s.list = append(s.list, e) }

func (s *schedule) leave(e *entry) {
	for i := range s.list {
		if s.list[i] == e {
			s.list = append(s.list[:i], s.list[i+1:]...)
			return
		}
	}
}

// next returns what one packet is to announce now, taken as done, and when to ask
// again; the zero time: when somebody joins.
func (s *schedule) next(now time.Time) (hashes [][20]byte, wake time.Time) {
	if at := s.last.Add(packetEvery); now.Before(at) {
		return nil, at
	}
	for _, e := range s.list {
		if len(hashes) < maxHashes && !now.Before(e.due) {
			e.due = now.Add(announceEvery)
			hashes = append(hashes, e.hash)
		}
		if wake.IsZero() || e.due.Before(wake) {
			wake = e.due
		}
	}
	if len(hashes) > 0 {
		s.last = now
		if at := now.Add(packetEvery); wake.Before(at) {
			wake = at
		}
	}
	return hashes, wake
}

// of returns the searches for a torrent.
func (s *schedule) of(hash [20]byte) (list []*entry) {
	for _, e := range s.list {
		if e.hash == hash {
			list = append(list, e)
		}
	}
	return list
}
