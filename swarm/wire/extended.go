package wire

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Names of the extensions that this package knows, as they stand in
// ExtHandshake.M.
const (
	ExtMetadata = "ut_metadata" // BEP 9
	ExtPex      = "ut_pex"      // BEP 11
	ExtDontHave = "lt_donthave" // BEP 54
)

// ExtHandshakeID is the identifier of the extended handshake (Message.Ext).
const ExtHandshakeID = 0

// MaxMetadataSize is the longest info dictionary that is fetched from peers,
// in bytes. libtorrent and rain draw the line there too.
const MaxMetadataSize = 30 << 20

// Bounds on what an extended handshake makes us keep.
const (
	maxExtensions   = 64      // a busy client names about ten
	maxExtensionLen = 32      // bytes of a name
	maxVersionLen   = 64      // bytes
	maxRequests     = 1 << 16 // more than any queue of ours
)

// ExtHandshake is the dictionary in the extended message number 0 (BEP 10).
// The zero value of a field means that it was not, or is not to be, said.
type ExtHandshake struct {
	// M says under which identifier (Message.Ext) its sender wants to
	// receive the messages of an extension. 0 switches the extension off. A
	// later handshake changes only what it names.
	M map[string]uint8
	// Version is the name of the client, at most 64 bytes of printable text.
	Version string
	// Port is the TCP port on which the sender listens.
	Port uint16
	// Requests is how many outstanding requests the sender keeps before it
	// drops some (reqq), at most 65536.
	Requests int
	// MetadataSize is the length of the info dictionary in bytes (BEP 9),
	// never more than MaxMetadataSize.
	MetadataSize int
	// YourIP is the receiver's address as the sender sees it.
	YourIP netip.Addr
	// IPv4 and IPv6 are further addresses of the sender.
	IPv4, IPv6 netip.Addr
	// UploadOnly says that the sender will not download (BEP 21).
	UploadOnly bool
}

// ParseExtHandshake reads the payload of an extended handshake. A value of a
// wrong type or out of range counts as not said, as clients differ in what they
// put there; only a payload that is no dictionary, or beyond the bounds of any
// honest one, is a *ProtocolError.
func ParseExtHandshake(payload []byte) (ExtHandshake, error) {
	d, _, err := parseDict(payload)
	if err != nil {
		return ExtHandshake{}, err
	}
	h := ExtHandshake{
		Version:      printable(d.bytes("v"), maxVersionLen),
		Port:         uint16(d.number("p", 65535)),
		Requests:     int(min(d.number("reqq", 1<<62), maxRequests)),
		MetadataSize: int(d.number("metadata_size", MaxMetadataSize)),
		YourIP:       address(d.bytes("yourip"), 0),
		IPv4:         address(d.bytes("ipv4"), 4),
		IPv6:         address(d.bytes("ipv6"), 16),
		UploadOnly:   d.number("upload_only", 1<<62) != 0,
	}
	var m dict
	if raw, ok := d["m"]; ok && dictBounds.Decode(raw, &m) == nil {
		h.M = extensions(m)
	}
	return h, nil
}

// extensions keeps of m what has a usable name and identifier. Of a map beyond
// the bound nothing is kept, as which part of it would be chance.
func extensions(m dict) map[string]uint8 {
	if len(m) > maxExtensions {
		return nil
	}
	out := make(map[string]uint8, len(m))
	for name, raw := range m {
		var id uint8
		if len(name) <= maxExtensionLen && dictBounds.Decode(raw, &id) == nil {
			out[name] = id
		}
	}
	return out
}

// AppendExtHandshake appends the payload of an extended handshake: to be sent
// as Message{Kind: Extended, Ext: ExtHandshakeID, Data: payload}.
func AppendExtHandshake(dst []byte, h ExtHandshake) []byte {
	d := struct {
		IPv4         []byte           `bencode:"ipv4,omitempty"`
		IPv6         []byte           `bencode:"ipv6,omitempty"`
		M            map[string]uint8 `bencode:"m"`
		MetadataSize int              `bencode:"metadata_size,omitempty"`
		Port         uint16           `bencode:"p,omitempty"`
		Requests     int              `bencode:"reqq,omitempty"`
		UploadOnly   int              `bencode:"upload_only"` // 0 takes back what was said before
		Version      string           `bencode:"v,omitempty"`
		YourIP       []byte           `bencode:"yourip,omitempty"`
	}{
		IPv4: h.IPv4.AsSlice(), IPv6: h.IPv6.AsSlice(), YourIP: h.YourIP.AsSlice(),
		M: h.M, MetadataSize: h.MetadataSize, Port: h.Port, Requests: h.Requests, Version: h.Version,
	}
	if d.M == nil {
		d.M = map[string]uint8{} // BEP 10 requires the key
	}
	if h.UploadOnly {
		d.UploadOnly = 1
	}
	return append(dst, marshal(d)...)
}

// ParseDontHave reads the payload of an lt_donthave message: the piece that
// the peer no longer has (BEP 54). The index is unchecked.
func ParseDontHave(payload []byte) (piece uint32, err error) {
	if len(payload) != 4 {
		return 0, breach("lt_donthave of %d bytes", len(payload))
	}
	return binary.BigEndian.Uint32(payload), nil
}

// AppendDontHave appends the payload of an lt_donthave message (BEP 54).
func AppendDontHave(dst []byte, piece uint32) []byte {
	return binary.BigEndian.AppendUint32(dst, piece)
}

// address returns the address of 4 or 16 bytes in p, or the zero Addr for
// anything else. If length is not 0, only that length will do.
func address(p []byte, length int) netip.Addr {
	if length != 0 && len(p) != length {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(p)
	return a
}

// printable returns the printable part of p, at most limit bytes of it: names
// end up in logs and on terminals, where control characters do harm.
func printable(p []byte, limit int) string {
	var b strings.Builder
	for _, r := range string(p[:min(len(p), 4*limit)]) {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			continue
		}
		if b.Len()+utf8.RuneLen(r) > limit {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
