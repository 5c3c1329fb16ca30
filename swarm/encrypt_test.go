package swarm

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"expvar"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/anacrolix/torrent/mse"
	"pgregory.net/rapid"

	"swarmfs/cache"
	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

// meetings are what comes of two sessions, by what each wants. It is the same in
// both directions.
var meetings = []struct {
	a, b Encryption
	want Protection
	none bool // no connection
}{
	{a: EncryptionPrefer, b: EncryptionPrefer, want: ProtectionHandshake},
	{a: EncryptionRequire, b: EncryptionRequire, want: ProtectionRC4},
	{a: EncryptionOff, b: EncryptionOff, want: ProtectionNone},
	{a: EncryptionPrefer, b: EncryptionRequire, want: ProtectionRC4},
	{a: EncryptionPrefer, b: EncryptionOff, want: ProtectionNone},
	{a: EncryptionRequire, b: EncryptionOff, none: true},
}

func TestWhatTwoSessionsAgreeOn(t *testing.T) {
	c := makeContent(t, mebibyte)
	for _, m := range meetings {
		for _, pair := range [][2]Encryption{{m.a, m.b}, {m.b, m.a}} {
			for _, dials := range []string{"leecher", "seeder"} {
				t.Run(fmt.Sprintf("%s leeches from %s, the %s dials", pair[0], pair[1], dials), func(t *testing.T) {
					simulate(t, func(l *lab) {
						leech := l.node(nodeOptions{Options: Options{Encryption: pair[0]}, encrypts: true})
						seed := l.node(nodeOptions{Options: Options{Encryption: pair[1]}, encrypts: true})
						seed.fill(c)
						var to, from *Torrent
						if dials == "leecher" {
							from = seed.add(c)
							to = leech.add(c, seed.addr())
						} else {
							to = leech.add(c)
							from = seed.add(c, leech.addr())
						}
						if m.none {
							time.Sleep(time.Minute)
							if to.Stats().Peers+from.Stats().Peers > 0 {
								t.Error("they are connected")
							}
							return
						}
						leech.open(to, c).copyOut(0)
						for _, tor := range []*Torrent{to, from} {
							if got := protections(l.t, tor); len(got) != 1 || got[0] != m.want {
								t.Errorf("got connections %v, want one %v", got, m.want)
							}
						}
					})
				})
			}
		}
	}
}

func protections(t testing.TB, tor *Torrent) (list []Protection) {
	t.Helper()
	st, err := tor.Status(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range st.Connections {
		list = append(list, k.Protection)
	}
	return list
}

// The same over real sockets, where reads and writes are cut anywhere and the TCP
// connection is to be found below.
func TestWhatTwoSessionsAgreeOnOverTCP(t *testing.T) {
	c := makeContent(t, 3*mebibyte)
	for _, m := range meetings {
		if m.none {
			continue
		}
		for _, pair := range [][2]Encryption{{m.a, m.b}, {m.b, m.a}} {
			t.Run(fmt.Sprintf("%s dials %s", pair[0], pair[1]), func(t *testing.T) {
				seed := overTCP(t, Options{Encryption: pair[1]})
				(&node{store: seed.opts.Store, lab: &lab{t: t}}).fill(c)
				if _, err := seed.Add(c.meta, AddOptions{}); err != nil {
					t.Fatal(err)
				}
				at, err := netip.ParseAddrPort(seed.Addrs()[0].String())
				if err != nil {
					t.Fatal(err)
				}
				leech := overTCP(t, Options{Encryption: pair[0]})
				tor, err := leech.Add(c.meta, AddOptions{Peers: []netip.AddrPort{at}})
				if err != nil {
					t.Fatal(err)
				}
				rd, err := tor.Open(0)
				if err != nil {
					t.Fatal(err)
				}
				defer rd.Close()
				(&reader{Reader: rd, t: t, c: c}).copyOut(0)
				if got := protections(t, tor); len(got) != 1 || got[0] != m.want {
					t.Errorf("got connections %v, want one %v", got, m.want)
				}
			})
		}
	}
}

// A link asks and answers in the same ways as a torrent.
func TestALinkIsResolvedOverEncryptedConnections(t *testing.T) {
	c := longContent(t)
	encrypted := nodeOptions{Options: Options{Encryption: EncryptionRequire}, encrypts: true}
	for _, dials := range []string{"link", "seed"} {
		t.Run("the "+dials+" dials", func(t *testing.T) {
			simulate(t, func(l *lab) {
				n, seed := l.node(encrypted), l.node(encrypted)
				seed.fill(c)
				var peers []netip.AddrPort
				if dials == "link" {
					seed.add(c)
					peers = append(peers, seed.addr())
				} else {
					l.peers.Go(func() {
						time.Sleep(time.Second)
						seed.add(c, n.addr())
					})
				}
				ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
				defer cancel()
				if _, err := n.resolve(ctx, c, peers...); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// overTCP runs a session that listens on a free loopback port.
func overTCP(t *testing.T, o Options) *Session {
	t.Helper()
	store, err := cache.Open(cache.Options{Memory: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	o.Listen, o.Local, o.NoLSD, o.Store = []string{"127.0.0.1:0"}, true, true, store
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g sync.WaitGroup
	g.Go(func() { _ = s.Serve(ctx) })
	t.Cleanup(func() {
		cancel()
		g.Wait()
		if err := store.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// A plain peer costs one dial more, once; one that insists on encryption is found
// again the same way after it was remembered as plain.
func TestThePlainWayIsRemembered(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		p := l.peer(c, near, script{raw: func(p *fakePeer, conn net.Conn) {
			if _, _, err := readHandshake(conn); err != nil {
				return
			}
			write(conn, wire.AppendHandshake(nil, wire.Handshake{InfoHash: c.meta.Info.Hash, PeerID: p.id}))
			io.Copy(io.Discard, conn)
		}})
		n := l.node(nodeOptions{encrypts: true})
		tor := n.add(c, p.addr())
		joins := func() bool { return tor.Stats().Peers == 1 }
		l.eventually(5*time.Second, "connected", joins)
		if got := p.conns.Load(); got != 2 {
			t.Errorf("a plain peer was dialled %d times, want 2", got)
		}
		p.host.ResetAll()
		l.eventually(time.Second, "gone", func() bool { return !joins() })
		l.eventually(time.Minute, "connected again", joins)
		if got := p.conns.Load(); got != 3 {
			t.Errorf("a plain peer was dialled %d times, want 3: it was not remembered", got)
		}
	})
}

// hostile are peers that begin an encrypted handshake and mean no good. None of
// them may hold the connection for longer than a handshake may take.
var hostile = []struct {
	name string
	do   func(conn net.Conn, hash [20]byte)
}{
	{"says nothing", func(net.Conn, [20]byte) {}},
	{"sends half a key", func(c net.Conn, _ [20]byte) { write(c, random(48)) }},
	{"sends a key alone", func(c net.Conn, _ [20]byte) { write(c, random(96)) }},
	{"sends 512 bytes of garbage", func(c net.Conn, _ [20]byte) { write(c, random(512)) }},
	{"sends garbage for ever", func(c net.Conn, _ [20]byte) {
		for write(c, random(512)) {
			time.Sleep(10 * time.Millisecond)
		}
	}},
	{"sends a byte each second", func(c net.Conn, _ [20]byte) {
		for write(c, random(1)) {
			time.Sleep(time.Second)
		}
	}},
	{"key of 0", func(c net.Conn, _ [20]byte) { write(c, make([]byte, 96), random(600)) }},
	{"key of 1", func(c net.Conn, _ [20]byte) { write(c, append(make([]byte, 95), 1), random(600)) }},
	{"key of p-1", func(c net.Conn, _ [20]byte) { write(c, prime(-1), random(600)) }},
	{"key of p", func(c net.Conn, _ [20]byte) { write(c, prime(0), random(600)) }},
	{"key beyond p", func(c net.Conn, _ [20]byte) { write(c, prime(5), random(600)) }},
	{"offers no method", func(c net.Conn, h [20]byte) { mse.InitiateHandshake(c, h[:], nil, 0) }},
	{"offers unknown methods", func(c net.Conn, h [20]byte) { mse.InitiateHandshake(c, h[:], nil, 0xfffffffc) }},
	{"wants another torrent", func(c net.Conn, h [20]byte) { h[0]++; mse.InitiateHandshake(c, h[:], nil, 3) }},
	{"shakes hands for another torrent than it encrypts for", func(c net.Conn, h [20]byte) {
		other := h
		other[0]++
		mse.InitiateHandshake(c, h[:], wire.AppendHandshake(nil, wire.Handshake{InfoHash: other}), 3)
	}},
	{"encrypts and then says nothing", func(c net.Conn, h [20]byte) { mse.InitiateHandshake(c, h[:], nil, 3) }},
	{"encrypts and then sends garbage", func(c net.Conn, h [20]byte) {
		mse.InitiateHandshake(c, h[:], random(200), 3)
	}},
}

func write(c net.Conn, parts ...[]byte) bool {
	for _, p := range parts {
		if _, err := c.Write(p); err != nil {
			return false
		}
	}
	return true
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// prime is the modulus of the key exchange, and so much more.
func prime(more int) []byte {
	p, err := hex.DecodeString("ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd" +
		"ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563")
	if err != nil {
		panic(err)
	}
	p[len(p)-1] = byte(int(p[len(p)-1]) + more)
	return p
}

// HP-04, as those who are dialled see it.
func TestHostileEncryptedHandshakesAreCut(t *testing.T) {
	c := makeContent(t, mebibyte)
	for _, tc := range hostile {
		t.Run(tc.name, func(t *testing.T) {
			simulate(t, func(l *lab) {
				n := l.node(nodeOptions{encrypts: true})
				tor := n.add(c)
				p := l.silentPeer(c, near, script{})
				conn, err := p.host.Dial(l.t.Context(), n.addr())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				l.peers.Go(func() { tc.do(conn, c.meta.Info.Hash) })
				cut := make(chan struct{})
				start := time.Now()
				l.peers.Go(func() {
					defer close(cut)
					io.Copy(io.Discard, conn)
				})
				select {
				case <-cut:
				case <-time.After(time.Minute):
				}
				if d := time.Since(start); d > handshakeTimeout+time.Second {
					t.Errorf("it had the connection for %v", d)
				}
				if tor.Stats().Peers > 0 {
					t.Error("it counts as a peer")
				}
			})
		})
	}
}

// HP-04, as those who dial see it: the peer is tried in plain at once, and then
// left alone.
func TestWhoAnswersAnEncryptedHandshakeBadlyIsLeft(t *testing.T) {
	c := makeContent(t, mebibyte)
	answers := []struct {
		name string
		do   func(conn net.Conn, hash [20]byte)
	}{
		{"garbage for ever", func(c net.Conn, _ [20]byte) {
			for write(c, random(512)) {
				time.Sleep(10 * time.Millisecond)
			}
		}},
		{"says nothing", func(net.Conn, [20]byte) {}},
		{"key of 0", func(c net.Conn, _ [20]byte) { write(c, make([]byte, 96), random(600)) }},
		{"key of p-1", func(c net.Conn, _ [20]byte) { write(c, prime(-1), random(600)) }},
		{"chooses both methods", func(c net.Conn, h [20]byte) {
			mse.ReceiveHandshake(context.Background(), c, func(f func([]byte) bool) { f(h[:]) }, func(mse.CryptoMethod) mse.CryptoMethod { return 3 })
		}},
		{"chooses none", func(c net.Conn, h [20]byte) {
			mse.ReceiveHandshake(context.Background(), c, func(f func([]byte) bool) { f(h[:]) }, func(mse.CryptoMethod) mse.CryptoMethod { return 0 })
		}},
	}
	for _, tc := range answers {
		t.Run(tc.name, func(t *testing.T) {
			simulate(t, func(l *lab) {
				p := l.peer(c, near, script{raw: func(p *fakePeer, conn net.Conn) {
					l.peers.Go(func() { tc.do(conn, c.meta.Info.Hash) })
					io.Copy(io.Discard, conn)
				}})
				n := l.node(nodeOptions{encrypts: true})
				tor := n.add(c, p.addr())
				time.Sleep(encryptTimeout + handshakeTimeout + time.Second)
				if got := p.conns.Load(); got < 2 || got > 6 {
					t.Errorf("it was dialled %d times in the first %v", got, encryptTimeout+handshakeTimeout)
				}
				if tor.Stats().Peers > 0 {
					t.Error("it counts as a peer")
				}
			})
		})
	}
}

// A thousand that begin and do not go on keep nobody out.
func TestAnHonestPeerIsAcceptedAmongHalfEncryptedHandshakes(t *testing.T) {
	c := makeContent(t, mebibyte)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{encrypts: true})
		tor := n.add(c)
		for range 40 {
			h := l.host(near)
			for range 25 {
				conn, err := h.Dial(l.t.Context(), n.addr())
				if err != nil {
					t.Fatal(err)
				}
				l.atEnd(func() { conn.Close() })
				write(conn, random(100))
			}
		}
		seed := l.node(nodeOptions{Options: Options{Encryption: EncryptionRequire}, encrypts: true})
		seed.fill(c)
		seed.add(c, n.addr())
		l.eventually(10*time.Second, "an honest peer is connected", func() bool { return tor.Stats().Peers == 1 })
	})
}

// knows makes a session, not running, that knows one infohash.
func knows(t interface{ Fatal(...any) }, e Encryption) (*Session, metainfo.Hash) {
	s, err := New(Options{Encryption: e})
	if err != nil {
		t.Fatal(err)
	}
	hash := metainfo.Hash(random(20))
	s.torrents[hash] = nil
	return s, hash
}

// dribble is a connection whose reads end early, anywhere.
type dribble struct {
	net.Conn
	sizes func() int
}

func (d dribble) Read(p []byte) (int, error) {
	return d.Conn.Read(p[:min(len(p), d.sizes())])
}

// What follows the handshake in one packet, or comes cut anywhere, arrives whole.
func TestNoByteIsLostBehindAnEncryptedHandshake(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, hash := knows(t, rapid.SampledFrom([]Encryption{EncryptionPrefer, EncryptionRequire}).Draw(t, "encryption"))
		method := rapid.SampledFrom([]mse.CryptoMethod{mse.CryptoMethodRC4, mse.AllSupportedCrypto}).Draw(t, "method")
		early := rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(t, "early")
		late := rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(t, "late")
		back := rapid.SliceOfN(rapid.Byte(), 1, 3000).Draw(t, "back")
		cuts := rapid.SliceOfN(rapid.IntRange(1, 200), 1, 20).Draw(t, "cuts")
		i := 0
		cut := func() int { i++; return cuts[i%len(cuts)] }

		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		var g sync.WaitGroup
		defer g.Wait()
		var answer []byte
		g.Go(func() {
			defer theirs.Close()
			ia := append(wire.AppendHandshake(nil, wire.Handshake{InfoHash: hash}), early...)
			rw, _, err := mse.InitiateHandshake(theirs, hash[:], ia, method)
			if err != nil {
				return
			}
			var w sync.WaitGroup
			w.Go(func() { _, _ = rw.Write(late) })
			answer = make([]byte, len(back))
			_, _ = io.ReadFull(rw, answer)
			w.Wait()
		})
		conn, hs, err := s.accept(context.Background(), dribble{ours, cut})
		if err != nil || hs.InfoHash != [20]byte(hash) {
			t.Fatalf("accept: %v", err)
		}
		g.Go(func() { _, _ = conn.Write(back) })
		got := make([]byte, len(early)+len(late))
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, append(early, late...)) {
			t.Fatalf("what followed the handshake is not what was sent: %v", err)
		}
		_, _ = io.Copy(io.Discard, conn) // until the other end is through
		if !bytes.Equal(answer, back) {
			t.Fatal("what was sent back is not what came")
		}
	})
}

func TestKeysThatMakeNoSecretAreRefused(t *testing.T) {
	two := append(make([]byte, 95), 2)
	for _, tc := range []struct {
		name string
		key  []byte
		want error
	}{
		{"0", make([]byte, 96), errDegenerateKey},
		{"1", append(make([]byte, 95), 1), errDegenerateKey},
		{"2", two, nil},
		{"p-2", prime(-2), nil},
		{"p-1", prime(-1), errDegenerateKey},
		{"p", prime(0), errDegenerateKey},
		{"p+5", prime(5), errDegenerateKey},
	} {
		ours, theirs := net.Pipe()
		var g sync.WaitGroup
		g.Go(func() { write(theirs, tc.key[:50], tc.key[50:]); theirs.Close() })
		k := &keyed{Conn: ours, early: nil}
		if _, err := io.ReadFull(k, make([]byte, 96)); !errors.Is(err, tc.want) {
			t.Errorf("key %s: got %v, want %v", tc.name, err, tc.want)
		}
		g.Wait()
		ours.Close()
		k = &keyed{early: tc.key}
		if _, err := io.ReadFull(k, make([]byte, 96)); !errors.Is(err, tc.want) {
			t.Errorf("key %s, read before: got %v, want %v", tc.name, err, tc.want)
		}
	}
}

// Whoever knows one infohash is not let into another torrent by it.
func TestTheHandshakeIsForTheTorrentThatItsEncryptionIsFor(t *testing.T) {
	s, hash := knows(t, EncryptionPrefer)
	for _, other := range []bool{false, true} {
		wants := hash
		if other {
			wants = metainfo.Hash(random(20))
			s.torrents[wants] = nil
		}
		ours, theirs := net.Pipe()
		var g sync.WaitGroup
		g.Go(func() {
			mse.InitiateHandshake(theirs, hash[:], wire.AppendHandshake(nil, wire.Handshake{InfoHash: wants}), mse.AllSupportedCrypto)
		})
		_, _, err := s.accept(context.Background(), ours)
		if other != errors.Is(err, errStranger) || !other && err != nil {
			t.Errorf("another torrent %v: got %v", other, err)
		}
		ours.Close()
		g.Wait()
		theirs.Close()
	}
}

// A peer's offers are counted by the library for ever, unless they are forgotten.
func TestOffersAreNotKept(t *testing.T) {
	s, hash := knows(t, EncryptionPrefer)
	for i := range 20 {
		ours, theirs := net.Pipe()
		var g sync.WaitGroup
		g.Go(func() {
			defer theirs.Close()
			mse.InitiateHandshake(theirs, hash[:], nil, mse.CryptoMethod(4+i))
		})
		if _, _, err := s.accept(context.Background(), ours); err == nil {
			t.Error("an unknown method was accepted")
		}
		ours.Close()
		g.Wait()
	}
	n := 0
	expvar.Get("mseCryptoProvides").(*expvar.Map).Do(func(expvar.KeyValue) { n++ })
	if n > 1 {
		t.Errorf("%d offers are kept, want 1 at most", n)
	}
}

func TestTheSocketIsFoundBelowTheEncryption(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if newAcker(&encryptedConn{c, c, mse.CryptoMethodRC4}).raw == nil {
		t.Error("an encrypted connection is not acknowledged at once")
	}
}

func TestParseEncryption(t *testing.T) {
	for _, e := range []Encryption{EncryptionPrefer, EncryptionRequire, EncryptionOff} {
		if got, err := ParseEncryption(e.String()); err != nil || got != e {
			t.Errorf("%s: got %v, %v", e, got, err)
		}
	}
	if _, err := ParseEncryption("sometimes"); err == nil {
		t.Error("no error for an unknown name")
	}
}

// pairOf returns both ends of an encrypted connection over TCP.
func pairOf(tb testing.TB, method mse.CryptoMethod) (a, b *encryptedConn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	hash := random(20)
	var g sync.WaitGroup
	g.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		rw, m, err := mse.ReceiveHandshake(context.Background(), conn, func(f func([]byte) bool) { f(hash) },
			func(mse.CryptoMethod) mse.CryptoMethod { return method })
		if err == nil {
			b = &encryptedConn{conn, rw, m}
		}
	})
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	rw, m, err := mse.InitiateHandshake(&keyed{Conn: conn}, hash, nil, method)
	g.Wait()
	if err != nil || b == nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close(); b.Conn.Close() })
	return &encryptedConn{conn, rw, m}, b
}

// BenchmarkEncryptedStream is a transfer over loopback, both ends counted.
func BenchmarkEncryptedStream(b *testing.B) {
	for _, method := range []mse.CryptoMethod{mse.CryptoMethodPlaintext, mse.CryptoMethodRC4} {
		b.Run(protectionOf(&encryptedConn{method: method}).String(), func(b *testing.B) {
			from, to := pairOf(b, method)
			buf, in := make([]byte, 64<<10), make([]byte, 256<<10)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			var g sync.WaitGroup
			g.Go(func() {
				for range b.N {
					if _, err := from.Write(buf); err != nil {
						b.Error(err)
						return
					}
				}
				from.Close()
			})
			for {
				if _, err := to.Read(in); err != nil {
					if !errors.Is(err, io.EOF) {
						b.Error(err)
					}
					break
				}
			}
			g.Wait()
		})
	}
}

// BenchmarkReceiveGarbage is what a handshake costs us that leads nowhere.
func BenchmarkReceiveGarbage(b *testing.B) {
	s, _ := knows(b, EncryptionPrefer)
	s.encrypting.SetLimit(1e9)
	for range 1000 {
		s.torrents[metainfo.Hash(random(20))] = nil
	}
	sent := random(96 + 532)
	for b.Loop() {
		ours, theirs := net.Pipe()
		var g sync.WaitGroup
		g.Go(func() { theirs.Write(sent); theirs.Close() })
		g.Go(func() { io.Copy(io.Discard, theirs) })
		if _, _, err := s.accept(context.Background(), ours); err == nil {
			b.Fatal("garbage was accepted")
		}
		ours.Close()
		g.Wait()
	}
}
