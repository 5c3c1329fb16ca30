package wire

import (
	"encoding/binary"
	"io"
)

// HandshakeLen is the length of a handshake, in bytes.
const HandshakeLen = 68

// protocol is what every handshake starts with: a length and a name (BEP 3).
const protocol = "\x13BitTorrent protocol"

// Feature is a set of the reserved bits of the handshake, read as one
// big-endian number.
type Feature uint64

// The reserved bits in use.
const (
	FeatureDHT      Feature = 1 << 0  // BEP 5: port messages
	FeatureFast     Feature = 1 << 2  // BEP 6: the fast extension
	FeatureV2       Feature = 1 << 4  // BEP 52: this v1 peer can go on as v2
	FeatureExtended Feature = 1 << 20 // BEP 10: extended messages
)

// Handshake is the first thing that each side of a connection sends (BEP 3).
type Handshake struct {
	Reserved [8]byte
	InfoHash [20]byte
	PeerID   [20]byte
}

// Has reports whether all features in f are announced.
func (h *Handshake) Has(f Feature) bool {
	return Feature(binary.BigEndian.Uint64(h.Reserved[:]))&f == f
}

// Set announces the features in f besides those already there.
func (h *Handshake) Set(f Feature) {
	f |= Feature(binary.BigEndian.Uint64(h.Reserved[:]))
	binary.BigEndian.PutUint64(h.Reserved[:], uint64(f))
}

// AppendHandshake appends the HandshakeLen bytes of h.
func AppendHandshake(dst []byte, h Handshake) []byte {
	dst = append(dst, protocol...)
	dst = append(dst, h.Reserved[:]...)
	dst = append(dst, h.InfoHash[:]...)
	return append(dst, h.PeerID[:]...)
}

// ParseHandshake reads the handshake in the first HandshakeLen bytes of buf.
// As long as they are not all there, the error is io.ErrUnexpectedEOF; a peer
// that speaks something else (an encrypted one, a port scanner) is a
// *ProtocolError at the first byte that differs.
func ParseHandshake(buf []byte) (Handshake, error) {
	for i := range min(len(buf), len(protocol)) {
		if buf[i] != protocol[i] {
			return Handshake{}, breach("not a BitTorrent handshake (byte %d is %#02x)", i, buf[i])
		}
	}
	if len(buf) < HandshakeLen {
		return Handshake{}, io.ErrUnexpectedEOF
	}
	var h Handshake
	rest := buf[len(protocol):]
	copy(h.Reserved[:], rest)
	copy(h.InfoHash[:], rest[8:])
	copy(h.PeerID[:], rest[28:])
	return h, nil
}
