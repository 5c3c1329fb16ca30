package metainfotest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// A Dict is a bencoded dictionary, written with its keys sorted.
type Dict map[string]any

// A List is a bencoded list.
type List []any

// Raw is written as it stands.
type Raw []byte

// Pairs is a dictionary whose order and repeats are kept.
type Pairs []Pair

// A Pair is one key and value of a dictionary.
type Pair struct {
	Key   string
	Value any
}

// Encode bencodes integers, strings, byte and string slices, List, Dict, Pairs
// and Raw. It panics on anything else.
func Encode(x any) []byte { return appendValue(nil, x) }

func appendValue(b []byte, x any) []byte {
	switch x := x.(type) {
	case Raw:
		return append(b, x...)
	case int:
		return appendInt(b, int64(x))
	case int64:
		return appendInt(b, x)
	case string:
		return appendString(b, x)
	case []byte:
		return appendString(b, string(x))
	case []string:
		b = append(b, 'l')
		for _, s := range x {
			b = appendString(b, s)
		}
		return append(b, 'e')
	case List:
		b = append(b, 'l')
		for _, v := range x {
			b = appendValue(b, v)
		}
		return append(b, 'e')
	case Dict:
		b = append(b, 'd')
		for _, k := range slices.Sorted(maps.Keys(x)) {
			b = appendValue(appendString(b, k), x[k])
		}
		return append(b, 'e')
	case Pairs:
		b = append(b, 'd')
		for _, p := range x {
			b = appendValue(appendString(b, p.Key), p.Value)
		}
		return append(b, 'e')
	}
	panic(fmt.Sprintf("metainfotest: cannot encode %T", x))
}

func appendInt(b []byte, n int64) []byte {
	b = strconv.AppendInt(append(b, 'i'), n, 10)
	return append(b, 'e')
}

func appendString(b []byte, s string) []byte {
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, ':')
	return append(b, s...)
}
