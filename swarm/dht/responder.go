package dht

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net"
	"net/netip"
	"time"

	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/torrent/bencode"
)

// respond answers a query in the server's stead; true: the server is to do it. It
// runs with the server's lock held, so it calls nothing of it.
//
// The server would answer find_node with the nodes close to info_hash, which is
// absent there, and never with those that share more of our own id than of the
// target's, so that a small network does not come together.
func (l *life) respond(q *krpc.Msg, source net.Addr) bool {
	from, ok := addrPort(source)
	if !ok || q.A == nil || l.f.s.o.ReadOnly {
		return false
	}
	now := time.Now()
	r := krpc.Return{ID: l.id}
	switch q.Q {
	case "ping":
		return true
	case "find_node", "get", "sample_infohashes": // others know how to go on with nodes alone
		l.addNodes(&r, now, q.A.Target, q.A.Want)
	case "get_peers":
		l.addNodes(&r, now, q.A.InfoHash, q.A.Want)
		for _, p := range l.peers.some(now, q.A.InfoHash) {
			r.Values = append(r.Values, toNodeAddr(p))
		}
		token := l.tokens.make(now, from.Addr())
		r.Token = &token
	case "announce_peer":
		if !l.tokens.valid(now, from.Addr(), q.A.Token) {
			l.send(from, krpc.Msg{T: q.T, Y: "e", E: &krpc.Error{Code: krpc.ErrorCodeProtocolError, Msg: "bad token"}})
			return false
		}
		port := from.Port()
		if p := q.A.Port; !q.A.ImpliedPort && p != nil {
			if *p < 1 || *p > 65535 {
				return false
			}
			port = uint16(*p)
		}
		l.peers.add(now, q.A.InfoHash, netip.AddrPortFrom(from.Addr(), port))
	default:
		return false
	}
	l.send(from, krpc.Msg{T: q.T, Y: "r", R: &r, IP: toNodeAddr(from)}) // BEP 42: ip
	return false
}

// addNodes tells of the good nodes closest to a target, in the families that are
// wanted (BEP 32).
func (l *life) addNodes(r *krpc.Return, now time.Time, target [20]byte, want []krpc.Want) {
	wanted := map[bool]bool{l.f.v6: len(want) == 0}
	for _, w := range want {
		wanted[w == krpc.WantNodes6] = true
	}
	for _, f := range l.f.s.families {
		other := f.current()
		if other == nil || !wanted[f.v6] {
			continue
		}
		for _, c := range other.link.closest(now, target, bucketSize) {
			if f.v6 {
				r.Nodes6 = append(r.Nodes6, nodeInfo(c))
			} else {
				r.Nodes = append(r.Nodes, nodeInfo(c))
			}
		}
	}
}

// send sends a reply. That it does not arrive is nothing that anybody could help.
func (l *life) send(to netip.AddrPort, m krpc.Msg) {
	if b, err := bencode.Marshal(m); err == nil {
		_, _ = l.link.WriteTo(b, net.UDPAddrFromAddrPort(to))
	}
}

// tokens prove that a node has asked us from its address lately (BEP 5). They are
// kept nowhere: each is a hash of the address under a secret of a few minutes.
type tokens struct{ secret [32]byte }

const tokenFor = 5 * time.Minute // and as long again: the one before is valid too

func newTokens() tokens {
	var t tokens
	_, _ = rand.Read(t.secret[:]) // never fails
	return t
}

func (t *tokens) make(now time.Time, of netip.Addr) string {
	return t.at(now.UnixNano()/int64(tokenFor), of)
}

func (t *tokens) valid(now time.Time, of netip.Addr, token string) bool {
	epoch := now.UnixNano() / int64(tokenFor)
	return hmac.Equal([]byte(token), []byte(t.at(epoch, of))) || hmac.Equal([]byte(token), []byte(t.at(epoch-1, of)))
}

func (t *tokens) at(epoch int64, of netip.Addr) string {
	h := hmac.New(sha256.New, t.secret[:])
	for i := range 8 {
		h.Write([]byte{byte(epoch >> (8 * i))})
	}
	h.Write(of.AsSlice())
	return string(h.Sum(nil)[:8])
}
