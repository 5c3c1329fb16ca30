package wire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/anacrolix/torrent/bencode"
)

// Bounds on a dictionary of a peer. The extension protocol nests two deep and
// says some dozens of things; what goes far beyond is an attack on the stack,
// the memory or the processor.
const (
	maxDictBytes  = 64 << 10
	maxDictDepth  = 8
	maxDictTokens = 4096
	maxIntDigits  = 20 // of an int64, with its sign
)

// dict is a dictionary whose values are still encoded, so that one value of a
// wrong type costs that value and not the rest.
type dict map[string]bencode.Bytes

// parseDict decodes the dictionary at the start of p and returns how many
// bytes it takes. What follows it is not looked at.
func parseDict(p []byte) (d dict, n int, err error) {
	if len(p) == 0 || p[0] != 'd' {
		return nil, 0, breach("extension payload is not a dictionary")
	}
	n, err = scan(p[:min(len(p), maxDictBytes)])
	if err != nil {
		return nil, 0, breach("extension dictionary: %v", err)
	}
	if err := decode(p[:n], &d); err != nil {
		return nil, 0, breach("extension dictionary is not valid bencoding")
	}
	return d, n, nil
}

// decode reads one bencoded value into v, a pointer. The library panics on
// input that its authors did not foresee; here that is the peer's fault.
func decode(p []byte, v any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decode bencoding: %v", r)
		}
	}()
	dec := bencode.NewDecoder(bytes.NewReader(p))
	dec.MaxDepth = maxDictDepth
	dec.MaxStrLen = int64(len(p)) + 1 // 0 would mean the library's 128 MiB
	return dec.Decode(v)
}

// number returns the number under key, or 0 when it is missing, not a number,
// or outside of [0, limit].
func (d dict) number(key string, limit int64) int64 {
	var v int64
	if raw, ok := d[key]; !ok || decode(raw, &v) != nil || v < 0 || v > limit {
		return 0
	}
	return v
}

// bytes returns the string under key, or nil when it is missing or no string.
func (d dict) bytes(key string) []byte {
	var v []byte
	if raw, ok := d[key]; !ok || decode(raw, &v) != nil {
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

var (
	errScanCut    = errors.New("it is cut, or too long")
	errScanDepth  = errors.New("nested too deeply")
	errScanTokens = errors.New("too many values")
	errScanSyntax = errors.New("bad syntax")
)

// scan returns the length of the bencoded value at the start of p without
// decoding it: the bounds hold before anything is allocated. It accepts more
// than bencoding (keys that are no strings, an odd number of values): the
// decoder refuses these.
func scan(p []byte) (n int, err error) {
	depth := 0
	for tokens := 0; ; {
		if n >= len(p) {
			return 0, errScanCut
		}
		if tokens++; tokens > maxDictTokens {
			return 0, errScanTokens
		}
		switch c := p[n]; {
		case c == 'd' || c == 'l':
			if depth++; depth > maxDictDepth {
				return 0, errScanDepth
			}
			n++
		case c == 'e' && depth > 0:
			depth--
			n++
		case c == 'i':
			end := bytes.IndexByte(p[n:min(len(p), n+maxIntDigits+2)], 'e')
			if end < 2 {
				return 0, errScanSyntax
			}
			n += end + 1
		case c >= '0' && c <= '9':
			length := 0
			for ; n < len(p) && p[n] >= '0' && p[n] <= '9'; n++ {
				// No string is longer than p, so length never overflows.
				if length = length*10 + int(p[n]-'0'); length > len(p) {
					return 0, errScanCut
				}
			}
			if n >= len(p) || p[n] != ':' {
				return 0, errScanSyntax
			}
			if n++; length > len(p)-n {
				return 0, errScanCut
			}
			n += length
		default:
			return 0, errScanSyntax
		}
		if depth == 0 {
			return n, nil
		}
	}
}
