package tracker

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"net/url"
	"time"
)

// parseAnswer reads the body of an HTTP tracker's answer: BEP 3, with compact
// peers (BEP 23, BEP 7) or dictionaries of them. Values of a wrong type count
// as not said. Texts are cleaned of the secrets of u, the tracker's URL.
func parseAnswer(body []byte, u *url.URL) (Response, error) {
	d, err := parseDict(body)
	if err != nil {
		return Response{}, err
	}
	if reason, ok := d.bytes("failure reason"); ok {
		return Response{}, parseFailure(d, clip(reason, u))
	}
	resp := Response{
		Interval:    d.seconds("interval"),
		MinInterval: d.seconds("min interval"),
		Seeders:     d.count("complete"),
		Leechers:    d.count("incomplete"),
	}
	if w, ok := d.bytes("warning message"); ok {
		resp.Warning = clip(w, u)
	}
	// A long identifier would come back to the tracker with each announce: a
	// cut one would mean somebody else, so it is all or nothing.
	if id, ok := d.bytes("tracker id"); ok && len(id) <= maxTextLen {
		resp.TrackerID = string(id)
	}
	if ip, ok := d.bytes("external ip"); ok {
		a, _ := netip.AddrFromSlice(ip)
		resp.ExternalIP = a.Unmap()
	}
	var peers peerSet
	if list, ok := d.bytes("peers"); ok {
		peers.addCompact(list, 4)
	} else {
		eachDict(d["peers"], func(p dict) bool {
			peers.addDict(p)
			return !peers.full()
		})
	}
	if list, ok := d.bytes("peers6"); ok {
		peers.addCompact(list, 16)
	}
	resp.Peers = peers.list
	return resp, nil
}

// parseFailure reads a refusal, with its "retry in": minutes, or never (BEP 31).
func parseFailure(d dict, reason string) error {
	f := &FailureError{Reason: reason}
	if word, ok := d.bytes("retry in"); ok {
		f.Never = string(word) == "never"
	} else if minutes, ok := d.number("retry in"); ok && minutes > 0 {
		f.RetryIn = time.Duration(min(minutes, math.MaxInt32)) * time.Minute
	}
	return f
}

// seconds returns the duration under key, 0 if there is none.
func (d dict) seconds(key string) time.Duration {
	n, _ := d.number(key)
	return time.Duration(min(max(n, 0), math.MaxInt32)) * time.Second
}

// count returns the number under key, -1 if there is none.
func (d dict) count(key string) int {
	n, ok := d.number(key)
	if !ok || n < 0 {
		return -1
	}
	return int(min(n, math.MaxInt32))
}

// peerSet collects peers: distinct ones that a connection can be made to, up to
// MaxPeers.
type peerSet struct {
	list []netip.AddrPort
	seen map[netip.AddrPort]struct{}
}

// full is to be asked before add.
func (s *peerSet) full() bool { return len(s.list) >= MaxPeers }

func (s *peerSet) add(a netip.AddrPort) {
	ip := a.Addr()
	if a.Port() == 0 || !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() || ip == broadcast {
		return
	}
	if _, double := s.seen[a]; double {
		return
	}
	if s.seen == nil {
		s.seen = make(map[netip.AddrPort]struct{})
	}
	s.seen[a] = struct{}{}
	s.list = append(s.list, a)
}

// addCompact adds addresses of ipLen bytes, each with its port. What is left
// over at the end is less than a peer, and ignored.
func (s *peerSet) addCompact(list []byte, ipLen int) {
	for ; len(list) >= ipLen+2 && !s.full(); list = list[ipLen+2:] {
		ip, _ := netip.AddrFromSlice(list[:ipLen])
		s.add(netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(list[ipLen:])))
	}
}

// addDict adds a peer in the form of BEP 3. Names in place of addresses are
// ignored: to look up names of a stranger's choice is no service of ours.
func (s *peerSet) addDict(p dict) {
	text, _ := p.bytes("ip")
	port, _ := p.number("port")
	if len(text) > 64 || port < 1 || port > math.MaxUint16 {
		return
	}
	ip, err := netip.ParseAddr(string(text))
	if err != nil || ip.Zone() != "" {
		return
	}
	s.add(netip.AddrPortFrom(ip.Unmap(), uint16(port)))
}

var errNotDict = errors.New("answer is not a bencoded dictionary")
