package tracker

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"sync"
)

// scope is how far an address reaches, as far as it matters here.
type scope uint8

const (
	scopeNone     scope = iota // no tracker can be there: never
	scopeLoopback              // this machine
	scopePrivate               // this network
	scopeGlobal                // the world
)

var (
	broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	sharedNet = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598: behind a carrier's NAT, and VPNs
	zeroNet   = netip.MustParsePrefix("0.0.0.0/8")     // RFC 1122: this host; Linux connects to loopback
)

// classify returns the scope of an address. Link-local addresses are none:
// trackers are not there, but the metadata service of cloud machines is.
func classify(a netip.Addr) scope {
	a = a.Unmap()
	switch {
	case !a.IsValid(), a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast(), a == broadcast, zeroNet.Contains(a):
		return scopeNone
	case a.IsLoopback():
		return scopeLoopback
	case a.IsPrivate(), sharedNet.Contains(a):
		return scopePrivate
	}
	return scopeGlobal
}

// checkURL refuses schemes that are not ours, hosts that are missing, and
// internationalised ones, which are good for looking like another (libtorrent
// refuses them by default too).
func checkURL(u *url.URL) error {
	switch u.Scheme {
	case "http", "https", "udp":
	default:
		return fmt.Errorf("scheme %q is not supported", cut(u.Scheme, 20))
	}
	host := strings.ToLower(u.Hostname())
	if host == "" {
		return errors.New("URL has no host")
	}
	for label := range strings.SplitSeq(host, ".") {
		if strings.HasPrefix(label, "xn--") {
			return errors.New("internationalised host names are not supported")
		}
	}
	for i := range len(host) {
		if host[i] <= ' ' || host[i] >= 0x7f {
			return errors.New("host name is not plain ASCII")
		}
	}
	return nil
}

// hops follows one announce over its redirects and decides, at each address
// that is about to be connected to, whether it may be. It is asked after names
// are resolved, so that a name cannot mean one address when it is checked and
// another when it is used. Safe for concurrent use: addresses of both families
// are tried at once.
type hops struct {
	classify func(netip.Addr) scope
	allow    func(netip.Addr) error

	mu         sync.Mutex
	path       string // of the URL that is being fetched
	redirected bool
	global     bool // a global address was connected to
}

// redirect notes that the announce goes on at u.
func (h *hops) redirect(u *url.URL) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.path, h.redirected = u.Path, true
}

// check returns an error if a must not be connected to.
func (h *hops) check(a netip.Addr) error {
	a = a.Unmap()
	if h.allow != nil {
		if err := h.allow(a); err != nil {
			return fmt.Errorf("address %v is not allowed: %w", a, err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch s := h.classify(a); {
	case s == scopeNone:
		return fmt.Errorf("no tracker can be at address %v", a)
	case s == scopeGlobal:
		h.global = true
	case h.redirected && h.global:
		return fmt.Errorf("tracker on the internet redirects to local address %v", a)
	case s == scopeLoopback && h.path != "/announce":
		// A torrent must not choose what is fetched from the services of
		// this machine (libtorrent's rule).
		return fmt.Errorf("tracker at local address %v is not called /announce", a)
	}
	return nil
}
