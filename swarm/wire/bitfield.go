package wire

import (
	"encoding/binary"
	"math/bits"
)

// BitfieldLen returns how many bytes a bitfield of n pieces takes.
func BitfieldLen(n int) int { return int((int64(n) + 7) / 8) }

// AppendBitfield appends the payload of a Bitfield message for n pieces: piece
// i is bit i%64 of words[i/64] here, and bit 7-i%8 of byte i/8 on the wire
// (BEP 3). Bits of words from n on are not sent. It panics if words has fewer
// than n bits.
func AppendBitfield(dst []byte, words []uint64, n int) []byte {
	for ; n > 64; n -= 64 {
		dst = binary.BigEndian.AppendUint64(dst, bits.Reverse64(words[0]))
		words = words[1:]
	}
	if n <= 0 {
		return dst
	}
	last := bits.Reverse64(words[0] & (^uint64(0) >> (64 - n)))
	var buf [8]byte
	binary.BigEndian.PutUint64(buf[:], last)
	return append(dst, buf[:BitfieldLen(n)]...)
}

// ParseBitfield writes the payload of a Bitfield message for n pieces into the
// first (n+63)/64 words, all of them, by the order that AppendBitfield
// documents. A wrong length, or a spare bit at the end that is set, is a
// *ProtocolError (BEP 3) and leaves words as they were. It panics if words has
// fewer than n bits.
func ParseBitfield(data []byte, n int, words []uint64) error {
	if len(data) != BitfieldLen(n) {
		return breach("bitfield of %d bytes for %d pieces", len(data), n)
	}
	if n%8 != 0 && data[len(data)-1]<<(n%8) != 0 {
		return breach("bitfield with a spare bit set")
	}
	words = words[:(n+63)/64]
	for i := range words {
		if len(data) >= 8 {
			words[i] = bits.Reverse64(binary.BigEndian.Uint64(data))
			data = data[8:]
			continue
		}
		var last [8]byte
		copy(last[:], data)
		words[i] = bits.Reverse64(binary.BigEndian.Uint64(last[:]))
	}
	return nil
}
