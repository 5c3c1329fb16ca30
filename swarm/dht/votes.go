package dht

import "net/netip"

// votes are what nodes say our address is, in their answers (BEP 42). It is pure.
// The zero value is ready.
type votes struct {
	of   map[netip.AddrPort]netip.Addr // by who votes
	sums map[netip.Addr]int
}

const (
	// Our id changes with our address, and a few liars should not make it.
	enoughVotes = 10
	maxVotes    = 100 // then they begin anew
)

// add counts one vote a voter, and returns the address that has won, if any.
func (v *votes) add(from netip.AddrPort, says netip.Addr) (netip.Addr, bool) {
	key := sourceKey(from)
	if v.of == nil || len(v.of) >= maxVotes {
		v.of, v.sums = map[netip.AddrPort]netip.Addr{}, map[netip.Addr]int{}
	}
	if _, voted := v.of[key]; voted {
		return netip.Addr{}, false
	}
	v.of[key] = says
	v.sums[says]++
	won := v.sums[says] >= enoughVotes && 3*v.sums[says] > 2*len(v.of)
	return says, won
}
