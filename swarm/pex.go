package swarm

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"swarmfs/swarm/engine"
	"swarmfs/swarm/wire"
)

var errRedundant = errors.New("both have all")

const (
	// pexEvery is how often a peer is told what has changed, and heard (BEP 11).
	pexEvery = time.Minute
	// maxPex is how many addresses a message adds, and drops (BEP 11).
	maxPex = 50
	// maxPexTaken is how many addresses are taken of one connection: what a peer
	// says is hearsay, and others are to be heard too.
	maxPexTaken = 100
	// Below it are services that nobody's peers should be made to call.
	minPexPort = 1024
)

// pexNews is what one peer was told of others. It is pure; the loop owns it.
type pexNews struct {
	told map[netip.AddrPort]bool
	next time.Time // not to be told more before
}

// message returns what has changed since the last one, and takes it as told. It is
// false when nothing has, or it is too early.
func (n *pexNews) message(now time.Time, connected []wire.PexPeer) (m wire.Pex, ok bool) {
	if now.Before(n.next) {
		return m, false
	}
	there := make(map[netip.AddrPort]bool, len(connected))
	for _, p := range connected {
		there[p.Addr] = true
		if !n.told[p.Addr] && len(m.Added) < maxPex {
			m.Added = append(m.Added, p)
		}
	}
	for a := range n.told {
		if !there[a] {
			m.Dropped = append(m.Dropped, a)
		}
	}
	slices.SortFunc(m.Dropped, netip.AddrPort.Compare)
	m.Dropped = m.Dropped[:min(len(m.Dropped), maxPex)]
	if len(m.Added)+len(m.Dropped) == 0 {
		return m, false
	}
	if n.told == nil {
		n.told = map[netip.AddrPort]bool{}
	}
	for _, p := range m.Added {
		n.told[p.Addr] = true
	}
	for _, a := range m.Dropped {
		delete(n.told, a)
	}
	n.next = now.Add(pexEvery)
	return m, true
}

// pexIntake is what is taken of one peer's messages. It is pure.
type pexIntake struct {
	next  time.Time // when a message would be in time
	taken int       // addresses
}

// due says whether a message is to be read at all. One may come early: it can be
// underway for less than the one before.
func (in *pexIntake) due(now time.Time) bool {
	if now.Before(in.next) {
		return false
	}
	if early := now.Add(-pexEvery); in.next.Before(early) {
		in.next = early
	}
	in.next = in.next.Add(pexEvery)
	return true
}

// take returns the addresses that may be tried of a message that came from an
// address.
func (in *pexIntake) take(m wire.Pex, from netip.Addr) []netip.AddrPort {
	var list []netip.AddrPort
	for _, p := range m.Added[:min(len(m.Added), maxPex)] {
		if in.taken == maxPexTaken {
			break
		}
		if p.Addr.Port() >= minPexPort && speaksOf(from, p.Addr.Addr()) {
			in.taken++
			list = append(list, p.Addr)
		}
	}
	return list
}

// exchange is what a peer and the loop know of each other beyond the pieces. The
// loop owns it.
type exchange struct {
	id         uint8          // the peer's identifier of ut_pex; 0: it does not speak it
	listens    netip.AddrPort // where others reach it, as far as is known
	uploadOnly bool           // BEP 21: it will not download
	said       bool           // we told it that we will not
	news       pexNews
}

// exchanges says whether peers may hear of each other.
func (r *run) exchanges() bool { return !r.t.info.Private && !r.t.session.opts.NoPEX }

// introduce makes our extended handshake with a peer.
func (r *run) introduce(p *peer) wire.Message {
	h := r.t.session.extHandshake(len(r.t.info.Raw))
	h.YourIP = p.addr.Addr().Unmap().WithZone("")
	h.UploadOnly = r.hasAll()
	if r.exchanges() {
		h.M[wire.ExtPex] = extPex
	}
	p.ex.said = h.UploadOnly
	return wire.Message{Kind: wire.Extended, Ext: wire.ExtHandshakeID, Data: wire.AppendExtHandshake(nil, h)}
}

func (r *run) hasAll() bool { return r.eng.Held() == r.t.layout.NumPieces() }

// introduced takes a peer's extended handshake.
func (r *run) introduced(now time.Time, p *peer, h wire.ExtHandshake) {
	if h.Version != "" {
		p.client = h.Version
	}
	if id, named := h.M[wire.ExtPex]; named {
		p.ex.id = id
	}
	p.ex.uploadOnly = h.UploadOnly
	if !p.dialed && h.Port != 0 && !p.ex.listens.IsValid() {
		p.ex.listens = netip.AddrPortFrom(p.addr.Addr(), h.Port)
		r.addrs.meet(now, p.ex.listens)
	}
	// Only whom we chose ourselves is asked where we are, and seldom.
	if p.dialed && h.YourIP.IsValid() && speaksOf(p.addr.Addr(), h.YourIP) && now.Sub(r.locatedAt) > locateEvery {
		r.locatedAt = now
		r.addrs.locate(netip.AddrPortFrom(h.YourIP, r.t.session.port()))
	}
}

const (
	// lookRound is how often peers are looked over for what they are to be told.
	lookRound = time.Second
	// locateEvery is how often we may learn that our own address is another.
	locateEvery = 10 * time.Minute
)

// lookOver tells peers whether we download, and of each other, and leaves those
// that are of no use to us while we are of none to them.
func (r *run) lookOver(now time.Time) {
	if now.Before(r.lookAt) {
		return
	}
	r.lookAt = now.Add(lookRound)
	r.addrs.complete = r.hasAll()
	list := r.eng.Peers()
	var connected []wire.PexPeer // made when the first wants to know
	for _, st := range list {
		p := r.peers[st.Peer]
		if p == nil || p.gone || !p.hs.Has(wire.FeatureExtended) && !r.addrs.complete {
			continue
		}
		seed := st.Pieces == r.t.layout.NumPieces()
		if r.addrs.complete && (seed || p.ex.uploadOnly) {
			r.partWith(p)
			continue
		}
		if p.hs.Has(wire.FeatureExtended) && p.ex.said != r.addrs.complete {
			p.tell(r.introduce(p))
		}
		if p.ex.id == 0 || !r.exchanges() || now.Before(p.ex.news.next) {
			continue
		}
		if connected == nil {
			connected = r.connected(list)
		}
		if m, ok := p.ex.news.message(now, usefulTo(p, connected)); ok {
			p.tell(wire.Message{Kind: wire.Extended, Ext: p.ex.id, Data: wire.AppendPex(nil, m)})
		}
	}
}

// partWith ends a connection between two that have all (BEP 21).
func (r *run) partWith(p *peer) {
	p.gone = true
	for _, a := range [...]netip.AddrPort{p.addr, p.ex.listens} {
		r.addrs.redundant(a)
	}
	p.cancel(errRedundant)
}

// connected returns whom others may be told of, in the order of joining.
func (r *run) connected(list []engine.PeerStatus) []wire.PexPeer {
	peers := make([]wire.PexPeer, 0, len(list))
	for _, st := range list {
		p := r.peers[st.Peer]
		if p == nil || p.gone || !p.ex.listens.IsValid() {
			continue
		}
		k := wire.PexPeer{Addr: netip.AddrPortFrom(p.ex.listens.Addr().Unmap().WithZone(""), p.ex.listens.Port())}
		if protectionOf(p.conn) != ProtectionNone {
			k.Flags |= wire.PexEncryption
		}
		if st.Pieces == r.t.layout.NumPieces() || p.ex.uploadOnly {
			k.Flags |= wire.PexUploadOnly
		}
		if p.dialed {
			k.Flags |= wire.PexReachable
		}
		peers = append(peers, k)
	}
	return peers
}

// usefulTo leaves out the peer itself, and whom it cannot reach.
func usefulTo(p *peer, connected []wire.PexPeer) []wire.PexPeer {
	list := make([]wire.PexPeer, 0, len(connected))
	for _, k := range connected {
		if k.Addr != p.ex.listens && speaksOf(p.addr.Addr(), k.Addr.Addr()) {
			list = append(list, k)
		}
	}
	return list
}

// pexTold takes a peer's message. Its reader calls it.
func (p *peer) pexTold(payload []byte) error {
	if !p.run.exchanges() || !p.intake.due(time.Now()) {
		return nil
	}
	m, err := wire.ParsePex(payload)
	if err != nil {
		return err
	}
	if addrs := p.intake.take(m, p.addr.Addr()); len(addrs) > 0 {
		return p.run.post(p.ctx, found{addrs, fromPEX})
	}
	return nil
}

// exchanges says whether peers of a link are asked for others. Whoever has no
// metadata is of no use to any, so that none is told of.
func (u *resolving) exchanges() bool { return !u.link.Private && !u.session.opts.NoPEX }

// pexTold is that of a link.
func (i *informant) pexTold(payload []byte) error {
	if !i.u.exchanges() || !i.intake.due(time.Now()) {
		return nil
	}
	m, err := wire.ParsePex(payload)
	if err != nil {
		return err
	}
	if addrs := i.intake.take(m, i.addr.Addr()); len(addrs) > 0 {
		return i.u.post(found{addrs, fromPEX})
	}
	return nil
}

// speaksOf says whether somebody at an address can know of a peer at another, or
// use it: addresses inside a network mean something else outside of it.
func speaksOf(who, of netip.Addr) bool {
	who, of = who.Unmap(), of.Unmap()
	switch {
	case who.IsLoopback():
		return true
	case of.IsLoopback():
		return false
	case isPrivate(who):
		return true
	}
	return of.IsGlobalUnicast() && !isPrivate(of)
}

// carrierNAT is shared by the customers of a provider (RFC 6598).
var carrierNAT = netip.MustParsePrefix("100.64.0.0/10")

func isPrivate(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLinkLocalUnicast() || carrierNAT.Contains(a)
}
