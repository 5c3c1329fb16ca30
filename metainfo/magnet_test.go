package metainfo

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const hex1 = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a"

func TestMagnetParametersAreReadOrLeftOut(t *testing.T) {
	h, err := ParseHash(hex1)
	if err != nil {
		t.Fatal(err)
	}
	const btih = "magnet:?xt=urn:btih:"
	for _, c := range []struct {
		link string
		want *Magnet // nil for refused; Hash and HasV1 are filled in
	}{
		{btih + hex1, &Magnet{}},
		{" MAGNET:?XT=URN:BTIH:" + strings.ToUpper(hex1) + "\r\n", &Magnet{}},
		{btih + "YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK", &Magnet{}},
		{btih + "yex6dqdlxisuvhoj6um3gnnkpqjwpkek", &Magnet{}},
		{"magnet:?xt=urn%3Abtih%3A" + hex1, &Magnet{}},
		{"magnet:?xt=urn:sha1:ABC&xt=urn:ed2k:1&xt=urn:btih:" + hex1 + "&xt=urn:btih:" + strings.ToUpper(hex1), &Magnet{}},
		{btih + hex1 + "&dn=first&dn=second", &Magnet{Name: "first"}},
		{btih + hex1 + "&dn=%zz&tr=%zz&&=&x&unknown=1", &Magnet{}},
		{btih + hex1 + "&xl=12", &Magnet{Length: 12}},
		{btih + hex1 + "&xl=-12", &Magnet{}},
		{btih + hex1 + "&xl=99999999999999999999", &Magnet{}},
		{
			btih + hex1 + "&tr.1=http://a/&tr.22=http://a/&tr=file:///etc/passwd&tr=udp://a:1&tr=udp://a",
			&Magnet{Trackers: []string{"http://a/", "udp://a:1"}},
		},
		{btih + hex1 + "&ws=http://a/&ws=ftp://a/&xs=https://b/t&xs=urn:x", &Magnet{WebSeeds: []string{"http://a/"}, Sources: []string{"https://b/t"}}},
		{btih + hex1 + "&x.pe=1.2.3.4:5&x.pe=[::1]:6&x.pe=h:7&x.pe=h&x.pe=:8&x.pe=h:0&x.pe=a/b:9", &Magnet{Peers: []string{"1.2.3.4:5", "[::1]:6", "h:7"}}},
		{btih + hex1 + "&so=4-6,0,2,1&so=9", &Magnet{Select: FileRanges{{0, 2}, {4, 6}}}},
		{btih + hex1 + "&so=6-4", &Magnet{}},
		{btih + hex1 + "&private=1", &Magnet{Private: true}},
		{btih + hex1 + "&x.private=1&dn=a", &Magnet{Private: true, Name: "a"}},
		{btih + hex1 + "&private=0", &Magnet{}},
		{"magnet:", nil},
		{"magnet:?", nil},
		{"", nil},
		{"magnet:?xt=urn:btmh:1220abcd", nil},
		{"magnet:?xt=urn:btmh:1120" + strings.Repeat("ab", 32), nil},
		{btih + hex1 + "0", nil},
		{btih + strings.Repeat("1", 32), nil}, // 1 is no base32
		{btih + hex1[:38] + "%zz", nil},
		{btih + hex1 + "&xt=urn:btih:" + strings.Repeat("a", 40), nil},
		{btih + hex1 + strings.Repeat("&a", maxMagnetParams), nil},
		{btih + hex1 + "&dn=" + strings.Repeat("a", maxMagnet), nil},
		{"magnet:?xt=\x1b[31m", nil},
		{"\x1b[31m", nil},
	} {
		got, err := ParseMagnet(c.link)
		checkInputError(t, err)
		if c.want == nil {
			if err == nil {
				t.Errorf("%.80q was accepted", c.link)
			}
			continue
		}
		c.want.Hash, c.want.HasV1 = h, true
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%.80q: got %+v, error %v, want %+v", c.link, got, err, c.want)
			continue
		}
		again, err := ParseMagnet(got.String())
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%s: got %+v, error %v, want %+v", got, again, err, got)
		}
	}
}

func TestAMagnetIsPrintedInOneForm(t *testing.T) {
	m, err := ParseMagnet("magnet:?x.pe=[::1]:6881&so=3,1-2&tr=http%3A%2F%2Ftracker.invalid%2Fa&dn=a%20b+c%26%0a&xl=10&xt.1=urn:btih:" +
		strings.ToUpper(hex1) + "&xt.2=urn:btmh:1220" + strings.Repeat("AB", 32))
	if err != nil {
		t.Fatal(err)
	}
	want := "magnet:?xt=urn:btih:" + hex1 + "&xt=urn:btmh:1220" + strings.Repeat("ab", 32) +
		"&dn=a%20b%20c%26%0A&xl=10&tr=http%3A%2F%2Ftracker.invalid%2Fa&x.pe=%5B%3A%3A1%5D%3A6881&so=1-3"
	if got := m.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAFileSelectionCostsNothingPerFile(t *testing.T) {
	for in, want := range map[string]string{
		"0": "0", "0,2,4-6": "0,2,4-6", "6,4-5,0-1,1": "0-1,4-6", "1-2147483646": "1-2147483646", "3,3,3-3": "3",
		"": "", "-": "", "1-": "", "-1": "", "2-1": "", "1,": "", "a": "", "1-2-3": "", "99999999999": "", "+1": "", " 1": "",
		fmt.Sprint(math.MaxInt32): "",
	} {
		r, err := ParseFileRanges(in)
		checkInputError(t, err)
		if (err == nil) != (want != "") || r.String() != want {
			t.Errorf("%q: got %q, error %v, want %q", in, r, err, want)
		}
	}
	if _, err := ParseFileRanges(strings.Repeat("1,", maxFileRanges) + "1"); err == nil {
		t.Error("too many ranges were accepted")
	}
}

func TestAFileSelectionHasWhatItNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := make(map[int]bool)
		var items []string
		for range rapid.IntRange(1, 8).Draw(t, "ranges") {
			a := rapid.IntRange(0, 40).Draw(t, "first")
			b := rapid.IntRange(a, 45).Draw(t, "last")
			items = append(items, FileRanges{{a, b}}.String())
			for n := a; n <= b; n++ {
				want[n] = true
			}
		}
		r, err := ParseFileRanges(strings.Join(items, ","))
		if err != nil {
			t.Fatal(err)
		}
		for n := -1; n < 50; n++ {
			if r.Has(n) != want[n] {
				t.Fatalf("%v: Has(%d) = %v", items, n, r.Has(n))
			}
		}
	})
}

func TestAnInfohashIsHexOrBase32(t *testing.T) {
	for in, ok := range map[string]bool{
		hex1: true, strings.ToUpper(hex1): true,
		"YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK": true, "yex6dqdlxisuvhoj6um3gnnkpqjwpkek": true,
		"": false, hex1[1:]: false, hex1 + "0": false, strings.Repeat("g", 40): false, strings.Repeat("=", 32): false,
		strings.Repeat("A", 31) + "=": false, "YEX6DQDLXISUVHOJ6UM3GNNKPQJWPK\n\n": false,
	} {
		h, err := ParseHash(in)
		checkInputError(t, err)
		if (err == nil) != ok || ok && h.String() != hex1 {
			t.Errorf("%q: got %s, error %v", in, h, err)
		}
	}
}
