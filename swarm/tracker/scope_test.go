package tracker

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func TestAddressesHaveTheirScope(t *testing.T) {
	for _, c := range []struct {
		addr string
		want scope
	}{
		{"0.0.0.0", scopeNone},
		{"0.1.2.3", scopeNone},
		{"255.255.255.255", scopeNone},
		{"224.0.0.1", scopeNone},
		{"169.254.169.254", scopeNone},
		{"::ffff:169.254.169.254", scopeNone},
		{"::", scopeNone},
		{"fe80::1", scopeNone},
		{"ff02::1", scopeNone},
		{"127.0.0.1", scopeLoopback},
		{"127.255.0.1", scopeLoopback},
		{"::1", scopeLoopback},
		{"::ffff:127.0.0.1", scopeLoopback},
		{"10.0.0.1", scopePrivate},
		{"172.16.0.1", scopePrivate},
		{"192.168.1.1", scopePrivate},
		{"100.64.0.1", scopePrivate},
		{"fd00::1", scopePrivate},
		{"1.1.1.1", scopeGlobal},
		{"100.128.0.1", scopeGlobal},
		{"2001:db8::1", scopeGlobal},
	} {
		if got := classify(netip.MustParseAddr(c.addr)); got != c.want {
			t.Errorf("%s: got %d, want %d", c.addr, got, c.want)
		}
	}
	if got := classify(netip.Addr{}); got != scopeNone {
		t.Errorf("zero address: got %d", got)
	}
}

func TestURLsThatCannotBeATrackersAreRefused(t *testing.T) {
	for _, c := range []struct {
		url  string
		good bool
	}{
		{"http://t.example/announce", true},
		{"http://t.example/announce?passkey=abc&key=7", true},
		{"https://[2001:db8::1]:443/announce", true},
		{"udp://t.example:6969", true},
		{"HTTP://T.EXAMPLE/announce", true},
		{"udp://t.example/announce", false},
		{"file:///etc/passwd", false},
		{"ftp://t.example/announce", false},
		{"wss://t.example/announce", false},
		{"gopher://t.example/announce", false},
		{"http:///announce", false},
		{"http://xn--bcher-kva.example/announce", false},
		{"http://bücher.example/announce", false},
		{"http://t.example/announce?info_hash=aaaaaaaaaaaaaaaaaaaa", false},
		{"http://t.example/announce?a=b&event=stopped", false},
		{"http://t.example/announce?in%66o_hash=a", false},
		{"http://t.example/\nX: y", false},
		{"://", false},
		{"", false},
		{"http://t.example/" + strings.Repeat("a", maxURLLen), false},
	} {
		if got := Supported(c.url); got != c.good {
			t.Errorf("%.60q: got %v, want %v", c.url, got, c.good)
		}
	}
}

func TestHopsAreFollowedOnlyWhereATrackerMayLead(t *testing.T) {
	const global, private, loopback, cloud = "1.1.1.1", "192.168.0.1", "127.0.0.1", "169.254.169.254"
	type hop struct {
		path, addr string
		allowed    bool
	}
	for _, c := range []struct {
		name string
		hops []hop
	}{
		{"global", []hop{{"/x", global, true}}},
		{"global to global", []hop{{"/x", global, true}, {"/y", global, true}}},
		{"private", []hop{{"/x", private, true}}},
		{"loopback with the right path", []hop{{"/announce", loopback, true}}},
		{"loopback with another path", []hop{{"/announce.php", loopback, false}}},
		{"loopback with no path", []hop{{"", loopback, false}}},
		{"loopback below the right path", []hop{{"/announce/../admin", loopback, false}}},
		{"metadata service of a cloud", []hop{{"/announce", cloud, false}}},
		{"global to loopback", []hop{{"/announce", global, true}, {"/announce", loopback, false}}},
		{"global to private", []hop{{"/announce", global, true}, {"/announce", private, false}}},
		{"global to the metadata service", []hop{{"/announce", global, true}, {"/announce", cloud, false}}},
		{"private to private", []hop{{"/x", private, true}, {"/y", private, true}}},
		{"private to loopback", []hop{{"/x", private, true}, {"/y", loopback, false}}},
		{"private to global to private", []hop{{"/x", private, true}, {"/y", global, true}, {"/z", private, false}}},
	} {
		h := &hops{classify: classify}
		for i, hop := range c.hops {
			if i == 0 {
				h.path = hop.path
			} else {
				h.redirect(&url.URL{Path: hop.path})
			}
			for _, addr := range []string{hop.addr, "::ffff:" + hop.addr} {
				if err := h.check(netip.MustParseAddr(addr)); (err == nil) != hop.allowed {
					t.Errorf("%s: hop %d to %s: got %v", c.name, i, addr, err)
				}
			}
		}
	}
}

func TestAnAddressThatIsNotAllowedIsNotConnectedTo(t *testing.T) {
	blocked := errors.New("on the block list")
	h := &hops{classify: classify, allow: func(netip.Addr) error { return blocked }}
	if err := h.check(netip.MustParseAddr("1.1.1.1")); !errors.Is(err, blocked) {
		t.Errorf("got %v", err)
	}
}
