package swarm

import (
	"net/netip"
	"sync"
)

// manner is a way to begin a connection.
type manner uint8

const (
	encryptedManner manner = iota
	plainManner
)

// manners remembers by which way a peer could be talked to, where it was not the
// first that is tried. It is safe for concurrent use.
type manners struct {
	mu    sync.Mutex
	plain map[netip.AddrPort]bool
}

// Peers whose way is remembered, at most; beyond it all are forgotten, which
// costs a dial each.
const maxManners = 10000

// of returns the ways to try with a peer, in that order.
func (m *manners) of(a netip.AddrPort, e Encryption) []manner {
	switch e {
	case EncryptionRequire:
		return []manner{encryptedManner}
	case EncryptionOff:
		return []manner{plainManner}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.plain[a] {
		return []manner{plainManner, encryptedManner}
	}
	return []manner{encryptedManner, plainManner}
}

// learn remembers the way that worked.
func (m *manners) learn(a netip.AddrPort, w manner) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w != plainManner {
		delete(m.plain, a)
		return
	}
	if m.plain == nil || len(m.plain) >= maxManners {
		m.plain = map[netip.AddrPort]bool{}
	}
	m.plain[a] = true
}
