package tracker

import (
	"encoding/binary"
	"errors"
	"net/url"
	"strings"
	"time"
)

// Actions of the UDP tracker protocol (BEP 15).
const (
	actionConnect  = 0
	actionAnnounce = 1
	actionScrape   = 2
	actionError    = 3
)

const (
	udpMagic      = 0x41727101980 // the connection id of a connect request
	udpOptionURL  = 2             // BEP 41: a part of the URL
	udpHeaderLen  = 8             // of an answer: action, transaction id
	udpConnectLen = udpHeaderLen + 8
	udpPeersAt    = udpHeaderLen + 12 // interval, leechers, seeders
	udpScrapeLen  = udpHeaderLen + 12 // seeders, completed, leechers: of one torrent
)

// appendConnect appends a connect request.
func appendConnect(dst []byte, transaction uint32) []byte {
	dst = binary.BigEndian.AppendUint64(dst, udpMagic)
	dst = binary.BigEndian.AppendUint32(dst, actionConnect)
	return binary.BigEndian.AppendUint32(dst, transaction)
}

// appendAnnounce appends an announce request; uri is the path and query of the
// tracker's URL, where passkeys are (BEP 41).
func appendAnnounce(dst []byte, connection uint64, transaction uint32, uri string, r Request) []byte {
	be := binary.BigEndian
	dst = be.AppendUint64(dst, connection)
	dst = be.AppendUint32(dst, actionAnnounce)
	dst = be.AppendUint32(dst, transaction)
	dst = append(dst, r.InfoHash[:]...)
	dst = append(dst, r.PeerID[:]...)
	for _, n := range [...]int64{r.Downloaded, r.Left, r.Uploaded} {
		dst = be.AppendUint64(dst, uint64(max(0, n)))
	}
	dst = be.AppendUint32(dst, uint32(r.Event))
	dst = be.AppendUint32(dst, 0) // address: where the packet comes from
	dst = be.AppendUint32(dst, r.Key)
	dst = be.AppendUint32(dst, uint32(r.numWant()))
	dst = be.AppendUint16(dst, r.Port)
	for len(uri) > 0 {
		part := uri[:min(len(uri), 255)]
		dst = append(append(dst, udpOptionURL, byte(len(part))), part...)
		uri = uri[len(part):]
	}
	return dst
}

// udpHeader returns the action and the transaction of an answer.
func udpHeader(p []byte) (action, transaction uint32, ok bool) {
	if len(p) < udpHeaderLen {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(p), binary.BigEndian.Uint32(p[4:]), true
}

var errShortPacket = errors.New("answer is too short")

// parseConnect reads the answer to a connect request.
func parseConnect(p []byte) (connection uint64, err error) {
	if len(p) < udpConnectLen {
		return 0, errShortPacket
	}
	return binary.BigEndian.Uint64(p[udpHeaderLen:]), nil
}

// parseAnnounce reads the answer to an announce request. The length of the
// peers' addresses, 4 or 16 bytes, is that of the tracker's own.
func parseAnnounce(p []byte, ipLen int) (Response, error) {
	if len(p) < udpPeersAt {
		return Response{}, errShortPacket
	}
	number := func(at int) int { return int(int32(binary.BigEndian.Uint32(p[at:]))) }
	resp := Response{
		Interval: time.Duration(max(0, number(8))) * time.Second,
		Leechers: max(-1, number(12)),
		Seeders:  max(-1, number(16)),
	}
	var peers peerSet
	peers.addCompact(p[udpPeersAt:], ipLen)
	resp.Peers = peers.list
	return resp, nil
}

// parseUDPError reads an error answer.
func parseUDPError(p []byte, u *url.URL) *FailureError {
	return &FailureError{Reason: clip(p[udpHeaderLen:], u)}
}

// staleConnection reports whether a tracker refused the connection id and not
// the announce. The protocol has no code for that; this covers the words of the
// trackers in use, "Connection ID missmatch." of opentracker among them.
func staleConnection(f *FailureError) bool {
	return strings.Contains(strings.ToLower(f.Reason), "connection")
}
