package swarm

import (
	"net/netip"
	"testing"
)

// The first two are the examples of BEP 40.
func TestPeerPriority(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want uint32
	}{
		{"123.213.32.10:1", "98.76.54.32:2", 0xec2d7224},
		{"123.213.32.10:1", "123.213.32.234:2", 0x99568189},
		{"1.2.3.4:1", "[2001:db8::1]:1", 0},
	} {
		a, b := netip.MustParseAddrPort(tc.a), netip.MustParseAddrPort(tc.b)
		if got := peerPriority(a, b); got != tc.want {
			t.Errorf("%s and %s: got %08x, want %08x", a, b, got, tc.want)
		}
	}
}
