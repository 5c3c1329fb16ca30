package wire

import (
	"encoding/binary"
	"net/netip"
)

// MaxPexPeers is how many peers of each family and direction one message may
// name. BEP 11 says 50, except for the first message after the handshake.
const MaxPexPeers = 200

// PexFlag is what a ut_pex message says about a peer (BEP 11).
type PexFlag uint8

// The flags of a peer.
const (
	PexEncryption PexFlag = 0x01 // prefers encryption
	PexUploadOnly PexFlag = 0x02 // is a seed or will not download
	PexUTP        PexFlag = 0x04 // speaks uTP
	PexHolepunch  PexFlag = 0x08 // speaks ut_holepunch
	PexReachable  PexFlag = 0x10 // accepts connections
)

// PexPeer is a peer that another peer tells of.
type PexPeer struct {
	Addr  netip.AddrPort
	Flags PexFlag
}

// Pex is a message of the extension ut_pex: whom its sender connected to, and
// whom it lost, since its last message.
type Pex struct {
	Added   []PexPeer
	Dropped []netip.AddrPort
}

// ParsePex reads the payload of a ut_pex message. Addresses that nobody can be
// reached at (port 0, unspecified, multicast, broadcast) are left out; a list
// that is cut in the middle of a peer, or longer than MaxPexPeers, is a
// *ProtocolError.
func ParsePex(payload []byte) (Pex, error) {
	d, _, err := parseDict(payload)
	if err != nil {
		return Pex{}, err
	}
	var p Pex
	for _, family := range [...]struct {
		suffix string
		ipLen  int
	}{{"", 4}, {"6", 16}} {
		added, dropped := d.bytes("added"+family.suffix), d.bytes("dropped"+family.suffix)
		flags := d.bytes("added" + family.suffix + ".f")
		for _, list := range [][]byte{added, dropped} {
			size := family.ipLen + 2
			if len(list)%size != 0 || len(list)/size > MaxPexPeers {
				return Pex{}, breach("ut_pex list of %d bytes, %d a peer", len(list), size)
			}
		}
		for i, a := range compactPeers(added, family.ipLen) {
			if !reachable(a) {
				continue
			}
			peer := PexPeer{Addr: a}
			if i < len(flags) {
				peer.Flags = PexFlag(flags[i])
			}
			p.Added = append(p.Added, peer)
		}
		for _, a := range compactPeers(dropped, family.ipLen) {
			if reachable(a) {
				p.Dropped = append(p.Dropped, a)
			}
		}
	}
	return p, nil
}

// AppendPex appends the payload of a ut_pex message.
func AppendPex(dst []byte, p Pex) []byte {
	var d struct {
		Added    []byte `bencode:"added"`
		AddedF   []byte `bencode:"added.f"`
		Added6   []byte `bencode:"added6,omitempty"`
		Added6F  []byte `bencode:"added6.f,omitempty"`
		Dropped  []byte `bencode:"dropped"`
		Dropped6 []byte `bencode:"dropped6,omitempty"`
	}
	for _, peer := range p.Added {
		if peer.Addr.Addr().Unmap().Is4() {
			d.Added = appendCompactPeer(d.Added, peer.Addr)
			d.AddedF = append(d.AddedF, byte(peer.Flags))
		} else {
			d.Added6 = appendCompactPeer(d.Added6, peer.Addr)
			d.Added6F = append(d.Added6F, byte(peer.Flags))
		}
	}
	for _, a := range p.Dropped {
		if a.Addr().Unmap().Is4() {
			d.Dropped = appendCompactPeer(d.Dropped, a)
		} else {
			d.Dropped6 = appendCompactPeer(d.Dropped6, a)
		}
	}
	return append(dst, marshal(d)...)
}

// compactPeers splits a list of addresses of ipLen bytes, each with its port
// (BEP 23, BEP 7). The list's length is a multiple of ipLen+2.
func compactPeers(list []byte, ipLen int) []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(list)/(ipLen+2))
	for ; len(list) > 0; list = list[ipLen+2:] {
		ip, _ := netip.AddrFromSlice(list[:ipLen])
		out = append(out, netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(list[ipLen:])))
	}
	return out
}

func appendCompactPeer(dst []byte, a netip.AddrPort) []byte {
	dst = append(dst, a.Addr().Unmap().WithZone("").AsSlice()...)
	return binary.BigEndian.AppendUint16(dst, a.Port())
}

// reachable reports whether a connection to a can make sense at all. Whether
// it is allowed is for the dialer to say.
func reachable(a netip.AddrPort) bool {
	ip := a.Addr()
	return a.Port() != 0 && !ip.IsUnspecified() && !ip.IsMulticast() &&
		ip != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
