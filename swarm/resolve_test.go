package swarm

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

// longContent has an info dictionary of several pieces.
func longContent(t *testing.T) *content {
	t.Helper()
	return newContent(t, make([]byte, 2*mebibyte), 1<<10)
}

func (n *node) resolve(ctx context.Context, c *content, peers ...netip.AddrPort) (*Resolved, error) {
	return n.Resolve(ctx, Link{Hash: c.meta.Info.Hash, Peers: peers})
}

func TestALinkIsResolvedByThoseWhoHaveTheTorrent(t *testing.T) {
	c := longContent(t)
	simulate(t, func(l *lab) {
		seed := l.node(nodeOptions{})
		seed.fill(c)
		seed.add(c)
		dead := netip.MustParseAddrPort("10.9.9.9:6881")
		n := l.node(nodeOptions{})
		start := time.Now()
		got, err := n.resolve(context.Background(), c, dead, seed.addr())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Info.Raw, c.meta.Info.Raw) {
			t.Error("another dictionary")
		}
		if len(got.Peers) != 1 || got.Peers[0] != seed.addr() {
			t.Errorf("peers %v, want the seed", got.Peers)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("took %v", d)
		}
		if _, ok := n.Resolving(c.meta.Info.Hash); ok {
			t.Error("it is still said to be under way")
		}
		// And the torrent works from there.
		tor, err := n.Add(&metainfo.Torrent{Info: got.Info}, AddOptions{Peers: got.Peers})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.open(tor, c).read(0, 100_000); err != nil {
			t.Error(err)
		}
	})
}

func TestALinkIsResolvedByAPeerThatComesToUs(t *testing.T) {
	c := longContent(t)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		seed := l.node(nodeOptions{})
		seed.fill(c)
		l.peers.Go(func() {
			time.Sleep(5 * time.Second)
			seed.add(c, n.addr())
		})
		if _, err := n.resolve(context.Background(), c); err != nil {
			t.Error(err)
		}
	})
}

// metadataPeer answers requests for the info dictionary as it is told to.
func metadataPeer(c *content, size int, answer func(piece int) []byte) script {
	return script{
		ext: &wire.ExtHandshake{M: map[string]uint8{wire.ExtMetadata: 7}, MetadataSize: size},
		message: func(f *fakeConn, m wire.Message) {
			if m.Kind != wire.Extended || m.Ext != 7 {
				return
			}
			md, err := wire.ParseMetadata(m.Data)
			if err != nil || md.Type != wire.MetadataRequest {
				f.lab.t.Errorf("we send %+v, %v", md, err)
				return
			}
			if data := answer(md.Piece); data != nil {
				f.send(wire.Message{Kind: wire.Extended, Ext: extMetadata, Data: wire.AppendMetadata(nil,
					wire.Metadata{Type: wire.MetadataData, Piece: md.Piece, TotalSize: size, Data: data})})
			}
		},
	}
}

func dictionaryPiece(raw []byte, piece int) []byte {
	begin := piece * wire.MetadataPieceLen
	return raw[begin:min(begin+wire.MetadataPieceLen, len(raw))]
}

func TestALinkIsResolvedAmongLiars(t *testing.T) {
	c := longContent(t)
	raw := c.meta.Info.Raw
	simulate(t, func(l *lab) {
		honest := func(piece int) []byte { return dictionaryPiece(raw, piece) }
		wrong := func(piece int) []byte { return make([]byte, len(honest(piece))) }
		silent := func(int) []byte { return nil }
		n := l.node(nodeOptions{})
		addrs := []netip.AddrPort{
			l.peer(c, near, metadataPeer(c, len(raw), wrong)).addr(),
			l.peer(c, near, metadataPeer(c, len(raw), silent)).addr(),
			l.peer(c, near, metadataPeer(c, 30<<20, silent)).addr(),
			l.peer(c, near, metadataPeer(c, len(raw), honest)).addr(),
			l.peer(c, near, script{}).addr(),
		}
		start := time.Now()
		got, err := n.resolve(context.Background(), c, addrs...)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Info.Raw, raw) {
			t.Error("another dictionary")
		}
		if d := time.Since(start); d > 40*time.Second {
			t.Errorf("took %v", d)
		}
		if !n.isBanned(addrs[0]) || n.isBanned(addrs[3]) {
			t.Error("the wrong peers are banned")
		}
	})
}

func TestALinkThatNobodyKnowsEndsWithItsContext(t *testing.T) {
	c := longContent(t)
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		quiet := l.peer(c, near, script{})
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		l.peers.Go(func() {
			time.Sleep(time.Minute)
			if _, err := n.resolve(ctx, c); !errors.Is(err, ErrResolving) {
				t.Errorf("second: got %v", err)
			}
		})
		if _, err := n.resolve(ctx, c, quiet.addr()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if got := quiet.conns.Load(); got > 20 {
			t.Errorf("a peer that has nothing was called %d times in an hour", got)
		}
	})
}

// HT-M5
func TestNobodyGetsTheDictionaryAgainAndAgain(t *testing.T) {
	c := longContent(t)
	raw := c.meta.Info.Raw
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{})
		n.fill(c)
		n.add(c)
		sent, refused := 0, 0
		flood := l.silentPeer(c, near, script{
			ext: &wire.ExtHandshake{M: map[string]uint8{wire.ExtMetadata: 9}},
			message: func(_ *fakeConn, m wire.Message) {
				if m.Kind != wire.Extended || m.Ext != 9 {
					return
				}
				md, err := wire.ParseMetadata(m.Data)
				if err != nil {
					t.Error(err)
				}
				sent += len(md.Data)
				if md.Type == wire.MetadataReject {
					refused++
				} else if !bytes.Equal(md.Data, dictionaryPiece(raw, md.Piece)) {
					t.Error("a wrong piece")
				}
			},
		})
		conn := flood.dial(n)
		for i := range 1000 {
			conn.send(wire.Message{Kind: wire.Extended, Ext: extMetadata, Data: wire.AppendMetadata(nil, wire.Metadata{Piece: i % 7})})
		}
		time.Sleep(time.Minute)
		if limit := metadataShare*len(raw) + wire.MetadataPieceLen; sent < len(raw) || sent > limit || refused < 900 {
			t.Errorf("sent %d bytes of %d, refused %d", sent, len(raw), refused)
		}
	})
}

func TestALinkMarkedPrivateIsNotLookedUpInTheDHT(t *testing.T) {
	c := longContent(t)
	for _, private := range []bool{false, true} {
		simulate(t, func(l *lab) {
			at := l.withNode().addr().String()
			seed, n := l.withNode(at), l.withNode(at)
			seed.fill(c)
			seed.add(c)
			if u := newResolving(n.Session, Link{Private: private}); u.exchanges() == private {
				t.Errorf("private %v: addresses of peers' peers are taken: %v", private, !private)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			_, err := n.Resolve(ctx, Link{Hash: c.meta.Info.Hash, Private: private})
			if found := err == nil; found == private {
				t.Errorf("private %v: got %v", private, err)
			}
		})
	}
}
