package metainfo

import (
	"encoding/base32"
	"encoding/hex"
	"strings"
)

// Hash is a v1 infohash: the SHA-1 of the info dictionary as it stands (BEP 3).
type Hash [20]byte

// String returns 40 lower-case hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h is unset.
func (h Hash) IsZero() bool { return h == Hash{} }

// Hash2 is a v2 infohash: the SHA-256 of the info dictionary (BEP 52).
type Hash2 [32]byte

// String returns 64 lower-case hex digits.
func (h Hash2) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h is unset.
func (h Hash2) IsZero() bool { return h == Hash2{} }

// ParseHash reads a v1 infohash written as 40 hex digits or 32 base32 letters,
// in either case. The error is an *InputError.
func ParseHash(s string) (Hash, error) {
	h, err := parseHash(s)
	return h, inputError(opHash, err)
}

func parseHash(s string) (h Hash, err error) {
	var b []byte
	switch len(s) {
	case 40:
		b, err = hex.DecodeString(s)
	case 32:
		b, err = base32.StdEncoding.DecodeString(strings.ToUpper(s))
	default:
		return h, badf("%s is not an infohash: it has %d characters, not 40 (hex) or 32 (base32)", quote(s), len(s))
	}
	if err != nil || len(b) != len(h) {
		return h, badf("%s is not an infohash: some characters are neither hex nor base32", quote(s))
	}
	return Hash(b), nil
}

// parseHash2 reads the multihash of an urn:btmh: 0x12 (SHA-256), 0x20 (its
// length), then the hash, all in hex.
func parseHash2(s string) (h Hash2, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 2+len(h) || b[0] != 0x12 || b[1] != 0x20 {
		return h, badf("%s is not a v2 infohash: it must be 1220 and 64 hex digits", quote(s))
	}
	return Hash2(b[2:]), nil
}
