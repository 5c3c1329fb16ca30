package tracker

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAnswersAreReadInAllTheirForms(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       Response
	}{
		{
			"compact peers of both families",
			"d8:completei5e10:incompletei7e8:intervali1800e12:min intervali900e5:peers12:\x01\x02\x03\x04\x1a\xe1\x05\x06\x07\x08\x00\x506:peers618:\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe2e",
			Response{Interval: 30 * time.Minute, MinInterval: 15 * time.Minute, Seeders: 5, Leechers: 7, Peers: addrPorts("1.2.3.4:6881", "5.6.7.8:80", "[2001:db8::1]:6882")},
		},
		{
			"peers as dictionaries",
			"d8:intervali60e5:peersld2:ip7:1.2.3.47:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881eed2:ip11:2001:db8::14:porti1eeee",
			Response{Interval: time.Minute, Seeders: -1, Leechers: -1, Peers: addrPorts("1.2.3.4:6881", "[2001:db8::1]:1")},
		},
		{
			"everything else",
			"d11:external ip4:\x09\x08\x07\x068:intervali60e5:peers0:10:tracker id3:abc15:warning message6:hi\x1b[mye\n",
			Response{Interval: time.Minute, Seeders: -1, Leechers: -1, ExternalIP: netip.MustParseAddr("9.8.7.6"), TrackerID: "abc", Warning: "hi[my"},
		},
		{"nothing", "de", Response{Seeders: -1, Leechers: -1}},
		{
			"wrong types",
			"d8:complete1:x10:incompletei-4e11:external ip3:abc8:interval4:18005:peersi7e6:peers6le10:tracker idi7e15:warning messageli1eee",
			Response{Seeders: -1, Leechers: -1},
		},
		{
			"numbers out of range",
			"d8:completei9223372036854775807e10:incompletei99999999999999999999e8:intervali9223372036854775807e12:min intervali-1ee",
			Response{Interval: (1<<31 - 1) * time.Second, Seeders: 1<<31 - 1, Leechers: -1},
		},
		{
			"peers that nobody can connect to",
			"d5:peers42:\x01\x02\x03\x04\x00\x00" + "\x00\x00\x00\x00\x00\x01" + "\xff\xff\xff\xff\x00\x01" + "\xe0\x00\x00\x01\x00\x01" +
				"\x01\x02\x03\x04\x00\x01" + "\x01\x02\x03\x04\x00\x01" + "\x01\x02\x03\x04\x00\x02e",
			Response{Seeders: -1, Leechers: -1, Peers: addrPorts("1.2.3.4:1", "1.2.3.4:2")},
		},
		{
			"a mapped address",
			"d6:peers618:\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04\x00\x01e",
			Response{Seeders: -1, Leechers: -1, Peers: addrPorts("1.2.3.4:1")},
		},
		{
			"a list of peers that is cut inside of one",
			"d5:peers8:\x01\x02\x03\x04\x00\x01\x01\x02e",
			Response{Seeders: -1, Leechers: -1, Peers: addrPorts("1.2.3.4:1")},
		},
		{
			"odd peers as dictionaries",
			"d5:peersld2:ip9:localhost4:porti1eei7eled2:ip7:1.2.3.44:porti0eed2:ip7:1.2.3.44:porti65536eed2:ipi7e4:porti1eed4:porti1eed2:ip9:fe80::1%14:porti1eed2:ip7:1.2.3.44:port1:1ed2:ip7:1.2.3.44:porti2eeee",
			Response{Seeders: -1, Leechers: -1, Peers: addrPorts("1.2.3.4:2")},
		},
		{"a tracker id of a kilobyte", "d10:tracker id1000:" + strings.Repeat("x", 1000) + "e", Response{Seeders: -1, Leechers: -1}},
	} {
		got, err := parseAnswer([]byte(c.body), &url.URL{})
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
}

func TestARefusalSaysWhetherToComeBack(t *testing.T) {
	for _, c := range []struct {
		body string
		want FailureError
	}{
		{"d14:failure reason4:gone8:retry ini5ee", FailureError{Reason: "gone", RetryIn: 5 * time.Minute}},
		{"d14:failure reason4:gone8:retry in5:nevere", FailureError{Reason: "gone", Never: true}},
		{"d14:failure reason4:gone8:retry in3:abce", FailureError{Reason: "gone"}},
		{"d14:failure reason4:gone8:retry ini-5ee", FailureError{Reason: "gone"}},
		{"d14:failure reason0:5:peers6:\x01\x02\x03\x04\x00\x01e", FailureError{}},
		{"d14:failure reason1400:" + strings.Repeat("<b>\x1b[1m", 200) + "e", FailureError{Reason: strings.Repeat("<b>[1m", 34)[:200]}},
	} {
		_, err := parseAnswer([]byte(c.body), &url.URL{})
		if f := (*FailureError)(nil); !errors.As(err, &f) || *f != c.want {
			t.Errorf("%.60q: got %v, want %+v", c.body, err, c.want)
		}
	}
}

func TestAnswersBeyondTheBoundsAreRefused(t *testing.T) {
	for _, c := range []struct{ name, body string }{
		{"nothing", ""},
		{"a web page", "<html>"},
		{"a list", "ld8:intervali60eee"},
		{"a number", "i60e"},
		{"a cut dictionary", "d8:intervali60e"},
		{"nested lists", "d1:x" + strings.Repeat("l", 1<<20) + strings.Repeat("e", 1<<20) + "e"},
		{"a million values", "d1:xl" + strings.Repeat("0:", 1<<20) + "ee"},
		{"a string of 2^62 bytes", "d5:peers4611686018427387904:e"},
		{"a number of a million digits", "d8:intervali" + strings.Repeat("9", 1<<20) + "ee"},
		{"a number for a key", "di1ei2ee"},
	} {
		if r, err := parseAnswer([]byte(c.body), &url.URL{}); err == nil {
			t.Errorf("%s: got %+v", c.name, r)
		}
	}
}

func TestNoMoreThan2000PeersAreKept(t *testing.T) {
	var compact, dicts bytes.Buffer
	for i := range 20000 {
		compact.Write([]byte{1, 2, byte(i >> 8), byte(i), 0, 1})
		fmt.Fprintf(&dicts, "d2:ip%d:%s4:porti1ee", len(fmt.Sprintf("1.2.%d.%d", i>>8, i&255)), fmt.Sprintf("1.2.%d.%d", i>>8, i&255))
	}
	for _, body := range []string{
		fmt.Sprintf("d5:peers%d:%se", compact.Len(), compact.String()),
		"d5:peersl" + dicts.String() + "ee",
	} {
		r, err := parseAnswer([]byte(body), &url.URL{})
		if err != nil || len(r.Peers) != MaxPeers {
			t.Errorf("%.20q…: got %d peers, %v; want %d", body, len(r.Peers), err, MaxPeers)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte("d8:completei5e10:incompletei7e8:intervali1800e12:min intervali900e5:peers6:\x01\x02\x03\x04\x1a\xe1e"))
	f.Add([]byte("d5:peersld2:ip7:1.2.3.44:porti6881eeee"))
	f.Add([]byte("d14:failure reason4:gone8:retry in5:nevere"))
	f.Add([]byte("d11:external ip4:aaaa10:tracker id3:abc15:warning message2:hie"))
	u, err := url.Parse("http://t.example/0123456789/announce?a=b")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseAnswer(body, u)
		if failure := (*FailureError)(nil); errors.As(err, &failure) {
			if len(failure.Reason) > maxTextLen || printable(failure.Reason) != failure.Reason || failure.RetryIn < 0 {
				t.Fatalf("got %+v", failure)
			}
		}
		checkResponse(t, r)
	})
}

// checkResponse fails if r is not as clean as Response promises.
func checkResponse(t *testing.T, r Response) {
	t.Helper()
	if r.Interval < 0 || r.MinInterval < 0 || r.Seeders < -1 || r.Leechers < -1 || len(r.Peers) > MaxPeers ||
		len(r.Warning) > maxTextLen || printable(r.Warning) != r.Warning || len(r.TrackerID) > maxTextLen {
		t.Fatalf("beyond its bounds: %+v", r)
	}
	sorted := slices.SortedFunc(slices.Values(r.Peers), netip.AddrPort.Compare)
	if len(slices.Compact(sorted)) != len(r.Peers) {
		t.Fatalf("double peers: %v", r.Peers)
	}
	for _, p := range r.Peers {
		if !p.IsValid() || p.Port() == 0 || p.Addr().IsMulticast() || p.Addr().IsUnspecified() || p.Addr().Is4In6() {
			t.Fatalf("bad peer %v", p)
		}
	}
}
