package metainfo

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/anacrolix/torrent/bencode"
	"pgregory.net/rapid"

	"swarmfs/metainfo/metainfotest"
)

func TestScanKnowsWellFormedBencode(t *testing.T) {
	for _, c := range []struct {
		in string
		ok bool
	}{
		{"i0e", true},
		{"i-1e", true},
		{"i18446744073709551615e", true},
		{"i-9223372036854775808e", true},
		{"0:", true},
		{"3:abc", true},
		{"le", true},
		{"de", true},
		{"d1:ai1e1:bli2eee", true},
		{"d1:bi1e1:ai2ee", true}, // unsorted: old makers
		{strings.Repeat("l", maxDepth) + strings.Repeat("e", maxDepth), true},
		{"", false},
		{"e", false},
		{"i", false},
		{"ie", false},
		{"i-e", false},
		{"i-0e", false},
		{"i01e", false},
		{"i+1e", false},
		{"i1", false},
		{"i1 e", false},
		{"i18446744073709551616e", false},
		{"i-9223372036854775809e", false},
		{"i99999999999999999999999999e", false},
		{"3:ab", false},
		{"03:abc", false},
		{"3", false},
		{"3a:abc", false},
		{"-1:a", false},
		{"18446744073709551617:a", false},
		{"9223372036854775807:a", false},
		{"l", false},
		{"lee", false},
		{"d1:ae", false},
		{"di1ei2ee", false},
		{"dlee", false},
		{"d1:a", false},
		{"i1ei2e", false},
		{"x", false},
		{strings.Repeat("l", maxDepth+1) + strings.Repeat("e", maxDepth+1), false},
	} {
		if err := scan([]byte(c.in)); (err == nil) != c.ok {
			t.Errorf("%.60q: got error %v, want ok %v", c.in, err, c.ok)
		}
	}
}

func TestScanRefusesTooManyValuesAndTooManyBytes(t *testing.T) {
	values := []byte("l" + strings.Repeat("0:", maxTokens-1) + "e")
	if err := scan(values); err != nil {
		t.Errorf("%d values: %v", maxTokens, err)
	}
	values = append(values[:len(values)-1], "0:e"...)
	if err := scan(values); err == nil {
		t.Errorf("%d values were accepted", maxTokens+1)
	}
	n := MaxSize - len("12345678:")
	large := append(fmt.Appendf(nil, "%d:", n), make([]byte, n)...)
	if err := scan(large); err != nil || len(large) != MaxSize {
		t.Errorf("%d bytes: %v", len(large), err)
	}
	if err := scan(append(large, 0)); err == nil {
		t.Error("a byte more was accepted")
	}
}

func TestScanAllocatesNothing(t *testing.T) {
	data := metainfotest.ManyFiles(100).Bytes()
	if n := testing.AllocsPerRun(10, func() { _ = scan(data) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// drawValue makes any value that can be decoded into any.
func drawValue(t *rapid.T, depth int) any {
	kinds := 4
	if depth == 0 {
		kinds = 2
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return rapid.Int64().Draw(t, "int")
	case 1:
		return string(rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "string"))
	case 2:
		list := make([]any, rapid.IntRange(0, 4).Draw(t, "len"))
		for i := range list {
			list[i] = drawValue(t, depth-1)
		}
		return list
	default:
		dict := make(map[string]any)
		for range rapid.IntRange(0, 4).Draw(t, "len") {
			dict[rapid.StringN(0, 5, -1).Draw(t, "key")] = drawValue(t, depth-1)
		}
		return dict
	}
}

// walk decodes a value with ours alone.
func walk(v value) any {
	switch {
	case v.isList():
		list := []any{}
		for e := range v.list() {
			list = append(list, walk(e))
		}
		return list
	case v.isDict():
		dict := make(map[string]any)
		for k, e := range v.dict() {
			dict[string(k)] = walk(e)
		}
		return dict
	}
	if n, ok := v.integer(); ok {
		return n
	}
	s, _ := v.str()
	return string(s)
}

func TestWalkingAValueGivesWhatTheLibraryDecodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := bencode.MustMarshal(drawValue(t, 3))
		if err := scan(data); err != nil {
			t.Fatalf("scan %q: %v", data, err)
		}
		var want any
		if err := bencode.Unmarshal(data, &want); err != nil {
			t.Fatalf("library: %v", err)
		}
		if got := walk(data); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %v, want %v", data, got, want)
		}
		if n := span(append(bytes.Clone(data), "e1:x"...)); n != len(data) {
			t.Fatalf("%q: span %d, want %d", data, n, len(data))
		}
	})
}

func TestALongOptionalListIsCutNotLost(t *testing.T) {
	for _, c := range []struct {
		in    string
		limit int
		want  string
	}{
		{"l1:a1:b1:ce", 3, "l1:a1:b1:ce"},
		{"l1:a1:b1:ce", 2, "l1:a1:be"},
		{"ll1:aei1ee", 2, "ll1:aee"},
		{"lli1ei2eee", 2, "le"},
		{"ld1:ai1eei5ee", 3, "ld1:ai1eee"},
		{"5:abcde", 1, "5:abcde"},
	} {
		in := value(c.in)
		if got := string(in.head(c.limit)); got != c.want {
			t.Errorf("%s cut to %d: got %s, want %s", c.in, c.limit, got, c.want)
		}
		if string(in) != c.in {
			t.Errorf("%s was changed to %s", c.in, in)
		}
	}
	var list []any
	for i := range 3000 {
		list = append(list, []string{fmt.Sprintf("http://tracker%d.invalid/", i)})
	}
	if got := trackers(nil, bencode.MustMarshal(list)); len(got) != maxURLs {
		t.Errorf("of 3000 tiers %d are left, want %d", len(got), maxURLs)
	}
	for i := range list {
		list[i] = fmt.Sprintf("http://tracker%d.invalid/", i)
	}
	if got := trackers(nil, bencode.MustMarshal(list)); len(got) != maxURLs {
		t.Errorf("of 3000 trackers in a flat list %d are left, want %d", len(got), maxURLs)
	}
	if s, ok := decode[string](value(bencode.MustMarshal(strings.Repeat("x", maxOptional+1))), 1); ok {
		t.Errorf("a string of %d bytes was decoded", len(s))
	}
}
