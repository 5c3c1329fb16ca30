package wire

import (
	"github.com/anacrolix/torrent/bencode"

	"swarmfs/swarm/bencoding"
)

// Bounds on a dictionary of a peer. The extension protocol nests two deep and
// says some dozens of things; what goes far beyond is an attack on the stack,
// the memory or the processor.
const maxDictBytes = 64 << 10

var dictBounds = bencoding.Bounds{Depth: 8, Tokens: 4096}

type dict bencoding.Dict

// parseDict decodes the dictionary at the start of p and returns how many
// bytes it takes. What follows it is not looked at.
func parseDict(p []byte) (dict, int, error) {
	if len(p) == 0 || p[0] != 'd' {
		return nil, 0, breach("extension payload is not a dictionary")
	}
	d, n, err := dictBounds.Dict(p[:min(len(p), maxDictBytes)])
	if err != nil {
		return nil, 0, breach("extension dictionary: %v", err)
	}
	return dict(d), n, nil
}

// number returns the number under key, or 0 when it is missing, not a number,
// or outside of [0, limit].
func (d dict) number(key string, limit int64) int64 {
	var v int64
	if raw, ok := d[key]; !ok || dictBounds.Decode(raw, &v) != nil || v < 0 || v > limit {
		return 0
	}
	return v
}

// bytes returns the string under key, or nil when it is missing or no string.
func (d dict) bytes(key string) []byte {
	var v []byte
	if raw, ok := d[key]; !ok || dictBounds.Decode(raw, &v) != nil {
		return nil
	}
	return v
}

// marshal encodes v, which is one of this package's own dictionaries.
func marshal(v any) []byte {
	p, err := bencode.Marshal(v)
	if err != nil {
		panic("wire: marshal: " + err.Error())
	}
	return p
}
