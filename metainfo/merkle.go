package metainfo

import (
	"bytes"
	"crypto/sha256"
)

// Merkle trees of BEP 52: leaves are the SHA-256 of 16 KiB blocks, a node is
// the SHA-256 of its two children, missing leaves are 32 zero bytes. A piece
// layer is the row of nodes that each cover one piece.

// layerRoot returns the root over a row of nodes, 32 bytes each and at least
// one, of which the missing ones up to a power of two are pad. The padding is
// never laid out: a pair of pads is the pad of the row above.
func layerRoot(row []byte, pad Hash2) Hash2 {
	nodes := append(make([]byte, 0, len(row)+sha256.Size), row...)
	for len(nodes) > sha256.Size {
		if len(nodes)%(2*sha256.Size) != 0 {
			nodes = append(nodes, pad[:]...)
		}
		for k := 0; k < len(nodes); k += 2 * sha256.Size {
			h := sha256.Sum256(nodes[k : k+2*sha256.Size])
			copy(nodes[k/2:], h[:]) // behind what is still to be read
		}
		nodes = nodes[:len(nodes)/2]
		pad = parent(pad, pad)
	}
	return Hash2(nodes)
}

// piecePad returns the node that stands for a piece without bytes.
func piecePad(pieceLength int64) (pad Hash2) {
	for n := int64(BlockSize); n < pieceLength; n *= 2 {
		pad = parent(pad, pad)
	}
	return pad
}

func parent(left, right Hash2) Hash2 {
	return sha256.Sum256(bytes.Join([][]byte{left[:], right[:]}, nil))
}
