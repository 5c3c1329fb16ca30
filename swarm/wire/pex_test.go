package wire

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestPexMessagesHaveTheBytesOfBEP11(t *testing.T) {
	addr := netip.MustParseAddrPort
	want := Pex{
		Added: []PexPeer{
			{addr("1.2.3.4:6881"), PexUploadOnly | PexReachable},
			{addr("[2001:db8::1]:6882"), PexUTP},
		},
		Dropped: []netip.AddrPort{addr("5.6.7.8:1")},
	}
	payload := "d5:added6:\x01\x02\x03\x04\x1a\xe17:added.f1:\x12" +
		"6:added618:\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe28:added6.f1:\x04" +
		"7:dropped6:\x05\x06\x07\x08\x00\x01e"
	if got := AppendPex(nil, want); string(got) != payload {
		t.Errorf("append: got %q, want %q", got, payload)
	}
	if got, err := ParsePex([]byte(payload)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("parse: got %+v, %v; want %+v", got, err, want)
	}
}

func TestPexKeepsOnlyAddressesThatCanBeReached(t *testing.T) {
	payload := "d5:added30:" +
		"\x01\x02\x03\x04\x00\x00" + // port 0
		"\x00\x00\x00\x00\x00\x01" +
		"\xff\xff\xff\xff\x00\x01" +
		"\xe0\x00\x00\x01\x00\x01" + // multicast
		"\x01\x02\x03\x05\x00\x01" +
		"7:added.f5:\x00\x00\x00\x00\x02" +
		"7:dropped6:\x00\x00\x00\x00\x00\x01e"
	want := Pex{Added: []PexPeer{{netip.MustParseAddrPort("1.2.3.5:1"), PexUploadOnly}}}
	if got, err := ParsePex([]byte(payload)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestBrokenPexMessagesAreRefused(t *testing.T) {
	for _, payload := range []string{
		"", "le", "d5:added5:abcdee", "d6:added617:aaaaaaaaaaaaaaaaae", "d7:dropped1:ae",
		"d5:added1206:" + strings.Repeat("a", 1206) + "e",
	} {
		_, err := ParsePex([]byte(payload))
		if pe := (*ProtocolError)(nil); !errors.As(err, &pe) {
			t.Errorf("%.40q: got %v, want a ProtocolError", payload, err)
		}
	}
}

func FuzzParsePex(f *testing.F) {
	f.Add([]byte("d5:added6:\x01\x02\x03\x04\x1a\xe17:added.f1:\x127:dropped6:\x05\x06\x07\x08\x00\x01e"))
	f.Add([]byte("d6:added618:\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x01\x02\x03\x04\x1a\xe28:added6.f0:e"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		p, err := ParsePex(payload)
		if pe := (*ProtocolError)(nil); err != nil && !errors.As(err, &pe) {
			t.Fatalf("unexpected error %v", err)
		}
		if len(p.Added) > 2*MaxPexPeers || len(p.Dropped) > 2*MaxPexPeers {
			t.Fatalf("%d added, %d dropped", len(p.Added), len(p.Dropped))
		}
		for _, peer := range p.Added {
			if !reachable(peer.Addr) {
				t.Fatalf("unreachable %v", peer.Addr)
			}
		}
		if len(p.Added) > MaxPexPeers || len(p.Dropped) > MaxPexPeers {
			return // IPv4 addresses mapped into IPv6 can fill one list beyond its bound
		}
		if again, err := ParsePex(AppendPex(nil, p)); err != nil || len(again.Added) != len(p.Added) || len(again.Dropped) != len(p.Dropped) {
			t.Fatalf("read again: got %+v, %v; want %+v", again, err, p)
		}
	})
}
