package wire

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestBitfieldIsMostSignificantBitFirst(t *testing.T) {
	for _, c := range []struct {
		n    int
		have []int
		want []byte
	}{
		{0, nil, nil},
		{1, []int{0}, []byte{0x80}},
		{8, []int{7}, []byte{0x01}},
		{9, []int{0, 8}, []byte{0x80, 0x80}},
		{64, []int{63}, []byte{0, 0, 0, 0, 0, 0, 0, 1}},
		{65, []int{64}, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0x80}},
	} {
		words := make([]uint64, (c.n+63)/64)
		for _, i := range c.have {
			words[i/64] |= 1 << (i % 64)
		}
		if got := AppendBitfield(nil, words, c.n); !bytes.Equal(got, c.want) {
			t.Errorf("%d pieces with %v: got %x, want %x", c.n, c.have, got, c.want)
		}
		got := make([]uint64, len(words))
		if err := ParseBitfield(c.want, c.n, got); err != nil || !slices.Equal(got, words) {
			t.Errorf("%d pieces, %x: got %x, %v; want %x", c.n, c.want, got, err, words)
		}
	}
}

func TestABitfieldOfAWrongLengthOrWithSpareBitsIsRefused(t *testing.T) {
	for _, c := range []struct {
		n    int
		data []byte
	}{
		{0, []byte{0}},
		{1, nil},
		{8, []byte{0, 0}},
		{9, []byte{0xff}},
		{9, []byte{0xff, 0x40}},
		{9, []byte{0xff, 0x01}},
		{63, []byte{0, 0, 0, 0, 0, 0, 0, 1}},
		{71, []byte{0, 0, 0, 0, 0, 0, 0, 0, 1}},
	} {
		words := []uint64{42, 42}
		err := ParseBitfield(c.data, c.n, words)
		if pe := (*ProtocolError)(nil); !errors.As(err, &pe) {
			t.Errorf("%x for %d pieces: got %v, want a ProtocolError", c.data, c.n, err)
		}
		if words[0] != 42 || words[1] != 42 {
			t.Errorf("%x for %d pieces: words were touched: %v", c.data, c.n, words)
		}
	}
}

func TestBitfieldsRoundTripAndNeverSendSpareBits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(t, "n")
		words := rapid.SliceOfN(rapid.Uint64(), (n+63)/64, 6).Draw(t, "words") // dirty beyond n
		data := AppendBitfield([]byte("x"), words, n)[1:]
		got := make([]uint64, (n+63)/64)
		if err := ParseBitfield(data, n, got); err != nil {
			t.Fatalf("parse %x: %v", data, err)
		}
		for i := range n {
			bit := func(w []uint64) uint64 { return w[i/64] >> (i % 64) & 1 }
			wire := uint64(data[i/8] >> (7 - i%8) & 1)
			if bit(got) != bit(words) || wire != bit(words) {
				t.Fatalf("bit %d: got %d, on the wire %d, want %d", i, bit(got), wire, bit(words))
			}
		}
		for i := n; i < 64*len(got); i++ {
			if got[i/64]>>(i%64)&1 != 0 {
				t.Fatalf("bit %d beyond %d is set", i, n)
			}
		}
	})
}

func BenchmarkParseBitfield(b *testing.B) {
	const n = 65536
	words := make([]uint64, n/64)
	data := AppendBitfield(nil, words, n)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := ParseBitfield(data, n, words); err != nil {
			b.Fatal(err)
		}
	}
}
