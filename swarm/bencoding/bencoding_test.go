package bencoding

import (
	"errors"
	"strings"
	"testing"
)

var few = Bounds{Depth: 3, Tokens: 12}

func TestLength(t *testing.T) {
	for _, tc := range []struct {
		in  string
		n   int
		err error
	}{
		{"i42e", 4, nil},
		{"i-9223372036854775808e", 22, nil},
		{"i123456789012345678901e", 0, ErrSyntax},
		{"ie", 0, ErrSyntax},
		{"i42", 0, ErrSyntax},
		{"0:", 2, nil},
		{"3:abcrest", 5, nil},
		{"3:ab", 0, ErrCut},
		{"99999999999999999999999999:a", 0, ErrCut},
		{"1a", 0, ErrSyntax},
		{"1", 0, ErrSyntax},
		{"", 0, ErrCut},
		{"e", 0, ErrSyntax},
		{"-1:", 0, ErrSyntax},
		{"d1:ai1e1:bl2:xxeetail", 17, nil},
		{"d1:a", 0, ErrCut},
		{"llleee", 6, nil},
		{"lllleeee", 0, ErrDepth},
		{"l" + strings.Repeat("i1e", 10) + "e", 32, nil},
		{"l" + strings.Repeat("i1e", 11) + "e", 0, ErrTokens},
		{strings.Repeat("l", 1<<20), 0, ErrDepth},
	} {
		if n, err := few.Length([]byte(tc.in)); n != tc.n || !errors.Is(err, tc.err) {
			t.Errorf("%.40q: got %d, %v, want %d, %v", tc.in, n, err, tc.n, tc.err)
		}
	}
}

func TestAValueOfAWrongTypeCostsThatValue(t *testing.T) {
	d, n, err := few.Dict([]byte("d1:ai1e1:bl2:xxee\n"))
	if err != nil || n != 17 || len(d) != 2 {
		t.Fatalf("got %v, %d, %v", d, n, err)
	}
	var number int64
	if err := few.Decode(d["a"], &number); err != nil || number != 1 {
		t.Errorf("a: got %d, %v", number, err)
	}
	if err := few.Decode(d["b"], &number); err == nil {
		t.Error("a list was read as a number")
	}
}

func TestWhatLengthLetsThroughDecodeRefuses(t *testing.T) {
	for _, in := range []string{"di1ei2ee", "d1:ae", "i-e", "d1:ai1e", "i1", "5:ab"} {
		var v any
		if err := few.Decode([]byte(in), &v); err == nil {
			t.Errorf("%q is read as %v", in, v)
		}
	}
}

func TestEachEndsWhereTheListIsBroken(t *testing.T) {
	for in, want := range map[string]int{"l1:a1:be": 2, "l1:a1:b": 2, "l1:a9:be": 1, "l1:alllleeeee": 1, "le": 0, "": 0, "d1:a1:be": 0} {
		got := 0
		few.Each([]byte(in), func([]byte) bool { got++; return true })
		if got != want {
			t.Errorf("%q: %d values, want %d", in, got, want)
		}
	}
	got := 0
	few.Each([]byte("l1:a1:b1:ce"), func([]byte) bool { got++; return got < 2 })
	if got != 2 {
		t.Errorf("yield was called %d times after it had returned false at the second", got)
	}
}

func TestLengthDoesNotAllocate(t *testing.T) {
	in := []byte("d1:ai1e1:bl2:xxee")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := few.Length(in); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDict(f *testing.F) {
	for _, in := range []string{"d1:ai1e1:bl2:xxeetail", "de", "d1:ad1:bd1:cdeeee", "i1e", "l1:ae"} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		d, n, err := few.Dict(p)
		if err != nil {
			if d != nil || n != 0 {
				t.Errorf("%v, %d beside %v", d, n, err)
			}
			return
		}
		if n > len(p) {
			t.Errorf("%d bytes of %d", n, len(p))
		}
		for _, raw := range d {
			var v any
			_ = few.Decode(raw, &v)
			few.Each(raw, func(value []byte) bool { return len(value) > 0 })
		}
	})
}
