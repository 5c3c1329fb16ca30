package wire

import (
	"crypto/sha1"
	"encoding/binary"
	"slices"
)

// AllowedFastSet returns the k pieces, out of numPieces, that the peer at ip
// may request while it is choked, in the canonical order of BEP 6; all pieces
// if there are no more than k. Only the first three bytes of ip count, so that
// a peer gains nothing by coming from several addresses of one network.
func AllowedFastSet(ip [4]byte, infoHash [20]byte, numPieces, k int) []uint32 {
	k = min(k, numPieces)
	if k <= 0 {
		return nil
	}
	seed := append([]byte{ip[0], ip[1], ip[2], 0}, infoHash[:]...)
	set := make([]uint32, 0, k)
	for x := sha1.Sum(seed); ; x = sha1.Sum(x[:]) {
		for i := 0; i < len(x); i += 4 {
			index := binary.BigEndian.Uint32(x[i:]) % uint32(numPieces)
			if slices.Contains(set, index) {
				continue
			}
			if set = append(set, index); len(set) == k {
				return set
			}
		}
	}
}
