package dht

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/krpc"
)

// killers are packets that end a process whose socket the library reads itself.
var killers = []string{
	"d1:q13:announce_peer1:t2:aa1:y1:qe", // no arguments
	"d1:q3:put1:t2:aa1:y1:qe",
	"d2:ip1:x1:t2:aa1:y1:re", // addresses that are too short
	"d2:ip0:1:t2:aa1:y1:re",
	"d1:rd2:id20:abcdefghij01234567896:valuesl1:xee1:t2:aa1:y1:re",
}

func TestKillerPacketsDoNotReachTheServer(t *testing.T) {
	for _, k := range killers {
		if _, ok := decode([]byte(k)); ok {
			t.Errorf("let through: %q", k)
		}
	}
	_, conn := alive(t)
	for i, k := range killers {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{20, 1, 1, byte(i)}), 7000)
		conn.in <- memPacket{data: []byte(k), peer: from}
	}
	pong(t, conn)
}

// The same as answers to a question of ours, when the address is one we asked.
func TestKillerAnswersDoNotReachTheServer(t *testing.T) {
	l, conn := alive(t)
	for _, k := range killers {
		ask(t, l, conn, []byte(k))
	}
	pong(t, conn)
}

// ask has the server ask something, and answers with a packet of the test, as of
// transaction "aa".
func ask(t testing.TB, l *life, conn *memConn, answer []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var g sync.WaitGroup
	defer g.Wait()
	to := netip.MustParseAddrPort("20.2.2.2:7000")
	g.Go(func() {
		l.server.Query(ctx, dht.NewAddr(net.UDPAddrFromAddrPort(to)), "get_peers", dht.QueryInput{MsgArgs: krpc.MsgArgs{InfoHash: testHash}})
		cancel()
	})
	for {
		select {
		case p := <-conn.out:
			m, ok := decode(p.data)
			if p.peer != to || !ok {
				continue
			}
			t1 := fmt.Sprintf("1:t%d:%s", len(m.T), m.T)
			conn.in <- memPacket{data: bytes.Replace(answer, []byte("1:t2:aa"), []byte(t1), 1), peer: to}
			<-ctx.Done()
			return
		case <-ctx.Done():
			return
		}
	}
}

func TestErrorsOfTheSocketPass(t *testing.T) {
	_, conn := alive(t)
	for _, err := range []error{syscall.ENETDOWN, syscall.ECONNREFUSED, syscall.ENOBUFS, errors.New("anything")} {
		conn.in <- memPacket{peer: stranger, err: err}
	}
	pong(t, conn)
}

func TestASocketThatIsGoneIsOpenedAgain(t *testing.T) {
	var mu sync.Mutex
	var open []net.PacketConn
	n := run(t, Options{
		Addrs: []netip.AddrPort{loopback(42, 1)},
		ListenPacket: func(_ context.Context, network, addr string) (net.PacketConn, error) {
			c, err := net.ListenPacket(network, addr)
			mu.Lock()
			defer mu.Unlock()
			open = append(open, c)
			return c, err
		},
	})
	mu.Lock()
	open[0].Close()
	mu.Unlock()
	wait(t, 5*time.Second, "second socket", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(open) == 2 && len(n.Status().Addrs) == 1
	})
}

func TestAnswersThatNobodyAskedForAreDropped(t *testing.T) {
	l, conn := alive(t)
	conn.in <- memPacket{data: []byte("d1:rd2:id20:abcdefghij0123456789e1:t2:aa1:y1:re"), peer: stranger}
	pong(t, conn)
	if n := l.link.dropped.Load(); n != 1 {
		t.Errorf("%d packets dropped, want the one answer", n)
	}
	for range 5 { // a question may be answered once
		if err := l.link.ask(time.Now(), stranger, "aa"); err != nil {
			t.Fatal(err)
		}
	}
	got := []bool{l.link.answered(time.Now(), stranger, "ab"), l.link.answered(time.Now(), stranger, "aa"), l.link.answered(time.Now(), stranger, "aa")}
	if got[0] || !got[1] || got[2] {
		t.Errorf("got %v, want the right transaction alone, once", got)
	}
}

func TestQuestionsAreForgotten(t *testing.T) {
	l := newLink(newMemConn(), func(netip.Addr) error { return nil })
	now := time.Now()
	for i := range maxQuestions {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{20, 1, byte(i >> 8), byte(i)}), 1)
		if err := l.ask(now, from, "aa"); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.ask(now, stranger, "aa"); err == nil {
		t.Error("no bound on open questions")
	}
	if err := l.ask(now.Add(answerTime+1), stranger, "aa"); err != nil || l.count != 1 || len(l.asked) != 1 {
		t.Errorf("got %v, %d questions of %d, want the new one alone", err, l.count, len(l.asked))
	}
}

// DH-03: a flood of questions costs us no more than replyRate in answers.
func TestFloodIsNotAmplified(t *testing.T) {
	l, conn := alive(t)
	l.link.incoming.SetLimit(queryRate)
	l.link.replies.SetLimit(replyRate)
	sent := 0
	for i := range 10000 {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{20, 9, byte(i >> 8), byte(i)}), 7000)
		conn.in <- memPacket{data: []byte("d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe"), peer: from}
		for more := true; more; {
			select {
			case p := <-conn.out:
				sent += len(p.data)
			default:
				more = false
			}
		}
	}
	if limit := replyBurst + 5*replyRate; sent == 0 || sent > limit {
		t.Errorf("%d bytes of answers to a flood, want some, and at most %d", sent, limit)
	}
}

func TestOneSourceCannotTakeAllQuestions(t *testing.T) {
	var s sources
	now := time.Now()
	allowed := func(from netip.AddrPort, n int) (k int) {
		for range n {
			if s.allow(now, from) {
				k++
			}
		}
		return k
	}
	if n := allowed(stranger, 1000); n != sourceBurst {
		t.Errorf("%d of 1000 questions allowed, want %d", n, sourceBurst)
	}
	samePlace := netip.AddrPortFrom(stranger.Addr(), 9)
	if n := allowed(samePlace, 1); n != 0 {
		t.Error("another port is another source")
	}
	if n := allowed(netip.MustParseAddrPort("20.1.2.4:7000"), 1); n != 1 {
		t.Error("one source keeps another out")
	}
	now = now.Add(time.Second)
	if n := allowed(stranger, 1000); n != sourceRate {
		t.Errorf("after a second %d questions allowed, want %d", n, sourceRate)
	}
	for i := range 10 * maxSources {
		s.allow(now, netip.AddrPortFrom(netip.AddrFrom4([4]byte{30, byte(i >> 16), byte(i >> 8), byte(i)}), 1))
	}
	if len(s.list) > maxSources {
		t.Errorf("%d sources remembered, want at most %d", len(s.list), maxSources)
	}
}

func TestNothingIsSentWhereItMayNot(t *testing.T) {
	conn := newMemConn()
	no := errors.New("no")
	l := newLink(conn, func(a netip.Addr) error {
		if !a.IsLoopback() {
			return no
		}
		return nil
	})
	if _, err := l.WriteTo([]byte(testPing), net.UDPAddrFromAddrPort(stranger)); !errors.Is(err, no) {
		t.Errorf("got %v, want a refusal", err)
	}
	for _, a := range []string{"127.0.0.1:0", "0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1"} {
		if _, err := l.WriteTo([]byte(testPing), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(a))); err == nil {
			t.Errorf("%s was sent to", a)
		}
	}
	if len(conn.out) > 0 {
		t.Errorf("%d packets were sent", len(conn.out))
	}
}

// A server that waits for many answers ends at once.
func TestEndDoesNotWaitForAnswers(t *testing.T) {
	conn := newMemConn()
	f := newFamily(New(Options{Addrs: []netip.AddrPort{conn.addr}}), conn.addr)
	for i := range 30 {
		f.last.nodes = append(f.last.nodes, contact{[20]byte{byte(i), 1}, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, 1, byte(i)}), 9)})
	}
	l, err := newLife(f, conn)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	g.Go(func() { _ = l.run(ctx) })
	wait(t, time.Second, "questions", func() bool { return len(conn.out) >= 8 })
	begin := time.Now()
	cancel()
	g.Wait()
	if d := time.Since(begin); d > queryTime/4 {
		t.Errorf("the end took %s", d)
	}
}

// FuzzPackets gives the server what a stranger sends, as a question and as an
// answer. A panic anywhere in the library ends the process.
func FuzzPackets(f *testing.F) {
	for _, k := range killers {
		f.Add([]byte(k))
	}
	f.Add([]byte(testPing))
	for _, q := range []string{"find_node", "get_peers", "announce_peer", "get", "sample_infohashes"} {
		f.Add(fmt.Appendf(nil, "d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti6881e6:target20:mnopqrstuvwxyz1234565:token20:aaaaaaaaaaaaaaaaaaaa4:wantl2:n42:n6ee1:q%d:%s1:t2:aa1:y1:qe", len(q), q))
	}
	f.Add([]byte("d2:ip6:abcdef1:rd2:id20:abcdefghij01234567895:nodes26:abcdefghij0123456789aabbcc6:nodes638:abcdefghij0123456789aaaabbbbccccddddee5:token3:abc6:valuesl6:aabbcc18:aaaabbbbccccddddeeeee1:t2:aa1:y1:re"))
	f.Add([]byte("d1:eli201e3:abce1:t2:aa1:y1:ee"))
	l, conn := alive(f)
	i := uint32(0)
	f.Fuzz(func(t *testing.T, b []byte) {
		i++
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}), 7000)
		conn.in <- memPacket{data: b, peer: from}
		if m, ok := decode(b); ok && m.Y != "q" {
			ask(t, l, conn, b)
		}
		conn.in <- memPacket{peer: stranger} // read when what came before is dealt with
		for len(conn.out) > 500 {
			<-conn.out
		}
	})
}
