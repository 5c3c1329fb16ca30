package tracker

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestRequestsHaveTheBytesOfBEP15(t *testing.T) {
	if got, want := hex.EncodeToString(appendConnect(nil, 0xcafe)), "0000041727101980"+"00000000"+"0000cafe"; got != want {
		t.Errorf("connect: got %s, want %s", got, want)
	}
	r := testRequest
	r.NumWant = 50
	got := appendAnnounce(nil, 0x0123456789abcdef, 0xcafe, "/announce?x", r)
	want := "0123456789abcdef" + "00000001" + "0000cafe" + hex.EncodeToString(r.InfoHash[:]) + hex.EncodeToString(r.PeerID[:]) +
		"0000000000000002" + "0000000000000003" + "0000000000000001" + "00000002" + "00000000" + "0000beef" + "00000032" + "1ae1" +
		"020b" + hex.EncodeToString([]byte("/announce?x"))
	if hex.EncodeToString(got) != want {
		t.Errorf("announce:\ngot  %x\nwant %s", got, want)
	}
}

func TestALongURLIsCutIntoOptionsOf255Bytes(t *testing.T) {
	uri := strings.Repeat("a", 300)
	const fixed = 98
	got := appendAnnounce(nil, 0, 0, uri, Request{})[fixed:]
	want := "\x02\xff" + uri[:255] + "\x02\x2d" + uri[255:]
	if string(got) != want {
		t.Errorf("got %q", got)
	}
	if got := appendAnnounce(nil, 0, 0, "", Request{}); len(got) != fixed {
		t.Errorf("no URL: %d bytes, want %d", len(got), fixed)
	}
}

func TestUDPAnswersAreRead(t *testing.T) {
	const header = "\x00\x00\x00\x01\x00\x00\xca\xfe" + "\x00\x00\x07\x08\x00\x00\x00\x02\x00\x00\x00\x03"
	peers4 := "\x01\x02\x03\x04\x1a\xe1" + "\x00\x00\x00\x00\x00\x01" + "\x05\x06\x07"
	peers6 := "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe2"
	for _, c := range []struct {
		name, packet string
		ipLen        int
		want         Response
	}{
		{"IPv4", header + peers4, 4, Response{Interval: 30 * time.Minute, Leechers: 2, Seeders: 3, Peers: addrPorts("1.2.3.4:6881")}},
		{"IPv6", header + peers6, 16, Response{Interval: 30 * time.Minute, Leechers: 2, Seeders: 3, Peers: addrPorts("[2001:db8::1]:6882")}},
		{"no peers", header, 4, Response{Interval: 30 * time.Minute, Leechers: 2, Seeders: 3}},
		{"negative numbers", header[:8] + strings.Repeat("\xff", 12), 4, Response{Leechers: -1, Seeders: -1}},
	} {
		got, err := parseAnnounce([]byte(c.packet), c.ipLen)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
	for i := range header {
		if _, err := parseAnnounce([]byte(header[:i]), 4); !errors.Is(err, errShortPacket) {
			t.Errorf("cut at %d: got %v", i, err)
		}
	}
	many := []byte(header)
	for i := range 10000 {
		many = append(many, 1, 2, byte(i>>8), byte(i), 0, 1)
	}
	if got, err := parseAnnounce(many, 4); err != nil || len(got.Peers) != MaxPeers {
		t.Errorf("10000 peers: got %d, %v", len(got.Peers), err)
	}
}

func FuzzUDPPackets(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\xca\xfe\x01\x02\x03\x04\x05\x06\x07\x08"))
	f.Add([]byte("\x00\x00\x00\x01\x00\x00\xca\xfe\x00\x00\x07\x08\x00\x00\x00\x02\x00\x00\x00\x03\x01\x02\x03\x04\x1a\xe1"))
	f.Add([]byte("\x00\x00\x00\x03\x00\x00\xca\xfeConnection ID missmatch.\x00"))
	addr := addrPorts("1.2.3.4:5")[0]
	f.Fuzz(func(t *testing.T, p []byte) {
		s := &udpSocket{calls: make(map[uint32]*udpCall)}
		_, transaction, ok := udpHeader(p)
		for _, action := range []uint32{actionConnect, actionAnnounce} {
			call := &udpCall{addr: addr, action: action, answer: make(chan []byte, 1)}
			s.calls[transaction] = call
			s.dispatch(p, addr)
			select {
			case got := <-call.answer:
				if !ok || !bytes.Equal(got, p) {
					t.Fatalf("got %x of %x", got, p)
				}
				checkUDPAnswer(t, action, got)
			default:
			}
		}
	})
}

// checkUDPAnswer fails if what dispatch lets through cannot be read.
func checkUDPAnswer(t *testing.T, action uint32, p []byte) {
	t.Helper()
	if got, _, _ := udpHeader(p); got == actionError {
		if f := parseUDPError(p, &url.URL{}); len(f.Reason) > maxTextLen || printable(f.Reason) != f.Reason {
			t.Fatalf("got %+v", f)
		}
		return
	}
	if action == actionConnect {
		if _, err := parseConnect(p); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, ipLen := range []int{4, 16} {
		r, err := parseAnnounce(p, ipLen)
		if err != nil {
			t.Fatal(err)
		}
		checkResponse(t, r)
	}
}
