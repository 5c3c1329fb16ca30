package tracker

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/anacrolix/torrent/bencode"
)

// Bounds on the dictionary of an answer, besides the length of its body.
const (
	maxDepth     = 8       // dictionary, list of peers, peer: 3 are in use
	maxTokens    = 1 << 18 // 2 MiB of peers as dictionaries
	maxIntDigits = 20      // of an int64, with its sign
)

// dict is a dictionary whose values are still encoded, so that one value of a
// wrong type costs that value and not the rest.
type dict map[string]bencode.Bytes

// parseDict decodes the dictionary at the start of p. What follows it is
// ignored: some trackers end their answer with a line feed.
func parseDict(p []byte) (dict, error) {
	if len(p) == 0 || p[0] != 'd' {
		return nil, errNotDict
	}
	n, err := scan(p)
	if err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	var d dict
	if err := decode(p[:n], &d); err != nil {
		return nil, errNotDict
	}
	return d, nil
}

// decode reads one bencoded value into v, a pointer. The library panics on
// input that its authors did not foresee; here that is the tracker's fault.
func decode(p []byte, v any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decode bencoding: %v", r)
		}
	}()
	dec := bencode.NewDecoder(bytes.NewReader(p))
	dec.MaxDepth = maxDepth
	dec.MaxStrLen = int64(len(p)) + 1 // 0 would mean the library's 128 MiB
	return dec.Decode(v)
}

// number returns the number under key, and whether there is one.
func (d dict) number(key string) (n int64, ok bool) {
	raw, ok := d[key]
	if !ok || decode(raw, &n) != nil {
		return 0, false
	}
	return n, true
}

// bytes returns the string under key, and whether there is one.
func (d dict) bytes(key string) (p []byte, ok bool) {
	raw, ok := d[key]
	if !ok || decode(raw, &p) != nil {
		return nil, false
	}
	return p, true
}

// eachDict calls yield for the dictionaries in the list raw, which has been
// scanned, until it returns false. One at a time: the list is as long as the
// tracker likes.
func eachDict(raw []byte, yield func(dict) bool) {
	if len(raw) == 0 || raw[0] != 'l' {
		return
	}
	for raw = raw[1:]; len(raw) > 0 && raw[0] != 'e'; {
		n, err := scan(raw)
		if err != nil {
			return
		}
		var d dict
		if raw[0] == 'd' && decode(raw[:n], &d) == nil && !yield(d) {
			return
		}
		raw = raw[n:]
	}
}

var (
	errCut    = errors.New("bencoding is cut")
	errDepth  = errors.New("bencoding is nested too deeply")
	errTokens = errors.New("bencoding has too many values")
	errSyntax = errors.New("bencoding is malformed")
)

// scan returns the length of the bencoded value at the start of p without
// decoding it: the bounds hold before anything is allocated. It accepts more
// than bencoding (keys that are no strings, an odd number of values): the
// decoder refuses these.
func scan(p []byte) (n int, err error) {
	depth := 0
	for tokens := 0; ; {
		if n >= len(p) {
			return 0, errCut
		}
		if tokens++; tokens > maxTokens {
			return 0, errTokens
		}
		switch c := p[n]; {
		case c == 'd' || c == 'l':
			if depth++; depth > maxDepth {
				return 0, errDepth
			}
			n++
		case c == 'e' && depth > 0:
			depth--
			n++
		case c == 'i':
			end := bytes.IndexByte(p[n:min(len(p), n+maxIntDigits+2)], 'e')
			if end < 2 {
				return 0, errSyntax
			}
			n += end + 1
		case c >= '0' && c <= '9':
			length := 0
			for ; n < len(p) && p[n] >= '0' && p[n] <= '9'; n++ {
				// No string is longer than p, so length never overflows.
				if length = length*10 + int(p[n]-'0'); length > len(p) {
					return 0, errCut
				}
			}
			if n >= len(p) || p[n] != ':' {
				return 0, errSyntax
			}
			if n++; length > len(p)-n {
				return 0, errCut
			}
			n += length
		default:
			return 0, errSyntax
		}
		if depth == 0 {
			return n, nil
		}
	}
}
