package wire

import "math"

// MetadataType says what a ut_metadata message is (BEP 9).
type MetadataType uint8

// The types of ut_metadata messages. Others are to be ignored.
const (
	MetadataRequest MetadataType = 0
	MetadataData    MetadataType = 1
	MetadataReject  MetadataType = 2
	MetadataUnknown MetadataType = 255
)

// MetadataPieceLen is the length of each piece of an info dictionary but the
// last, in bytes (BEP 9).
const MetadataPieceLen = 16 << 10

// Metadata is a message of the extension ut_metadata.
type Metadata struct {
	Type      MetadataType
	Piece     int    // number of the piece, unchecked but never negative
	TotalSize int    // MetadataData: length of the whole in bytes; 0 if not said
	Data      []byte // MetadataData: the piece; aliases the payload
}

// ParseMetadata reads the payload of a ut_metadata message. A type that BEP 9
// does not know is MetadataUnknown and no error. A piece number that is missing
// or impossible, or more data than a piece holds, is a *ProtocolError.
func ParseMetadata(payload []byte) (Metadata, error) {
	d, n, err := parseDict(payload)
	if err != nil {
		return Metadata{}, err
	}
	var kind, piece int64
	if dictBounds.Decode(d["msg_type"], &kind) != nil {
		return Metadata{}, breach("ut_metadata without a type")
	}
	if kind < 0 || kind > int64(MetadataReject) {
		return Metadata{Type: MetadataUnknown}, nil
	}
	m := Metadata{Type: MetadataType(kind)}
	if dictBounds.Decode(d["piece"], &piece) != nil || piece < 0 || piece > math.MaxInt32 {
		return Metadata{}, breach("ut_metadata without a piece number")
	}
	m.Piece = int(piece)
	if m.Type != MetadataData {
		return m, nil
	}
	m.TotalSize = int(d.number("total_size", MaxMetadataSize))
	if m.Data = payload[n:]; len(m.Data) > MetadataPieceLen {
		return Metadata{}, breach("ut_metadata piece of %d bytes", len(m.Data))
	}
	return m, nil
}

// AppendMetadata appends the payload of a ut_metadata message.
func AppendMetadata(dst []byte, m Metadata) []byte {
	d := struct {
		Type      int `bencode:"msg_type"`
		Piece     int `bencode:"piece"`
		TotalSize int `bencode:"total_size,omitempty"`
	}{Type: int(m.Type), Piece: m.Piece}
	if m.Type != MetadataData {
		return append(dst, marshal(d)...)
	}
	d.TotalSize = m.TotalSize
	return append(append(dst, marshal(d)...), m.Data...)
}
