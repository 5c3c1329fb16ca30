package lsd

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func hash(i int) (h [20]byte) {
	h[0], h[1] = byte(i>>8), byte(i)
	return h
}

func TestParseReadsWhatIsAppended(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := message{port: uint16(rapid.IntRange(1, 65535).Draw(t, "port")), cookie: rapid.StringMatching("[a-zA-Z0-9]{0,64}").Draw(t, "cookie")}
		for range rapid.IntRange(1, maxHashes).Draw(t, "n") {
			m.hashes = append(m.hashes, [20]byte(rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(t, "hash")))
		}
		for _, group := range []netip.AddrPort{group4, group6} {
			packet := m.append(nil, group)
			if len(packet) > maxPacket {
				t.Fatalf("%d bytes", len(packet))
			}
			if got, ok := parse(packet); !ok || !reflect.DeepEqual(got, m) {
				t.Fatalf("got %+v, %v, want %+v", got, ok, m)
			}
		}
	})
}

func TestParse(t *testing.T) {
	const h = "0123456789abcdef0123456789ABCDEF01234567"
	for _, tc := range []struct {
		name, packet string
		port         uint16 // 0: refused
		hashes       int
	}{
		{"as BEP 14 has it", "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: " + h + "\r\ncookie: x\r\n\r\n\r\n", 6881, 1},
		{"other order and case", "BT-SEARCH * HTTP/1.1\r\nINFOHASH:" + h + "\r\nport:1\r\n\r\n", 1, 1},
		{"bare line ends", "BT-SEARCH * HTTP/1.1\nPort: 7\nInfohash: " + h + "\n", 7, 1},
		{"two torrents, one of which is none", "BT-SEARCH * HTTP/1.1\r\nPort: 7\r\nInfohash: " + h + "\r\nInfohash: abc\r\nInfohash: " + h + "\r\n\r\n", 7, 2},
		{"no port", "BT-SEARCH * HTTP/1.1\r\nInfohash: " + h + "\r\n\r\n", 0, 0},
		{"port 0", "BT-SEARCH * HTTP/1.1\r\nPort: 0\r\nInfohash: " + h + "\r\n\r\n", 0, 0},
		{"port beyond", "BT-SEARCH * HTTP/1.1\r\nPort: 65536\r\nInfohash: " + h + "\r\n\r\n", 0, 0},
		{"no torrent", "BT-SEARCH * HTTP/1.1\r\nPort: 7\r\n\r\n", 0, 0},
		{"another protocol", "M-SEARCH * HTTP/1.1\r\nPort: 7\r\nInfohash: " + h + "\r\n\r\n", 0, 0},
		{"empty", "", 0, 0},
		{"too long", "BT-SEARCH * HTTP/1.1\r\nPort: 7\r\nInfohash: " + h + "\r\nX: " + strings.Repeat("x", maxPacket), 0, 0},
		{"too many", "BT-SEARCH * HTTP/1.1\r\nPort: 7\r\n" + strings.Repeat("Infohash: "+h+"\r\n", 25), 7, maxHashes},
	} {
		m, ok := parse([]byte(tc.packet))
		if ok != (tc.port != 0) || m.port != tc.port || len(m.hashes) != tc.hashes {
			t.Errorf("%s: got %+v, %v", tc.name, m, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(message{port: 1, hashes: [][20]byte{hash(1)}, cookie: "c"}.append(nil, group4))
	f.Add([]byte("BT-SEARCH * HTTP/1.1\r\nPort:"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		m, ok := parse(packet)
		if !ok {
			return
		}
		if m.port == 0 || len(m.hashes) == 0 || len(m.hashes) > maxHashes || len(m.cookie) > maxCookie {
			t.Fatalf("%+v", m)
		}
		if again, ok := parse(m.append(nil, group6)); !ok || again.port != m.port || !reflect.DeepEqual(again.hashes, m.hashes) {
			t.Fatalf("%+v, then %+v", m, again)
		}
	})
}

// Every torrent is announced soon, then once in five minutes; packets come a
// second apart at least.
func TestSchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s schedule
		n := rapid.IntRange(1, 200).Draw(t, "torrents")
		for i := range n {
			s.join(&entry{hash: hash(i)})
		}
		start := time.Unix(1e9, 0)
		now := start
		times := map[[20]byte][]time.Time{}
		var last time.Time
		for now.Before(start.Add(time.Hour)) {
			hashes, wake := s.next(now)
			if len(hashes) > maxHashes {
				t.Fatalf("%d in one packet", len(hashes))
			}
			if len(hashes) > 0 {
				if now.Sub(last) < packetEvery {
					t.Fatalf("a packet %v after another", now.Sub(last))
				}
				last = now
			}
			for _, h := range hashes {
				times[h] = append(times[h], now)
			}
			now = now.Add(max(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms"))*time.Millisecond, wake.Sub(now)))
		}
		for i := range n {
			at := times[hash(i)]
			if len(at) < 10 || at[0].Sub(start) > time.Minute {
				t.Fatalf("torrent %d is announced %d times", i, len(at))
			}
			for j := 1; j < len(at); j++ {
				if at[j].Sub(at[j-1]) < announceEvery {
					t.Fatalf("torrent %d is announced after %v", i, at[j].Sub(at[j-1]))
				}
			}
		}
		if s.leave(s.list[0]); len(s.list) != n-1 {
			t.Fatal("it does not leave")
		}
	})
}

func TestWhoTalksToHimselfIsNotHeard(t *testing.T) {
	s := New(Options{})
	e := &entry{hash: hash(1), heard: make(chan heard, 2)}
	s.schedule.join(e)
	from := netip.MustParseAddr("192.168.1.9")
	own := message{port: 1, hashes: [][20]byte{hash(1)}, cookie: s.cookie}
	s.hear(from, own.append(nil, group4))
	if len(e.heard) != 0 {
		t.Error("heard")
	}
	own.cookie = "another"
	for range 5 { // more than anybody takes: nothing waits
		s.hear(from, own.append(nil, group4))
	}
	if len(e.heard) != 2 || <-e.heard != netip.MustParseAddrPort("192.168.1.9:1") {
		t.Error("another is not heard")
	}
}

// Two services on one machine find each other by its loopback interface.
func TestNeighboursOnLoopbackFindEachOther(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	found := [2]chan netip.AddrPort{make(chan netip.AddrPort, 10), make(chan netip.AddrPort, 10)}
	own := hash(time.Now().Nanosecond()) // others may test here too
	for i := range found {
		s := New(Options{Port: func() uint16 { return uint16(1000 + i) }, Interfaces: Loopback})
		g.Go(func() {
			if err := s.Serve(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("serve: %v", err)
			}
		})
		time.Sleep(50 * time.Millisecond) // the first hears the second
		g.Go(func() {
			_ = s.Search(ctx, own, func(a netip.AddrPort) { found[i] <- a })
		})
	}
	select {
	case a := <-found[0]:
		if !a.Addr().IsLoopback() || a.Port() != 1001 {
			t.Errorf("found %v", a)
		}
	case <-time.After(5 * time.Second):
		t.Error("nobody is found")
	}
}

// A broken interface is no reason to end, and nothing is announced without a port.
func TestServeLivesWithoutInterfaces(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	s := New(Options{Interfaces: func() ([]net.Interface, error) {
		return []net.Interface{{Index: 1 << 20, Name: "gone"}}, nil
	}})
	if err := s.Serve(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if !bytes.Contains([]byte(s.String()), []byte("local")) {
		t.Error("it has no name")
	}
}
