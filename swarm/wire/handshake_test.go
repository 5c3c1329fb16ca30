package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

var exampleHandshake = Handshake{
	Reserved: [8]byte{5: 0x10, 7: 0x05},
	InfoHash: [20]byte([]byte("aaaaaaaaaaaaaaaaaaaa")),
	PeerID:   [20]byte([]byte("-SF0100-bbbbbbbbbbbb")),
}

func TestHandshakeHasTheBytesOfBEP3(t *testing.T) {
	want := "\x13BitTorrent protocol\x00\x00\x00\x00\x00\x10\x00\x05aaaaaaaaaaaaaaaaaaaa-SF0100-bbbbbbbbbbbb"
	got := AppendHandshake(nil, exampleHandshake)
	if string(got) != want || len(got) != HandshakeLen {
		t.Errorf("got %q, want %q", got, want)
	}
	h, err := ParseHandshake(append(got, "what follows"...))
	if err != nil || h != exampleHandshake {
		t.Errorf("got %+v, %v; want %+v", h, err, exampleHandshake)
	}
}

func TestAHandshakeCutAnywhereIsIncomplete(t *testing.T) {
	frame := AppendHandshake(nil, exampleHandshake)
	for i := range frame {
		if _, err := ParseHandshake(frame[:i]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: got %v", i, err)
		}
	}
}

func TestAnotherProtocolIsRefusedAtItsFirstWrongByte(t *testing.T) {
	frame := AppendHandshake(nil, exampleHandshake)
	for i := range len(protocol) {
		wrong := bytes.Clone(frame[:i+1])
		wrong[i] ^= 0x20
		_, err := ParseHandshake(wrong)
		if pe := (*ProtocolError)(nil); !errors.As(err, &pe) {
			t.Errorf("byte %d is wrong: got %v, want a ProtocolError", i, err)
		}
	}
}

func TestFeaturesAreTheReservedBitsOfTheirBEPs(t *testing.T) {
	for _, c := range []struct {
		feature Feature
		byte    int
		bit     byte
	}{{FeatureDHT, 7, 0x01}, {FeatureFast, 7, 0x04}, {FeatureV2, 7, 0x10}, {FeatureExtended, 5, 0x10}} {
		var h Handshake
		if h.Has(c.feature) {
			t.Errorf("%#x is set in zero", c.feature)
		}
		h.Set(c.feature)
		var want [8]byte
		want[c.byte] = c.bit
		if h.Reserved != want || !h.Has(c.feature) {
			t.Errorf("set %#x: got %x, want %x", c.feature, h.Reserved, want)
		}
		h.Set(FeatureDHT | FeatureFast)
		if !h.Has(c.feature | FeatureDHT | FeatureFast) {
			t.Errorf("set more beside %#x: got %x", c.feature, h.Reserved)
		}
	}
	half := Handshake{Reserved: [8]byte{7: 0x01}}
	if half.Has(FeatureDHT | FeatureFast) {
		t.Error("one of two features passes for both")
	}
}

func FuzzParseHandshake(f *testing.F) {
	f.Add(AppendHandshake(nil, exampleHandshake))
	f.Add([]byte("\x13BitTorrent protoCol"))
	f.Fuzz(func(t *testing.T, buf []byte) {
		h, err := ParseHandshake(buf)
		pe := (*ProtocolError)(nil)
		switch {
		case err == nil:
			if !bytes.Equal(AppendHandshake(nil, h), buf[:HandshakeLen]) {
				t.Fatalf("appended again it differs: %+v", h)
			}
		case errors.Is(err, io.ErrUnexpectedEOF):
			if len(buf) >= HandshakeLen {
				t.Fatalf("asks for more than %d bytes", len(buf))
			}
		case !errors.As(err, &pe):
			t.Fatalf("unexpected error %v", err)
		}
	})
}
