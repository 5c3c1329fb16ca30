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

var sourceNames = [...]string{
	fromUser: "user", fromTracker: "tracker", fromLSD: "lsd", fromDHT: "dht", fromPEX: "pex", fromIncoming: "incoming",
}

// String returns the name that the status shows.
func (s source) String() string { return sourceNames[s] }

// candidates are the addresses that a torrent may connect to. It is pure; the
// loop owns it.
type candidates struct {
	max   int // connections wanted
	list  []*candidate
	known map[netip.AddrPort]*candidate
	bans  banList
	busy  int // being dialled, or connected to
	pex   int // of list, heard of from peers first
	from  map[netip.Addr]int
	self  netip.AddrPort // where we are, as far as is known

	complete bool // we lack nothing: seeds are of no use
}

type candidate struct {
	addr   netip.AddrPort
	source source
	next   time.Time // not to be dialled before
	tried  time.Time // last
	fails  int
	busy   bool
	self   bool // it is us
	met    int  // connections that it began with us
	seed   bool // it had all when we had all
	worked bool // it was connected once
	rank   uint32
}

const (
	maxCandidates = 2000 // of one torrent; a swarm with more gives us enough
	maxBans       = 10000
	firstRetry    = 2 * time.Second
	maxRetry      = 10 * time.Minute
	// An address that somebody else gave us is dialled no more often, so that
	// nobody can make us a weapon against it.
	strangerRetry = 30 * time.Second
	// What is only heard of from peers may be anybody's address: it is tried
	// seldom until it has once shown that it is a peer, there are few of one host,
	// and they leave room for those of better sources.
	hearsayRetry = 10 * time.Minute
	maxHearsay   = maxCandidates / 2
	maxOfHost    = 4
)

func (c *candidates) init(limit int) {
	c.max = limit
	c.known = map[netip.AddrPort]*candidate{}
	c.from = map[netip.Addr]int{}
	c.bans = banList{}
}

func (c *candidates) add(now time.Time, addrs []netip.AddrPort, src source) {
	for _, a := range addrs {
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if k := c.known[a]; k != nil {
			c.promote(k, src)
			if src == fromTracker && !k.busy && !k.self && k.fails > 0 {
				// It is said to be alive: try soon, but not in a loop.
				k.next = minTime(k.next, now.Add(strangerRetry))
			}
			continue
		}
		if !a.IsValid() || a.Port() == 0 || c.bans.has(a) || len(c.list) >= maxCandidates {
			continue
		}
		if src == fromPEX && (c.pex >= maxHearsay || c.from[a.Addr()] >= maxOfHost && !a.Addr().IsLoopback()) {
			continue
		}
		c.insert(&candidate{addr: a, source: src, next: now})
	}
}

func (c *candidates) insert(k *candidate) {
	k.rank = peerPriority(c.self, k.addr)
	if k.source == fromPEX {
		c.pex++
	}
	c.from[k.addr.Addr()]++
	c.known[k.addr] = k
	c.list = append(c.list, k)
}

// promote takes note of a source that is better than what was known.
func (c *candidates) promote(k *candidate, src source) {
	if src >= k.source {
		return
	}
	if k.source == fromPEX {
		c.pex--
	}
	k.source = src
}

// locate says where we are. It costs a look at every address.
func (c *candidates) locate(self netip.AddrPort) {
	if self == c.self {
		return
	}
	c.self = self
	for _, k := range c.list {
		k.rank = peerPriority(self, k.addr)
	}
}

// meet says that somebody who listens at an address has connected to us, and need
// not be dialled until parted.
func (c *candidates) meet(now time.Time, a netip.AddrPort) {
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	k := c.known[a]
	if k == nil {
		if len(c.list) >= maxCandidates {
			return
		}
		k = &candidate{addr: a, source: fromIncoming, next: now}
		c.insert(k)
	}
	k.met++
}

// part takes meet back.
func (c *candidates) part(now time.Time, a netip.AddrPort) {
	a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	if k := c.known[a]; k != nil && k.met > 0 {
		k.met--
		k.next = now.Add(strangerRetry)
	}
}

// sourceOf returns how we came to an address.
func (c *candidates) sourceOf(a netip.AddrPort) source {
	if k := c.known[netip.AddrPortFrom(a.Addr().Unmap(), a.Port())]; k != nil {
		return k.source
	}
	return fromIncoming
}

// redundant says that a peer has all that we have: it is of use when we lack
// something again.
func (c *candidates) redundant(a netip.AddrPort) {
	if k := c.known[netip.AddrPortFrom(a.Addr().Unmap(), a.Port())]; k != nil {
		k.seed = true
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
		if eager && !k.hearsay() {
			due = minTime(due, k.tried.Add(eagerRetry))
		}
		if k.busy || k.self || k.met > 0 || k.seed && c.complete || now.Before(due) || c.bans.has(k.addr) {
			continue
		}
		if best == nil || k.before(best) {
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

// before says which of two comes first.
func (k *candidate) before(o *candidate) bool {
	switch {
	case k.source != o.source:
		return k.source < o.source
	case k.fails != o.fails:
		return k.fails < o.fails
	}
	return k.rank > o.rank
}

// hearsay says that nobody but other peers has said that there is a peer.
func (k *candidate) hearsay() bool { return k.source == fromPEX && !k.worked }

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
	if k.hearsay() {
		retry = hearsayRetry
	}
	k.next = now.Add(min(retry, maxRetry))
}

// closed says that a connection has ended; one that we dialled may be dialled again.
func (c *candidates) closed(now time.Time, addr netip.AddrPort, dialled bool) {
	if k := c.known[addr]; k != nil && dialled {
		c.free(k)
		k.fails = 1
		k.worked = true
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
