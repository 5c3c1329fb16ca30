package dht

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// peerStore holds who was announced to us. It is bounded, and forgets: peers
// announce themselves again. It is pure: time comes in. The server's lock guards
// it, as only queries reach it.
type peerStore struct {
	id    [20]byte // ours: what is far from it is others' business
	peers map[[20]byte][]announced
}

type announced struct {
	addr netip.AddrPort
	at   time.Time
}

const (
	// libtorrent keeps 2000 torrents of 500 peers (dht_max_torrents,
	// dht_max_peers); a hundred are enough to begin with. 16 MB at most.
	maxStoredHashes = 2000
	maxStoredPeers  = 100
	// Peers announce themselves every 15 to 30 minutes.
	storedFor = 35 * time.Minute
	// What one reply holds: more than this does not fit in one frame.
	maxReplyPeers = 40
)

func newPeerStore(id [20]byte) peerStore {
	return peerStore{id: id, peers: map[[20]byte][]announced{}}
}

// add notes a peer.
func (s *peerStore) add(now time.Time, hash [20]byte, addr netip.AddrPort) {
	if !reachable(addr) {
		return
	}
	list, known := s.peers[hash]
	if !known && len(s.peers) >= maxStoredHashes && !s.makeRoom(now, hash) {
		return
	}
	oldest := 0
	for i := range list {
		if list[i].addr == addr {
			list[i].at = now
			return
		}
		if list[i].at.Before(list[oldest].at) {
			oldest = i
		}
	}
	if len(list) >= maxStoredPeers {
		list[oldest] = announced{addr, now}
		return
	}
	s.peers[hash] = append(list, announced{addr, now})
}

// makeRoom drops what has expired, else the hash that is farthest from us if it
// is farther than the new one. The lock is held.
func (s *peerStore) makeRoom(now time.Time, hash [20]byte) bool {
	farthest := hash
	for h := range s.peers {
		if len(s.fresh(now, h)) > 0 && compareDistance(s.id, farthest, h) < 0 {
			farthest = h
		}
	}
	if len(s.peers) < maxStoredHashes {
		return true
	}
	if farthest == hash {
		return false
	}
	delete(s.peers, farthest)
	return true
}

// fresh drops the expired peers of a hash and returns the others.
func (s *peerStore) fresh(now time.Time, hash [20]byte) []announced {
	list := s.peers[hash]
	keep := list[:0]
	for _, p := range list {
		if now.Sub(p.at) < storedFor {
			keep = append(keep, p)
		}
	}
	if len(keep) == 0 {
		delete(s.peers, hash)
		return nil
	}
	s.peers[hash] = keep
	return keep
}

// some returns some of the peers, by chance, so that all of them get to be known.
func (s *peerStore) some(now time.Time, hash [20]byte) []netip.AddrPort {
	list := s.fresh(now, hash)
	out := make([]netip.AddrPort, 0, min(len(list), maxReplyPeers))
	for _, i := range rand.Perm(len(list))[:min(len(list), maxReplyPeers)] {
		out = append(out, list[i].addr)
	}
	return out
}
