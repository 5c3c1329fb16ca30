package bencoding

import (
	"bytes"
	"errors"

	"github.com/anacrolix/torrent/bencode"
)

// Bounds say how much a value may hold.
type Bounds struct {
	Depth  int // of dictionaries and lists in each other: the library recurses
	Tokens int // values, keys and ends: time and memory grow with them
}

// Errors of Length and Decode.
var (
	ErrCut    = errors.New("bencoding is cut")
	ErrDepth  = errors.New("bencoding is nested too deeply")
	ErrTokens = errors.New("bencoding has too many values")
	ErrSyntax = errors.New("bencoding is malformed") // or of another type
)

const maxIntDigits = 20 // of an int64, with its sign

// Length returns how long the bencoded value at the start of p is, without
// decoding it: it neither allocates nor recurses. It accepts more than bencoding
// (keys that are no strings, an odd number of values): Decode refuses these.
func (b Bounds) Length(p []byte) (n int, err error) {
	depth := 0
	for tokens := 0; ; {
		if n >= len(p) {
			return 0, ErrCut
		}
		if tokens++; tokens > b.Tokens {
			return 0, ErrTokens
		}
		switch c := p[n]; {
		case c == 'd' || c == 'l':
			if depth++; depth > b.Depth {
				return 0, ErrDepth
			}
			n++
		case c == 'e' && depth > 0:
			depth--
			n++
		case c == 'i':
			end := bytes.IndexByte(p[n:min(len(p), n+maxIntDigits+2)], 'e')
			if end < 2 {
				return 0, ErrSyntax
			}
			n += end + 1
		case c >= '0' && c <= '9':
			length := 0
			for ; n < len(p) && p[n] >= '0' && p[n] <= '9'; n++ {
				// No string is longer than p, so length never overflows.
				if length = length*10 + int(p[n]-'0'); length > len(p) {
					return 0, ErrCut
				}
			}
			if n >= len(p) || p[n] != ':' {
				return 0, ErrSyntax
			}
			if n++; length > len(p)-n {
				return 0, ErrCut
			}
			n += length
		default:
			return 0, ErrSyntax
		}
		if depth == 0 {
			return n, nil
		}
	}
}

// Dict is a dictionary whose values are still encoded.
type Dict map[string]bencode.Bytes

// Dict decodes the dictionary at the start of p, and returns how many bytes it
// takes. What follows it is not looked at.
func (b Bounds) Dict(p []byte) (d Dict, n int, err error) {
	if len(p) == 0 || p[0] != 'd' {
		return nil, 0, ErrSyntax
	}
	if n, err = b.Length(p); err != nil {
		return nil, 0, err
	}
	if err := b.decode(p[:n], &d); err != nil {
		return nil, 0, err
	}
	return d, n, nil
}

// Decode reads the value at the start of p into v, a pointer.
func (b Bounds) Decode(p []byte, v any) error {
	n, err := b.Length(p)
	if err != nil {
		return err
	}
	return b.decode(p[:n], v)
}

// decode is for what was measured. The library panics on input that its authors
// did not foresee; here that is the sender's fault.
func (b Bounds) decode(p []byte, v any) (err error) {
	defer func() {
		if recover() != nil {
			err = ErrSyntax
		}
	}()
	dec := bencode.NewDecoder(bytes.NewReader(p))
	dec.MaxDepth = b.Depth
	dec.MaxStrLen = int64(len(p)) + 1 // 0 would mean the library's 128 MiB
	if dec.Decode(v) != nil {
		return ErrSyntax // the library's own words may hold the sender's
	}
	return nil
}

// Each calls yield for the values in the list raw, still encoded, until it
// returns false or the list ends, well or not. One at a time: the list is as long
// as its sender likes.
func (b Bounds) Each(raw []byte, yield func(value []byte) bool) {
	if len(raw) == 0 || raw[0] != 'l' {
		return
	}
	for raw = raw[1:]; len(raw) > 0 && raw[0] != 'e'; {
		n, err := b.Length(raw)
		if err != nil || !yield(raw[:n]) {
			return
		}
		raw = raw[n:]
	}
}
