package wire

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestExtendedHandshakeHasTheBytesOfBEP10(t *testing.T) {
	h := ExtHandshake{
		M: map[string]uint8{ExtMetadata: 3, ExtPex: 1}, Version: "swarmfs/0.1", Port: 6881, Requests: 500,
		MetadataSize: 31235, YourIP: netip.MustParseAddr("10.1.2.3"), UploadOnly: true,
		IPv4: netip.MustParseAddr("1.2.3.4"), IPv6: netip.MustParseAddr("2001:db8::1"),
	}
	want := "d4:ipv44:\x01\x02\x03\x044:ipv616:\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"1:md11:ut_metadatai3e6:ut_pexi1ee13:metadata_sizei31235e1:pi6881e4:reqqi500e" +
		"11:upload_onlyi1e1:v11:swarmfs/0.16:yourip4:\x0a\x01\x02\x03e"
	if got := AppendExtHandshake(nil, h); string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got, err := ParseExtHandshake([]byte(want))
	if err != nil || !reflect.DeepEqual(got, h) {
		t.Errorf("got %+v, %v; want %+v", got, err, h)
	}
	if got := AppendExtHandshake([]byte("x"), ExtHandshake{}); string(got) != "xd1:mde11:upload_onlyi0ee" {
		t.Errorf("zero value: got %q", got)
	}
}

func TestAnOddValueInTheExtendedHandshakeCountsAsNotSaid(t *testing.T) {
	for _, c := range []struct {
		name, payload string
		want          ExtHandshake
	}{
		{"metadata size 0", "d13:metadata_sizei0ee", ExtHandshake{}},
		{"metadata size -1", "d13:metadata_sizei-1ee", ExtHandshake{}},
		{"metadata size over the limit", "d13:metadata_sizei31457281ee", ExtHandshake{}},
		{"metadata size 2^63-1", "d13:metadata_sizei9223372036854775807ee", ExtHandshake{}},
		{"metadata size over 2^63", "d13:metadata_sizei9223372036854775808ee", ExtHandshake{}},
		{"metadata size as a string", "d13:metadata_size2:12e", ExtHandshake{}},
		{"port as a list", "d1:pli1ei2eee", ExtHandshake{}},
		{"port over 65535", "d1:pi65536ee", ExtHandshake{}},
		{"requests over any queue", "d4:reqqi1000000000000ee", ExtHandshake{Requests: 65536}},
		{"version as a number", "d1:vi7ee", ExtHandshake{}},
		{"version with an escape sequence", "d1:v9:a\x1b[31m\xffb\xe2e", ExtHandshake{Version: "a[31mb"}},
		{"address of 5 bytes", "d6:yourip5:12345e", ExtHandshake{}},
		{"ipv4 of 16 bytes", "d4:ipv416:aaaaaaaaaaaaaaaae", ExtHandshake{}},
		{"ipv6 of 4 bytes", "d4:ipv64:aaaae", ExtHandshake{}},
		{"m as a number", "d1:mi7ee", ExtHandshake{}},
		{"m with odd identifiers", "d1:md1:ai256e1:bi-1e1:c1:x1:di9e1:eleee", ExtHandshake{M: map[string]uint8{"d": 9}}},
		{"an extension with a name of 33 bytes", "d1:md33:" + strings.Repeat("a", 33) + "i1e1:di9eee", ExtHandshake{M: map[string]uint8{"d": 9}}},
		{"an extension switched off", "d1:md6:ut_pexi0eee", ExtHandshake{M: map[string]uint8{"ut_pex": 0}}},
		{"keys that nobody knows, unsorted inside", "d1:zd1:bi1e1:ai1ee1:pi7ee", ExtHandshake{Port: 7}},
		{"an unknown number of 20 digits", "d1:zi99999999999999999999e1:pi7ee", ExtHandshake{Port: 7}},
		{"bytes after the dictionary", "d1:pi7eejunk", ExtHandshake{Port: 7}},
	} {
		got, err := ParseExtHandshake([]byte(c.payload))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
}

func TestAPayloadThatIsNoBoundedDictionaryIsRefused(t *testing.T) {
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "4:%04xi1e", i)
		}
		return b.String()
	}
	for _, c := range []struct{ name, payload string }{
		{"nothing", ""},
		{"a number", "i1e"},
		{"a list around it", "ld1:pi7eee"},
		{"a cut dictionary", "d1:pi7e"},
		{"a string beyond the end", "d1:v999999999999999999999:ae"},
		{"a number without end", "d1:pi" + strings.Repeat("1", 30000) + "ee"},
		{"an empty number", "d1:pieee"},
		{"a bad type", "d1:px"},
		{"a number as key", "di1ei2ee"},
		{"a key without a value", "d1:ae"},
		{"100000 nested lists", "d1:a" + strings.Repeat("l", 30000) + strings.Repeat("e", 30000) + "e"},
		{"5000 keys", "d" + many(5000) + "e"},
		{"more than 64 KiB", "d1:v65536:" + strings.Repeat("a", 65536) + "e"},
	} {
		_, err := ParseExtHandshake([]byte(c.payload))
		if pe := (*ProtocolError)(nil); !errors.As(err, &pe) {
			t.Errorf("%s: got %v, want a ProtocolError", c.name, err)
		}
	}
	got, err := ParseExtHandshake([]byte("d1:md" + many(65) + "e1:pi7ee"))
	if err != nil || got.M != nil || got.Port != 7 {
		t.Errorf("65 extensions: got %d of them, port %d, %v; want none", len(got.M), got.Port, err)
	}
}

func drawAddr(t *rapid.T, label string, size int) netip.Addr {
	p := rapid.SliceOfN(rapid.Byte(), 0, 1).Draw(t, label+" present")
	if len(p) == 0 {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, label))
	return a
}

func TestExtendedHandshakesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := ExtHandshake{
			M:            rapid.MapOfN(rapid.StringMatching("[a-z_]{1,32}"), rapid.Uint8(), 0, 64).Draw(t, "m"),
			Version:      rapid.StringMatching("[ -~µ]{0,32}").Draw(t, "v"),
			Port:         rapid.Uint16().Draw(t, "p"),
			Requests:     rapid.IntRange(0, maxRequests).Draw(t, "reqq"),
			MetadataSize: rapid.IntRange(0, MaxMetadataSize).Draw(t, "metadata_size"),
			YourIP:       drawAddr(t, "yourip", rapid.SampledFrom([]int{4, 16}).Draw(t, "family")),
			IPv4:         drawAddr(t, "ipv4", 4),
			IPv6:         drawAddr(t, "ipv6", 16),
			UploadOnly:   rapid.Bool().Draw(t, "upload_only"),
		}
		got, err := ParseExtHandshake(AppendExtHandshake(nil, want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
	})
}

func FuzzParseExtHandshake(f *testing.F) {
	f.Add([]byte("d1:md11:ut_metadatai3e6:ut_pexi1ee13:metadata_sizei31235e1:pi6881e4:reqqi500e1:v5:a/0.16:yourip4:abcde"))
	f.Add([]byte("d12:complete_agoi1e1:md11:lt_donthavei7ee1:zli1eli2eeee"))
	f.Add([]byte("d1:pi99999999999999999999e1:v3:03:e"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		h, err := ParseExtHandshake(payload)
		if pe := (*ProtocolError)(nil); err != nil && !errors.As(err, &pe) {
			t.Fatalf("unexpected error %v", err)
		}
		if err != nil {
			return
		}
		if h.MetadataSize < 0 || h.MetadataSize > MaxMetadataSize || len(h.M) > maxExtensions || len(h.Version) > maxVersionLen {
			t.Fatalf("beyond its bounds: %+v", h)
		}
		if h.M == nil {
			h.M = map[string]uint8{} // the key is always written
		}
		if again, err := ParseExtHandshake(AppendExtHandshake(nil, h)); err != nil || !reflect.DeepEqual(again, h) {
			t.Fatalf("read again: got %+v, %v; want %+v", again, err, h)
		}
	})
}

func TestDontHaveIsFourBytes(t *testing.T) {
	payload := AppendDontHave(nil, 0x01020304)
	if !bytes.Equal(payload, []byte{1, 2, 3, 4}) {
		t.Errorf("got %x", payload)
	}
	if piece, err := ParseDontHave(payload); err != nil || piece != 0x01020304 {
		t.Errorf("got %x, %v", piece, err)
	}
	for _, p := range [][]byte{nil, payload[:3], append(payload, 5)} {
		if _, err := ParseDontHave(p); err == nil {
			t.Errorf("%x was accepted", p)
		}
	}
}
