package tracker

import (
	"net/netip"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newTestClient returns a client that the test closes. Addresses of 127.0.0.2
// count as global, so that a test has two kinds of them.
func newTestClient(t testing.TB, opts Options) *Client {
	t.Helper()
	c := NewClient(opts)
	c.classify = func(a netip.Addr) scope {
		if a == netip.MustParseAddr("127.0.0.2") {
			return scopeGlobal
		}
		return classify(a)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func addrPorts(texts ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range texts {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

var testRequest = Request{
	InfoHash: [20]byte([]byte("\x00\x01 +&=%~-._aZ09\xff\xfe\x80\x7f/")), PeerID: [20]byte([]byte("-SF0100-abcdefghijkl")),
	Port: 6881, Uploaded: 1, Downloaded: 2, Left: 3, Event: Started, Key: 0xbeef,
}
