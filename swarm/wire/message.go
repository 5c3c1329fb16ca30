package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// Kind is what a message says. The values are our own, not the identifiers
// used on the wire.
type Kind uint8

// The kinds of message. Fields of Message that a kind does not name are zero.
const (
	KeepAlive     Kind = iota // BEP 3
	Choke                     // BEP 3
	Unchoke                   // BEP 3
	Interested                // BEP 3
	NotInterested             // BEP 3
	Have                      // BEP 3: Index
	Bitfield                  // BEP 3: Data, read it with ParseBitfield
	Request                   // BEP 3: Index, Begin, Length
	Piece                     // BEP 3: Index, Begin, Data; Length is len(Data)
	Cancel                    // BEP 3: Index, Begin, Length
	Port                      // BEP 5: Index is the UDP port of the peer's DHT node
	Suggest                   // BEP 6: Index
	HaveAll                   // BEP 6
	HaveNone                  // BEP 6
	Reject                    // BEP 6: Index, Begin, Length
	AllowedFast               // BEP 6: Index
	Extended                  // BEP 10: Ext is the extended message's identifier, Data its payload
	Unknown                   // anything else, to be skipped: Ext is the identifier, Data the payload
)

// Identifiers on the wire, and with them the payload's length: exact, or at
// least so much where atLeast is set.
type shape struct {
	id      uint8
	payload uint32
	atLeast bool
	name    string
}

var shapes = [...]shape{
	KeepAlive:     {name: "keep-alive"}, // has no identifier; never looked up by it
	Choke:         {id: 0, name: "choke"},
	Unchoke:       {id: 1, name: "unchoke"},
	Interested:    {id: 2, name: "interested"},
	NotInterested: {id: 3, name: "not interested"},
	Have:          {id: 4, payload: 4, name: "have"},
	Bitfield:      {id: 5, atLeast: true, name: "bitfield"},
	Request:       {id: 6, payload: 12, name: "request"},
	Piece:         {id: 7, payload: 8, atLeast: true, name: "piece"},
	Cancel:        {id: 8, payload: 12, name: "cancel"},
	Port:          {id: 9, payload: 2, name: "port"},
	Suggest:       {id: 0x0d, payload: 4, name: "suggest"},
	HaveAll:       {id: 0x0e, name: "have all"},
	HaveNone:      {id: 0x0f, name: "have none"},
	Reject:        {id: 0x10, payload: 12, name: "reject"},
	AllowedFast:   {id: 0x11, payload: 4, name: "allowed fast"},
	Extended:      {id: 20, payload: 1, atLeast: true, name: "extended"},
	Unknown:       {atLeast: true, name: "unknown"},
}

// kinds maps an identifier on the wire to its kind; everything that is not
// listed in shapes is Unknown, BEP 52's hash messages among it.
var kinds = func() (t [256]Kind) {
	for i := range t {
		t[i] = Unknown
	}
	for k := Choke; k < Unknown; k++ {
		t[shapes[k].id] = k
	}
	return t
}()

// String returns the name that the BEPs use.
func (k Kind) String() string {
	if int(k) < len(shapes) {
		return shapes[k].name
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Message is one message of a peer. Which fields count depends on Kind. The
// numbers are the peer's own and unchecked: compare them with the torrent's
// layout before use.
type Message struct {
	Kind   Kind
	Ext    uint8  // identifier inside Extended, or of an Unknown message
	Index  uint32 // piece; for Port the port
	Begin  uint32 // offset in the piece, in bytes
	Length uint32 // of the block, in bytes
	Data   []byte // payload; aliases the buffer it was parsed from
}

// ProtocolError is a breach of the protocol. The connection cannot go on:
// after a wrong length nobody knows where the next message starts.
type ProtocolError struct {
	Reason string // one line, without anything that the peer sent as text
}

// Error implements error.
func (e *ProtocolError) Error() string { return "peer breaks the protocol: " + e.Reason }

func breach(format string, args ...any) error {
	return &ProtocolError{Reason: fmt.Sprintf(format, args...)}
}

const (
	prefixLen = 4             // the big-endian length in front of each message
	headerLen = prefixLen + 1 // and the identifier that all but a keep-alive have
)

// Parse returns the first message in buf and how many bytes it took. Data
// aliases buf, so it holds as long as these bytes are not overwritten. Parse
// does not allocate unless it returns a *ProtocolError.
//
// The limit is the longest length prefix that is accepted, in bytes, the
// identifier included and the prefix itself not. A message beyond it, or of a
// length that its kind cannot have, is a *ProtocolError as soon as its header
// is there, so that no peer can make the caller wait for, or make room for,
// something that will be refused anyway. While buf holds less than a message
// the error is io.ErrUnexpectedEOF and n is 0; Need then says how much to read.
func Parse(buf []byte, limit int) (m Message, n int, err error) {
	if len(buf) < prefixLen {
		return Message{}, 0, io.ErrUnexpectedEOF
	}
	length := binary.BigEndian.Uint32(buf)
	if length == 0 {
		return Message{Kind: KeepAlive}, prefixLen, nil
	}
	// In 64 bits: the length is the peer's and may be 2^32-1.
	if int64(length) > int64(limit) {
		return Message{}, 0, breach("message of %d bytes, at most %d are allowed", length, limit)
	}
	if len(buf) < headerLen {
		return Message{}, 0, io.ErrUnexpectedEOF
	}
	id := buf[prefixLen]
	kind := kinds[id]
	s := &shapes[kind]
	if length-1 < s.payload || (length-1 > s.payload && !s.atLeast) {
		return Message{}, 0, breach("%s message of %d bytes", s.name, length)
	}
	if uint64(len(buf)) < prefixLen+uint64(length) {
		return Message{}, 0, io.ErrUnexpectedEOF
	}
	n = prefixLen + int(length)
	m = Message{Kind: kind}
	// The capacity is cut too, so that an append to Data cannot reach into
	// the message behind it.
	p := buf[headerLen:n:n]
	switch kind {
	case Have, Suggest, AllowedFast:
		m.Index = binary.BigEndian.Uint32(p)
	case Request, Cancel, Reject:
		m.Index = binary.BigEndian.Uint32(p)
		m.Begin = binary.BigEndian.Uint32(p[4:])
		m.Length = binary.BigEndian.Uint32(p[8:])
	case Piece:
		m.Index = binary.BigEndian.Uint32(p)
		m.Begin = binary.BigEndian.Uint32(p[4:])
		m.Data = p[8:]
		m.Length = uint32(len(m.Data))
	case Bitfield:
		m.Data = p
	case Port:
		m.Index = uint32(binary.BigEndian.Uint16(p))
	case Extended:
		m.Ext, m.Data = p[0], p[1:]
	case Unknown:
		m.Ext, m.Data = id, p
	}
	return m, n, nil
}

// Need returns how many bytes the message at the start of buf takes in all, or
// 0 while its length prefix is not complete. The number is the peer's: it is
// bounded only after Parse has returned io.ErrUnexpectedEOF for a buffer of at
// least four bytes, and must not size an allocation before that.
func Need(buf []byte) int {
	if len(buf) < prefixLen {
		return 0
	}
	return int(min(prefixLen+uint64(binary.BigEndian.Uint32(buf)), math.MaxInt))
}

// Append appends m as it goes over the wire. Only the fields that its kind
// names are used; the length of a Piece is that of its Data. It panics if m has
// no kind of the list, or a port beyond 65535.
func Append(dst []byte, m Message) []byte {
	s := &shapes[m.Kind]
	be := binary.BigEndian
	switch m.Kind {
	case KeepAlive:
		return append(dst, 0, 0, 0, 0)
	case Choke, Unchoke, Interested, NotInterested, HaveAll, HaveNone:
		return header(dst, s.id, 0)
	case Have, Suggest, AllowedFast:
		return be.AppendUint32(header(dst, s.id, 4), m.Index)
	case Request, Cancel, Reject:
		dst = be.AppendUint32(header(dst, s.id, 12), m.Index)
		return be.AppendUint32(be.AppendUint32(dst, m.Begin), m.Length)
	case Piece:
		dst = be.AppendUint32(header(dst, s.id, 8+len(m.Data)), m.Index)
		return append(be.AppendUint32(dst, m.Begin), m.Data...)
	case Bitfield:
		return append(header(dst, s.id, len(m.Data)), m.Data...)
	case Port:
		if m.Index > math.MaxUint16 {
			panic(fmt.Sprintf("wire: append port %d", m.Index))
		}
		return be.AppendUint16(header(dst, s.id, 2), uint16(m.Index))
	case Extended:
		dst = append(header(dst, s.id, 1+len(m.Data)), m.Ext)
		return append(dst, m.Data...)
	case Unknown:
		return append(header(dst, m.Ext, len(m.Data)), m.Data...)
	}
	panic("wire: append " + m.Kind.String())
}

// AppendPieceHeader appends the 13 bytes in front of a block of length bytes,
// for a sender that writes the block from where it already is.
func AppendPieceHeader(dst []byte, index, begin uint32, length int) []byte {
	dst = header(dst, shapes[Piece].id, 8+length)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(dst, index), begin)
}

func header(dst []byte, id uint8, payload int) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(1+payload)), id)
}
