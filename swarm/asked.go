package swarm

import "sync"

// asked is the list of blocks that one connection was asked for and has not
// delivered. The loop adds, the connection's reader takes out: a block that is
// not in it is nobody's, and is thrown away before it touches a draft.
type asked struct {
	mu   sync.Mutex
	keys []uint64
	head int
}

// A cancelled block may still come, so it stays listed until there are so many.
const maxAsked = 2048

func askedKey(piece, begin uint32) uint64 { return uint64(piece)<<32 | uint64(begin) }

func (a *asked) add(piece, begin uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.keys)-a.head >= maxAsked {
		a.head++
	}
	if a.head > 0 && len(a.keys) == cap(a.keys) {
		a.keys, a.head = a.keys[:copy(a.keys, a.keys[a.head:])], 0
	}
	a.keys = append(a.keys, askedKey(piece, begin))
}

// remove takes a block out and reports whether it was there.
func (a *asked) remove(piece, begin uint32) bool {
	k := askedKey(piece, begin)
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := a.head; i < len(a.keys); i++ {
		if a.keys[i] == k {
			copy(a.keys[a.head+1:i+1], a.keys[a.head:i])
			if a.head++; a.head == len(a.keys) {
				a.keys, a.head = a.keys[:0], 0
			}
			return true
		}
	}
	return false
}

// some reports whether a block is still to come.
func (a *asked) some() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.head < len(a.keys)
}
