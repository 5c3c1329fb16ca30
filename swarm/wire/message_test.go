package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// Limit that is large enough for what the tests send.
const testLimit = 1 << 20

// examples has one message of each kind beside the bytes that the BEPs give it.
var examples = []struct {
	hex string
	msg Message
}{
	{"00000000", Message{Kind: KeepAlive}},
	{"0000000100", Message{Kind: Choke}},
	{"0000000101", Message{Kind: Unchoke}},
	{"0000000102", Message{Kind: Interested}},
	{"0000000103", Message{Kind: NotInterested}},
	{"00000005040000002a", Message{Kind: Have, Index: 42}},
	{"0000000305aa80", Message{Kind: Bitfield, Data: []byte{0xaa, 0x80}}},
	{"0000000d06000000010000400000004000", Message{Kind: Request, Index: 1, Begin: 1 << 14, Length: 1 << 14}},
	{"0000000b070000000100004000abcd", Message{Kind: Piece, Index: 1, Begin: 1 << 14, Length: 2, Data: []byte{0xab, 0xcd}}},
	{"0000000d08ffffffff0000000000000001", Message{Kind: Cancel, Index: 1<<32 - 1, Length: 1}},
	{"00000003091ae1", Message{Kind: Port, Index: 6881}},
	{"000000050d00000007", Message{Kind: Suggest, Index: 7}},
	{"000000010e", Message{Kind: HaveAll}},
	{"000000010f", Message{Kind: HaveNone}},
	{"0000000d10000000010000000200000003", Message{Kind: Reject, Index: 1, Begin: 2, Length: 3}},
	{"000000051100000007", Message{Kind: AllowedFast, Index: 7}},
	{"0000000414036465", Message{Kind: Extended, Ext: 3, Data: []byte("de")}},
	{"0000000315aabb", Message{Kind: Unknown, Ext: 21, Data: []byte{0xaa, 0xbb}}}, // BEP 52: hash request
}

func TestEveryKindHasTheBytesOfItsBEP(t *testing.T) {
	seen := map[Kind]bool{}
	for _, e := range examples {
		want, err := hex.DecodeString(e.hex)
		if err != nil {
			t.Fatal(err)
		}
		if got := Append(nil, e.msg); !bytes.Equal(got, want) {
			t.Errorf("append %v: got %x, want %x", e.msg.Kind, got, want)
		}
		got, n, err := Parse(want, testLimit)
		if err != nil || n != len(want) || !reflect.DeepEqual(got, e.msg) {
			t.Errorf("parse %v: got %+v, %d bytes, %v; want %+v", e.msg.Kind, got, n, err, e.msg)
		}
		seen[e.msg.Kind] = true
	}
	for k := range Unknown + 1 {
		if !seen[k] {
			t.Errorf("no example of %v", k)
		}
	}
}

func TestAMessageCutAnywhereIsIncompleteAndNeverMisread(t *testing.T) {
	for _, e := range examples {
		frame := Append(nil, e.msg)
		for i := range frame {
			if m, n, err := Parse(frame[:i:i], testLimit); !errors.Is(err, io.ErrUnexpectedEOF) || n != 0 {
				t.Errorf("%v cut at %d: got %+v, %d bytes, %v", e.msg.Kind, i, m, n, err)
			}
			want := len(frame)
			if i < 4 {
				want = 0
			}
			if got := Need(frame[:i]); got != want {
				t.Errorf("%v cut at %d: Need says %d, want %d", e.msg.Kind, i, got, want)
			}
		}
	}
}

func TestAWrongLengthIsRefusedFromTheHeaderAlone(t *testing.T) {
	for _, c := range []struct{ name, header string }{
		{"choke with a payload", "0000000200"},
		{"unchoke of 4 GiB", "ffffffff01"},
		{"have of 4 bytes", "0000000404"},
		{"have of 6 bytes", "0000000604"},
		{"request of 12 bytes", "0000000c06"},
		{"request of 14 bytes", "0000000e06"},
		{"piece without a begin", "0000000807"},
		{"cancel without a payload", "0000000108"},
		{"port of 4 bytes", "0000000409"},
		{"suggest without an index", "000000010d"},
		{"have all with a payload", "000000020e"},
		{"have none with a payload", "000000020f"},
		{"reject of 17 bytes", "0000001110"},
		{"allowed fast of 9 bytes", "0000000911"},
		{"extended without an identifier", "0000000114"},
		{"piece over the limit", "0010000107"},
		{"bitfield over the limit", "0010000105"},
		{"unknown over the limit", "7fffffffff"},
		{"length over the limit, before the identifier", "00100001"},
	} {
		buf, err := hex.DecodeString(c.header)
		if err != nil {
			t.Fatal(err)
		}
		_, n, err := Parse(buf, testLimit)
		if pe := (*ProtocolError)(nil); !errors.As(err, &pe) || n != 0 {
			t.Errorf("%s: got %d bytes, %v; want a ProtocolError", c.name, n, err)
		}
	}
}

func TestAMessageOfExactlyTheLimitIsAccepted(t *testing.T) {
	frame := Append(nil, Message{Kind: Piece, Data: make([]byte, testLimit-9)})
	if _, n, err := Parse(frame, testLimit); err != nil || n != testLimit+4 {
		t.Errorf("got %d bytes, %v; want %d", n, err, testLimit+4)
	}
}

func TestAppendingToDataDoesNotReachTheNextMessage(t *testing.T) {
	buf := Append(Append(nil, Message{Kind: Piece, Data: []byte("ab")}), Message{Kind: Have, Index: 1})
	want := bytes.Clone(buf)
	m, _, err := Parse(buf, testLimit)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(m.Data, "zzzz"...)
	if !bytes.Equal(buf, want) {
		t.Errorf("buffer is now %x, was %x", buf, want)
	}
}

func TestAPieceHeaderAndItsBlockAreAPieceMessage(t *testing.T) {
	block := []byte("some block")
	got := append(AppendPieceHeader(nil, 7, 1<<14, len(block)), block...)
	want := Append(nil, Message{Kind: Piece, Index: 7, Begin: 1 << 14, Data: block})
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestAppendRefusesWhatTheWireCannotSay(t *testing.T) {
	for _, m := range []Message{{Kind: Port, Index: 65536}, {Kind: Unknown + 1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("append %+v did not panic", m)
				}
			}()
			Append(nil, m)
		}()
	}
}

// drawMessage makes any message, with the fields that its kind does not name
// left zero.
func drawMessage(t *rapid.T) Message {
	u32 := rapid.Uint32()
	m := Message{Kind: Kind(rapid.IntRange(0, int(Unknown)).Draw(t, "kind"))}
	switch m.Kind {
	case Have, Suggest, AllowedFast:
		m.Index = u32.Draw(t, "index")
	case Request, Cancel, Reject:
		m.Index, m.Begin, m.Length = u32.Draw(t, "index"), u32.Draw(t, "begin"), u32.Draw(t, "length")
	case Piece:
		m.Index, m.Begin = u32.Draw(t, "index"), u32.Draw(t, "begin")
		m.Data = rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		m.Length = uint32(len(m.Data))
	case Bitfield:
		m.Data = rapid.SliceOf(rapid.Byte()).Draw(t, "data")
	case Port:
		m.Index = uint32(rapid.Uint16().Draw(t, "port"))
	case Extended:
		m.Ext, m.Data = rapid.Byte().Draw(t, "ext"), rapid.SliceOf(rapid.Byte()).Draw(t, "data")
	case Unknown:
		unknown := func(id byte) bool { return kinds[id] == Unknown }
		m.Ext, m.Data = rapid.Byte().Filter(unknown).Draw(t, "id"), rapid.SliceOf(rapid.Byte()).Draw(t, "data")
	}
	return m
}

func TestParsingAppendedMessagesGivesThemBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		msgs := rapid.SliceOfN(rapid.Custom(drawMessage), 1, 8).Draw(t, "messages")
		var buf []byte
		for _, m := range msgs {
			buf = Append(buf, m)
		}
		for i, want := range msgs {
			got, n, err := Parse(buf, testLimit)
			if err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
			if n != Need(buf) {
				t.Fatalf("message %d: took %d bytes, Need said %d", i, n, Need(buf))
			}
			if !bytes.Equal(got.Data, want.Data) {
				t.Fatalf("message %d: got data %x, want %x", i, got.Data, want.Data)
			}
			got.Data, want.Data = nil, nil
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("message %d: got %+v, want %+v", i, got, want)
			}
			buf = buf[n:]
		}
		if len(buf) != 0 {
			t.Fatalf("%d bytes left over", len(buf))
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, e := range examples {
		f.Add(Append(nil, e.msg), 1<<17)
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 7}, -1)
	f.Fuzz(func(t *testing.T, buf []byte, limit int) {
		m, n, err := Parse(buf, limit)
		switch pe := (*ProtocolError)(nil); {
		case err == nil:
			if n < 4 || n > len(buf) || n != Need(buf) || n-4 > max(limit, 0) {
				t.Fatalf("took %d of %d bytes, limit %d, Need %d", n, len(buf), limit, Need(buf))
			}
			if again := Append(nil, m); !bytes.Equal(again, buf[:n]) {
				t.Fatalf("appended again: %x, was %x", again, buf[:n])
			}
		case errors.Is(err, io.ErrUnexpectedEOF):
			if n != 0 || (len(buf) >= 4 && Need(buf) <= len(buf)) {
				t.Fatalf("asks for more than %d bytes, the message takes %d", len(buf), Need(buf))
			}
			if len(buf) >= 4 && int64(Need(buf))-4 > int64(limit) {
				t.Fatalf("waits for a message of %d bytes, limit %d", Need(buf), limit)
			}
		case errors.As(err, &pe):
			if n != 0 {
				t.Fatalf("took %d bytes of an error", n)
			}
		default:
			t.Fatalf("unexpected error %v", err)
		}
	})
}

func TestTheHotPathDoesNotAllocate(t *testing.T) {
	block := make([]byte, 16<<10)
	frame := Append(nil, Message{Kind: Piece, Index: 3, Begin: 1 << 14, Data: block})
	buf := make([]byte, 0, len(frame))
	if n := testing.AllocsPerRun(100, func() {
		m, _, err := Parse(frame, testLimit)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Parse(frame[:100], testLimit); err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
		buf = Append(buf[:0], m)
	}); n != 0 {
		t.Errorf("got %v allocations a message, want 0", n)
	}
}

func BenchmarkParsePiece(b *testing.B) {
	frame := Append(nil, Message{Kind: Piece, Index: 3, Begin: 1 << 14, Data: make([]byte, 16<<10)})
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		if _, _, err := Parse(frame, testLimit); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseHave(b *testing.B) {
	var frames []byte
	for i := range uint32(1000) {
		frames = Append(frames, Message{Kind: Have, Index: i})
	}
	b.ReportAllocs()
	for b.Loop() {
		for buf := frames; len(buf) > 0; {
			_, n, err := Parse(buf, testLimit)
			if err != nil {
				b.Fatal(err)
			}
			buf = buf[n:]
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/have")
}

func BenchmarkAppendRequest(b *testing.B) {
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		buf = Append(buf[:0], Message{Kind: Request, Index: 3, Begin: 1 << 14, Length: 1 << 14})
	}
	if binary.BigEndian.Uint32(buf) != 13 {
		b.Fatal("wrong request")
	}
}
