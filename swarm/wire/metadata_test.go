package wire

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestMetadataMessagesHaveTheBytesOfBEP9(t *testing.T) {
	for _, c := range []struct {
		payload string
		msg     Metadata
	}{
		{"d8:msg_typei0e5:piecei0ee", Metadata{Type: MetadataRequest}},
		{"d8:msg_typei1e5:piecei2e10:total_sizei34256eexxxxxxxx", Metadata{Type: MetadataData, Piece: 2, TotalSize: 34256, Data: []byte("xxxxxxxx")}},
		{"d8:msg_typei2e5:piecei1ee", Metadata{Type: MetadataReject, Piece: 1}},
	} {
		if got := AppendMetadata(nil, c.msg); string(got) != c.payload {
			t.Errorf("append: got %q, want %q", got, c.payload)
		}
		if got, err := ParseMetadata([]byte(c.payload)); err != nil || !reflect.DeepEqual(got, c.msg) {
			t.Errorf("parse %q: got %+v, %v; want %+v", c.payload, got, err, c.msg)
		}
	}
}

func TestAnUnknownTypeOfMetadataMessageIsNoError(t *testing.T) {
	for _, payload := range []string{"d8:msg_typei3ee", "d8:msg_typei-1ee", "d8:msg_typei300e5:piecei0ee"} {
		if m, err := ParseMetadata([]byte(payload)); err != nil || m.Type != MetadataUnknown {
			t.Errorf("%s: got %+v, %v", payload, m, err)
		}
	}
}

func TestBrokenMetadataMessagesAreRefused(t *testing.T) {
	for _, payload := range []string{
		"", "d", "de", "i1e", "d5:piecei0ee", "d8:msg_typei0ee", "d8:msg_typei0e5:piecei-1ee",
		"d8:msg_typei0e5:piecei4294967296ee", "d8:msg_type1:05:piecei0ee",
		"d8:msg_typei1e5:piecei0e10:total_sizei34256ee" + strings.Repeat("x", MetadataPieceLen+1),
	} {
		_, err := ParseMetadata([]byte(payload))
		if pe := (*ProtocolError)(nil); !errors.As(err, &pe) {
			t.Errorf("%.60q: got %v, want a ProtocolError", payload, err)
		}
	}
}

func TestATotalSizeBeyondTheLimitCountsAsNotSaid(t *testing.T) {
	m, err := ParseMetadata([]byte("d8:msg_typei1e5:piecei0e10:total_sizei99999999999eex"))
	if err != nil || m.TotalSize != 0 {
		t.Errorf("got %+v, %v", m, err)
	}
}

func FuzzParseMetadata(f *testing.F) {
	f.Add([]byte("d8:msg_typei0e5:piecei0ee"))
	f.Add([]byte("d8:msg_typei1e5:piecei2e10:total_sizei34256eexxxxxxxx"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, err := ParseMetadata(payload)
		if pe := (*ProtocolError)(nil); err != nil && !errors.As(err, &pe) {
			t.Fatalf("unexpected error %v", err)
		}
		if err != nil || m.Type == MetadataUnknown {
			return
		}
		if m.Piece < 0 || len(m.Data) > MetadataPieceLen || !bytes.HasSuffix(payload, m.Data) {
			t.Fatalf("beyond its bounds: %+v", m)
		}
		if again, err := ParseMetadata(AppendMetadata(nil, m)); err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("read again: got %+v, %v; want %+v", again, err, m)
		}
	})
}
