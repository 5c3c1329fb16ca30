package metainfo

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Bounds on the addresses that a torrent or magnet link may make us talk to.
// Lists that people pass around have some hundred trackers.
const (
	maxURLs   = 500 // trackers
	maxSeeds  = 100 // web seeds or nodes
	maxURLLen = 4096
)

var (
	trackerSchemes = []string{"http", "https", "udp"}
	webSchemes     = []string{"http", "https"}
)

// cleanURL returns a URL without the white space around it, if it is one that
// we would ever open: others (file:, unix:, no host) are dropped where they
// are read, so that nobody has to think of them again. It does not rewrite
// what it returns, as passkeys are compared byte for byte.
func cleanURL(s string, schemes []string) (string, bool) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > maxURLLen {
		return "", false
	}
	u, err := url.Parse(s)
	if err != nil || !slices.Contains(schemes, u.Scheme) || u.Hostname() == "" {
		return "", false
	}
	if port := u.Port(); port != "" || u.Scheme == "udp" { // BEP 15 has no default port
		if !validPort(port) {
			return "", false
		}
	}
	return s, true
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// cleanHostPort returns "host:port" in one form, if it is one.
func cleanHostPort(s string) (string, bool) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", false
	}
	return joinHostPort(host, port)
}

func joinHostPort(host, port string) (string, bool) {
	if !validHost(host) || !validPort(port) {
		return "", false
	}
	return net.JoinHostPort(host, port), true
}

// validHost accepts IP addresses and what can be a name in the DNS.
func validHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	if s == "" || len(s) > 253 {
		return false
	}
	for _, c := range s {
		if c <= ' ' || c == 0x7f || strings.ContainsRune(`/\:?#[]@%"<>`, c) {
			return false
		}
	}
	return true
}

// appendURL adds a URL that is clean and not there yet.
func appendURL(list []string, s string, schemes []string) []string {
	if s, ok := cleanURL(s, schemes); ok && len(list) < maxURLs && !slices.Contains(list, s) {
		return append(list, s)
	}
	return list
}

// urls reads a string or a list of strings, as url-list may be either (BEP 19).
func urls(v value, schemes []string) (list []string) {
	if !v.isList() {
		s, _ := decode[string](v, 1)
		return appendURL(nil, s, schemes)
	}
	items, _ := decode[[]any](v, maxSeeds)
	for _, item := range items {
		if s, ok := item.(string); ok {
			list = appendURL(list, s, schemes)
		}
	}
	return list
}

// trackers reads the tiers of announce-list, or announce if it has none that
// can be used (BEP 12). Tiers left without a tracker go, and a tracker named
// twice keeps its first place.
func trackers(announce, announceList value) (tiers [][]string) {
	items, _ := decode[[]any](announceList, 2*maxURLs)
	var seen []string
	for _, item := range items {
		tier, ok := item.([]any)
		if !ok {
			tier = []any{item} // some makers write a flat list
		}
		start := len(seen)
		for _, x := range tier {
			if s, ok := x.(string); ok {
				seen = appendURL(seen, s, trackerSchemes)
			}
		}
		if len(seen) > start {
			tiers = append(tiers, slices.Clone(seen[start:]))
		}
	}
	if len(tiers) == 0 {
		if list := urls(announce, trackerSchemes); len(list) > 0 {
			tiers = [][]string{list[:1]}
		}
	}
	return tiers
}

// nodes reads the DHT nodes of a trackerless torrent (BEP 5): pairs of host
// and port.
func nodes(v value) (list []string) {
	items, _ := decode[[]any](v, 3*maxSeeds)
	for _, item := range items {
		pair, _ := item.([]any)
		if len(pair) != 2 {
			continue
		}
		host, _ := pair[0].(string)
		port, ok := pair[1].(int64)
		if !ok {
			continue
		}
		if s, ok := joinHostPort(host, strconv.FormatInt(port, 10)); ok && len(list) < maxURLs && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
