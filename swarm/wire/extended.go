package wire

import (
	"net/netip"
)

// Names of the extensions that this package knows, as they stand in M.
const (
	ExtMetadata = "ut_metadata" // BEP 9
	ExtPex      = "ut_pex"      // BEP 11
	ExtDontHave = "lt_donthave" // BEP 54
)

// ExtHandshakeID is the identifier of the extended handshake (Message.Ext).
const ExtHandshakeID = 0

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
	// drops some (reqq).
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
