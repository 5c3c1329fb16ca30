package dht

import (
	"net/netip"
	"time"
)

// sources count what single senders ask of us. It is pure: time comes in. The
// zero value is ready.
type sources struct {
	list map[netip.AddrPort]allowance
}

type allowance struct {
	left float64 // queries
	at   time.Time
}

const (
	// One node asks us a few questions a minute; libtorrent ignores whoever asks
	// more than 5 a second (dht_block_ratelimit).
	sourceRate, sourceBurst = 5, 40
	maxSources              = 4096
)

// allow says whether a sender may ask one more question. Senders with addresses
// without end are held up by the limit for all of them together.
func (s *sources) allow(now time.Time, from netip.AddrPort) bool {
	key := sourceKey(from)
	a, known := s.list[key]
	if !known {
		if s.list == nil || len(s.list) >= maxSources {
			s.list = map[netip.AddrPort]allowance{}
		}
		a = allowance{sourceBurst, now}
	}
	a.left = min(sourceBurst, a.left+sourceRate*max(0, now.Sub(a.at).Seconds()))
	a.at = now
	ok := a.left >= 1
	if ok {
		a.left--
	}
	s.list[key] = a
	return ok
}

// sourceKey is who counts as one sender: an address, a network of one subscriber,
// and on this machine a program.
func sourceKey(a netip.AddrPort) netip.AddrPort {
	ip := a.Addr()
	switch {
	case ip.IsLoopback():
		return a
	case ip.Is6():
		if p, err := ip.Prefix(64); err == nil {
			ip = p.Addr()
		}
	}
	return netip.AddrPortFrom(ip, 0)
}
