package metainfo

import (
	"fmt"
	"iter"
	"slices"
	"strconv"

	"github.com/anacrolix/torrent/bencode"
)

// A value is one bencoded value inside bytes that scan has passed. Walking it
// copies nothing: that is what makes a list of 20,000 files cheap, and the
// hashes exact, since they are of the bytes as they stand. The zero value is
// an absent one.
//
// It must only be made from scanned bytes; it does not check syntax again.
type value []byte

func (v value) isList() bool { return len(v) > 0 && v[0] == 'l' }
func (v value) isDict() bool { return len(v) > 0 && v[0] == 'd' }

// str returns the bytes of a string, aliasing the input.
func (v value) str() ([]byte, bool) {
	if len(v) == 0 || v[0] < '0' || v[0] > '9' {
		return nil, false
	}
	return v[colon(v)+1:], true
}

// integer returns an integer that fits an int64.
func (v value) integer() (int64, bool) {
	if len(v) < 3 || v[0] != 'i' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(v[1:len(v)-1]), 10, 64)
	return n, err == nil
}

// list yields the elements of a list; none for anything else.
func (v value) list() iter.Seq[value] {
	return func(yield func(value) bool) {
		if !v.isList() {
			return
		}
		for rest := v[1:]; rest[0] != 'e'; {
			n := span(rest)
			if !yield(rest[:n:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

// dict yields the pairs of a dictionary as they stand; none for anything else.
func (v value) dict() iter.Seq2[[]byte, value] {
	return func(yield func([]byte, value) bool) {
		if !v.isDict() {
			return
		}
		for rest := v[1:]; rest[0] != 'e'; {
			k := span(rest)
			n := k + span(rest[k:])
			if !yield(rest[colon(rest)+1:k], rest[k:n:n]) {
				return
			}
			rest = rest[n:]
		}
	}
}

// fields picks the named keys out of a dictionary into dst. A named key that
// stands twice is refused: readers that take the first and readers that take
// the last would see two torrents under one infohash.
func (v value) fields(names []string, dst []value) error {
	for k, x := range v.dict() {
		for i, name := range names {
			if string(k) != name {
				continue
			}
			if dst[i] != nil {
				return badf("key %s stands twice", quote(name))
			}
			dst[i] = x
			break
		}
	}
	return nil
}

// span returns the length of the value that v starts with.
func span(v value) int {
	depth, i := 0, 0
	for {
		switch v[i] {
		case 'i':
			for v[i] != 'e' {
				i++
			}
			i++
		case 'l', 'd':
			depth++
			i++
		case 'e':
			depth--
			i++
		default:
			n := 0
			for ; v[i] != ':'; i++ {
				n = n*10 + int(v[i]-'0')
			}
			i += 1 + n
		}
		if depth == 0 {
			return i
		}
	}
}

func colon(v value) int {
	i := 0
	for v[i] != ':' {
		i++
	}
	return i
}

// maxOptional bounds what is decoded of one optional value (a tracker list, a
// comment), in bytes.
const maxOptional = 64 << 10

// decode decodes an optional value with the library. It reports false for a
// value that is absent, of another type, or absurdly large: none of these is a
// reason to refuse the torrent.
//
// Of a list it takes the first elements only, so many that they hold at most
// maxValues values: the library was measured to allocate up to 640 bytes for
// an element of two.
func decode[T any](v value, maxValues int) (x T, ok bool) {
	v = v.head(maxValues)
	if len(v) == 0 || len(v) > maxOptional {
		return x, false
	}
	defer func() {
		// The library lets its own runtime errors pass as panics.
		if recover() != nil {
			var zero T
			x, ok = zero, false
		}
	}()
	return x, bencode.Unmarshal(v, &x) == nil
}

// head cuts a list behind the last element that keeps it within maxValues and
// maxOptional; other values stay as they are.
func (v value) head(maxValues int) value {
	if !v.isList() {
		return v
	}
	values, end := 0, 1
	for e := range v.list() {
		values += e.count(maxValues - values)
		if values > maxValues || end+len(e)+1 > maxOptional {
			return append(slices.Clip(v[:end]), 'e')
		}
		end += len(e)
	}
	return v
}

// count returns the number of values in v, itself included, or more than limit.
func (v value) count(limit int) (n int) {
	for len(v) > 0 && n <= limit {
		switch v[0] {
		case 'l', 'd':
			v = v[1:]
		case 'e':
			v = v[1:]
			continue
		default:
			v = v[span(v):]
		}
		n++
	}
	return n
}

// encode encodes what we made ourselves.
func encode(x any) ([]byte, error) {
	b, err := bencode.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("encode torrent: %w", err)
	}
	return b, nil
}
