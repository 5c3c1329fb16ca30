package swarm

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// peerPriority is how much a connection between two addresses is preferred
// (BEP 40): the same seen from both ends, and chance otherwise, so that the
// connections of a swarm spread evenly and nobody can choose to be preferred.
// Addresses of different families have none.
func peerPriority(a, b netip.AddrPort) uint32 {
	x, y := a.Addr().Unmap(), b.Addr().Unmap()
	var p, q []byte
	switch {
	case x.BitLen() != y.BitLen():
		return 0
	case x == y:
		p, q = binary.BigEndian.AppendUint16(nil, a.Port()), binary.BigEndian.AppendUint16(nil, b.Port())
	default:
		p, q = x.AsSlice(), y.AsSlice()
		mask(p, q)
	}
	if bytes.Compare(p, q) > 0 {
		p, q = q, p
	}
	return crc32.Update(crc32.Checksum(p, castagnoli), castagnoli, q)
}

// mask hides half of the bits of two addresses behind the network that a
// subscriber, or a provider, has: of IPv4 two bytes at least stay whole, of IPv6
// six; for every byte more that is the same one more stays.
func mask(p, q []byte) {
	whole, longest := 2, 4
	if len(p) == 16 {
		whole, longest = 6, 8
	}
	for whole < longest && bytes.Equal(p[:whole], q[:whole]) {
		whole++
	}
	for i := whole; i < len(p); i++ {
		p[i] &= 0x55
		q[i] &= 0x55
	}
}
