package webseed

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
)

// checkURL refuses schemes that are not ours, hosts that are missing, and
// internationalised ones, which are good for looking like another (libtorrent
// refuses them by default too).
func checkURL(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("a web seed is neither http nor https")
	}
	host := strings.ToLower(u.Hostname())
	if host == "" {
		return errors.New("a web seed has no host")
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

var (
	sharedNet = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598: behind a carrier's NAT, and VPNs
	zeroNet   = netip.MustParsePrefix("0.0.0.0/8")     // RFC 1122: this host; Linux connects to loopback
	broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

// nowhere reports whether no web server can be at an address. Link-local ones
// count: web seeds are not there, but the metadata service of cloud machines is.
func nowhere(a netip.Addr) bool {
	return !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == broadcast || zeroNet.Contains(a)
}

func isLocal(a netip.Addr) bool { return a.IsLoopback() || a.IsPrivate() || sharedNet.Contains(a) }

// reach decides, at each address that is about to be connected to, whether it may
// be: after names are resolved, so that a name cannot mean one address when it is
// checked and another when it is used. A torrent must not choose what is asked of
// the services of this machine and its network (the rules are libtorrent's): no
// query is sent there, and nobody on the internet can send us there. It is safe
// for concurrent use.
type reach struct {
	mu     sync.Mutex
	query  bool // of the URL that is being fetched, given by the torrent or a redirect
	global bool // an address on the internet was connected to, ever
}

func (h *reach) asks(query bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.query = query
}

func (h *reach) check(a netip.Addr) error {
	a = a.Unmap()
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case nowhere(a):
		return fmt.Errorf("no web seed can be at address %v", a)
	case !isLocal(a):
		h.global = true
	case h.global:
		return fmt.Errorf("web seed on the internet leads to local address %v", a)
	case h.query:
		return fmt.Errorf("web seed at local address %v has a query", a)
	}
	return nil
}

const maxRedirects = 5

func (h *reach) redirect(next *http.Request, via []*http.Request) error {
	next.Header.Del("Referer") // it may hold a key
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	if err := checkURL(next.URL); err != nil {
		return fmt.Errorf("redirect: %w", err)
	}
	if last := via[len(via)-1].URL.Scheme; next.URL.Scheme != last && next.URL.Scheme != "https" {
		return fmt.Errorf("redirect from %s to %s", last, next.URL.Scheme)
	}
	h.asks(next.URL.RawQuery != "")
	return nil
}
