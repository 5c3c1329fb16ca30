package lsd

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// The groups of BEP 14, for IPv4 and for IPv6.
var (
	group4 = netip.MustParseAddrPort("239.192.152.143:6771")
	group6 = netip.MustParseAddrPort("[ff15::efc0:988f]:6771")
)

const (
	// maxPacket is what fits into a datagram that nobody cuts (BEP 14).
	maxPacket = 1400
	// maxHashes is how many torrents one packet names: as many as fit.
	maxHashes = 20
	maxCookie = 64
)

// message is one announcement: somebody who accepts peers at a port of the address
// that it comes from has these torrents.
type message struct {
	port   uint16
	hashes [][20]byte
	cookie string // of the sender's choice, to know its own by
}

// append appends the packet for a group.
func (m message) append(dst []byte, group netip.AddrPort) []byte {
	dst = fmt.Appendf(dst, "BT-SEARCH * HTTP/1.1\r\nHost: %s\r\nPort: %d\r\n", group, m.port)
	for _, h := range m.hashes {
		dst = fmt.Appendf(dst, "Infohash: %x\r\n", h)
	}
	return fmt.Appendf(dst, "cookie: %s\r\n\r\n\r\n", m.cookie)
}

// parse reads a packet. What is not of use in it is left out; false says that
// nothing is.
func parse(packet []byte) (m message, ok bool) {
	if len(packet) > maxPacket {
		return m, false
	}
	first, rest, _ := bytes.Cut(packet, []byte("\n"))
	if strings.TrimRight(string(first), "\r") != "BT-SEARCH * HTTP/1.1" {
		return m, false
	}
	for line := range strings.Lines(string(rest)) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "port":
			port, err := strconv.ParseUint(value, 10, 16)
			if err != nil {
				return message{}, false
			}
			m.port = uint16(port)
		case "infohash":
			h, err := hex.DecodeString(value)
			if err == nil && len(h) == 20 && len(m.hashes) < maxHashes {
				m.hashes = append(m.hashes, [20]byte(h))
			}
		case "cookie":
			m.cookie = value[:min(len(value), maxCookie)]
		}
	}
	if m.port == 0 || len(m.hashes) == 0 {
		return message{}, false
	}
	return m, true
}
