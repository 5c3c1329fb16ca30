package swarm

import (
	"net/netip"
	"time"
)

// source is where an address came from.
type source uint8

const (
	fromUser source = iota
	fromTracker
	fromLSD
	fromDHT
	fromPEX
	fromIncoming
)

// candidates are the addresses that a torrent may connect to. It is pure; the
// loop owns it.
type candidates struct {
	max   int // connections wanted
	list  []*candidate
	known map[netip.AddrPort]*candidate
	bans  banList
	busy  int // being dialled, or connected to
}

type candidate struct {
	addr   netip.AddrPort
	source source
	next   time.Time // not to be dialled before
	tried  time.Time // last
	fails  int
	busy   bool
	self   bool // it is us
}

const (
	maxCandidates = 2000 // of one torrent; a swarm with more gives us enough
	maxBans       = 10000
	firstRetry    = 2 * time.Second
	maxRetry      = 10 * time.Minute
	// An address that somebody else gave us is dialled no more often, so that
	// nobody can make us a weapon against it.
	strangerRetry = 30 * time.Second
)

func (c *candidates) init(limit int) {
	c.max = limit
	c.known = map[netip.AddrPort]*candidate{}
	c.bans = banList{}
}

func (c *candidates) add(now time.Time, addrs []netip.AddrPort, src source) {
	for _, a := range addrs {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if k := c.known[a]; k != nil {
			if src == fromTracker && !k.busy && !k.self && k.fails > 0 {
				// It is said to be alive: try soon, but not in a loop.
				k.next = minTime(k.next, now.Add(strangerRetry))
			}
			continue
		}
		if !a.IsValid() || a.Port() == 0 || c.bans.has(a) || len(c.list) >= maxCandidates {
			continue
		}
		k := &candidate{addr: a, source: src, next: now}
		c.known[a] = k
		c.list = append(c.list, k)
	}
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// While a read waits and nobody is connected, no address rests for longer.
const eagerRetry = 10 * time.Second

// pick returns the next address to dial, or none. It is eager while a read waits
// and nobody is connected.
func (c *candidates) pick(now time.Time, eager bool) (netip.AddrPort, bool) {
	if c.busy >= c.max {
		return netip.AddrPort{}, false
	}
	var best *candidate
	for _, k := range c.list {
		due := k.next
		if eager {
			due = minTime(due, k.tried.Add(eagerRetry))
		}
		if k.busy || k.self || now.Before(due) || c.bans.has(k.addr) {
			continue
		}
		if best == nil || k.source < best.source || k.source == best.source && k.fails < best.fails {
			best = k
		}
	}
	if best == nil {
		return netip.AddrPort{}, false
	}
	best.busy = true
	best.tried = now
	c.busy++
	return best.addr, true
}

// failed says that dialling, or the handshake, did not work.
func (c *candidates) failed(now time.Time, addr netip.AddrPort, self bool) {
	k := c.known[addr]
	if k == nil {
		return
	}
	c.free(k)
	k.self = self
	k.fails++
	retry := firstRetry << min(k.fails-1, 12)
	if k.source != fromUser {
		retry = max(retry, strangerRetry)
	}
	k.next = now.Add(min(retry, maxRetry))
}

// closed says that a connection has ended; one that we dialled may be dialled again.
func (c *candidates) closed(now time.Time, addr netip.AddrPort, dialled bool) {
	if k := c.known[addr]; k != nil && dialled {
		c.free(k)
		k.fails = 1
		k.next = now.Add(firstRetry)
		if k.source != fromUser {
			k.next = now.Add(strangerRetry)
		}
	}
}

func (c *candidates) free(k *candidate) {
	if k.busy {
		k.busy = false
		c.busy--
	}
}

func (c *candidates) ban(a netip.AddrPort) { c.bans.add(a) }

// banList are the addresses of those who sent us bad data. On loopback, where
// one address is many programs, the port counts too.
type banList map[netip.AddrPort]bool

func banKey(a netip.AddrPort) netip.AddrPort {
	ip := a.Addr().Unmap()
	if ip.IsLoopback() {
		return netip.AddrPortFrom(ip, a.Port())
	}
	return netip.AddrPortFrom(ip, 0)
}

func (b banList) has(a netip.AddrPort) bool { return b[banKey(a)] }

func (b banList) add(a netip.AddrPort) {
	if len(b) < maxBans {
		b[banKey(a)] = true
	}
}
