// Package wire reads and writes what BitTorrent peers say to each other: the
// handshake, the messages of BEP 3, 5 and 6, and the payloads of the extension
// protocol of BEP 10 (its handshake, BEP 9, 11 and 54).
//
// It is pure: bytes in, values out. It owns no socket, clock or goroutine, and
// everything in it may be called from anywhere at any time.
//
//	socket ──► buffer ──Parse──► Message ──► engine
//	socket ◄── buffer ◄─Append── Message ◄── engine
//
// A message on the wire is framed; what an extended message carries is not:
// Parse and Append handle the frame, and the Parse… and Append… functions of
// one extension handle the payload, Message.Data, alone.
//
// Two errors exist. io.ErrUnexpectedEOF means that the buffer ends before the
// message does: read more and ask again. A *ProtocolError means that no more
// bytes will make it right: drop the peer.
package wire
