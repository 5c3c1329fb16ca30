package dht

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/anacrolix/torrent/bencode"
)

// saved is what outlives a restart: who we are, and whom we know. It is a
// dictionary as other clients keep it: "id" and "nodes" of IPv4, "id6" and
// "nodes6" of IPv6, the nodes in the compact form of BEP 5 and 32.
type saved struct{ v4, v6 half }

type half struct {
	id    [20]byte // zero: none yet
	nodes []contact
}

// contact is a node as it is passed on.
type contact struct {
	id   [20]byte
	addr netip.AddrPort
}

const (
	// Nodes saved of each family: the closest in each bucket come first, and a
	// third of them will be gone after a day.
	maxSaved = 300
	// What a file of ours has at most, in bytes.
	maxSavedSize = 64 << 10
)

type savedFile struct {
	ID     string `bencode:"id,omitempty"`
	ID6    string `bencode:"id6,omitempty"`
	Nodes  string `bencode:"nodes,omitempty"`
	Nodes6 string `bencode:"nodes6,omitempty"`
}

func (s *saved) half(v6 bool) *half {
	if v6 {
		return &s.v6
	}
	return &s.v4
}

// update takes over what is known now, and says whether that is anything new. A
// family that knows nobody keeps whom it knew.
func (s *saved) update(now saved) bool {
	changed := false
	for _, v6 := range []bool{false, true} {
		h := now.half(v6)
		if len(h.nodes) > 0 {
			*s.half(v6) = *h
			changed = true
		}
	}
	return changed
}

func (s *saved) marshal() []byte {
	f := savedFile{Nodes: compact(s.v4.nodes), Nodes6: compact(s.v6.nodes)}
	if s.v4.id != ([20]byte{}) {
		f.ID = string(s.v4.id[:])
	}
	if s.v6.id != ([20]byte{}) {
		f.ID6 = string(s.v6.id[:])
	}
	return bencode.MustMarshal(f) // strings only
}

func parseSaved(b []byte) (s saved, err error) {
	if len(b) > maxSavedSize {
		return s, fmt.Errorf("%d bytes are too many", len(b))
	}
	var f savedFile
	if err := bencode.Unmarshal(b, &f); err != nil {
		return s, err
	}
	if s.v4.id, err = parseID(f.ID); err != nil {
		return saved{}, err
	}
	if s.v6.id, err = parseID(f.ID6); err != nil {
		return saved{}, err
	}
	s.v4.nodes, s.v6.nodes = parseCompact(f.Nodes, 4), parseCompact(f.Nodes6, 16)
	return s, nil
}

func parseID(s string) (id [20]byte, err error) {
	if n := copy(id[:], s); len(s) > 0 && (n != len(id) || len(s) != len(id)) {
		return id, errors.New("a node id has 20 bytes")
	}
	return id, nil
}

func compact(nodes []contact) string {
	var b []byte
	for _, n := range nodes[:min(len(nodes), maxSaved)] {
		b = append(b, n.id[:]...)
		b = append(b, n.addr.Addr().AsSlice()...)
		b = append(b, byte(n.addr.Port()>>8), byte(n.addr.Port()))
	}
	return string(b)
}

// parseCompact reads nodes whose addresses have so many bytes; a rest is ignored.
func parseCompact(s string, ipLen int) []contact {
	var nodes []contact
	size := 20 + ipLen + 2
	for ; len(s) >= size && len(nodes) < maxSaved; s = s[size:] {
		var n contact
		copy(n.id[:], s)
		ip, _ := netip.AddrFromSlice([]byte(s[20 : 20+ipLen]))
		n.addr = netip.AddrPortFrom(ip, uint16(s[size-2])<<8|uint16(s[size-1]))
		if reachable(n.addr) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}
