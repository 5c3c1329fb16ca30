package swarm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"swarmfs/swarm/dht"
	"swarmfs/swarm/wire"
)

// newDHT returns our node of the DHT, or nil if there is to be none. Its sockets
// have the port numbers on which we listen for peers.
func (s *Session) newDHT() *dht.Service {
	if s.opts.DHT == nil {
		return nil
	}
	o := *s.opts.DHT
	o.Addrs = nodeAddrs(s.Addrs(), s.opts.Local)
	o.Allow = s.mayReach
	o.Logger = s.log
	if o.ListenPacket == nil {
		o.ListenPacket = s.opts.Network.ListenPacket
	}
	if o.Resolve == nil {
		o.Resolve = s.opts.Network.Resolve
	}
	if !s.opts.Local {
		o.Bootstrap = append(o.Bootstrap[:len(o.Bootstrap):len(o.Bootstrap)], dht.PublicBootstrap...)
	}
	return dht.New(o)
}

// nodeAddrs are the addresses of our nodes, at most one of each family: where we
// listen, or any port where peers are only dialled.
func nodeAddrs(listening []net.Addr, local bool) []netip.AddrPort {
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	var v4, v6 netip.AddrPort
	for _, l := range listening {
		tcp, ok := l.(*net.TCPAddr)
		if !ok {
			continue
		}
		a := tcp.AddrPort()
		a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
		if a.Addr().Is4() && !v4.IsValid() {
			v4 = a
		}
		if a.Addr().Is6() && !v6.IsValid() {
			v6 = a
		}
		if a.Addr() == any6 && !v4.IsValid() { // such a listener takes both
			v4 = netip.AddrPortFrom(any4, a.Port())
		}
	}
	switch {
	case v4.IsValid() && v6.IsValid():
		return []netip.AddrPort{v4, v6}
	case v4.IsValid():
		return []netip.AddrPort{v4}
	case v6.IsValid():
		return []netip.AddrPort{v6}
	case local:
		return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)}
	}
	return []netip.AddrPort{netip.AddrPortFrom(any4, 0), netip.AddrPortFrom(any6, 0)}
}

// DHT returns how our node of the DHT is connected; false: there is none.
func (s *Session) DHT() (dht.Status, bool) {
	if s.dht == nil {
		return dht.Status{}, false
	}
	return s.dht.Status(), true
}

// rounds say when a torrent is looked up again. They are pure.
type rounds struct {
	began time.Time     // the newest look-up
	gap   time.Duration // before one that is asked for, and not merely due
	idle  bool          // it asked nobody
}

const (
	// Peers are forgotten 30 minutes after they announced themselves (BEP 5 names
	// no time; libtorrent and the library forget then).
	roundEvery = 20 * time.Minute
	// A torrent without peers is looked up sooner, ever more rarely.
	firstGap, maxGap = 30 * time.Second, 8 * time.Minute
	// A table becomes better twice at a start.
	leastGap = 2 * time.Second
)

// begin notes that a look-up begins.
func (r *rounds) begin(now time.Time) { r.began = now }

// ended notes what a look-up has brought; idle: there was nobody to ask.
func (r *rounds) ended(peers int, idle bool) {
	r.idle = idle
	if peers > 0 || r.gap == 0 {
		r.gap = firstGap
		return
	}
	r.gap = min(2*r.gap, maxGap)
}

// due returns when the next look-up is to begin: at its time, sooner if peers are
// wanted, at once if the table has become better.
func (r *rounds) due(wanted, better bool) time.Time {
	switch {
	case better && r.idle:
		return r.began
	case better:
		return r.began.Add(leastGap)
	case wanted:
		return r.began.Add(r.gap)
	}
	return r.began.Add(roundEvery)
}

// nodes asks the DHT for peers, and announces us there, until ctx ends.
func (f *search) nodes(ctx context.Context, found finding) error {
	d := f.session.dht
	if d == nil {
		return nil
	}
	select {
	case <-f.loud:
	case <-ctx.Done():
		return nil
	}
	var r rounds
	for {
		better := d.Better()
		r.begin(time.Now())
		var peers atomic.Int32
		err := d.Lookup(ctx, f.hash, f.session.port(), true, func(addrs []netip.AddrPort) {
			peers.Add(int32(len(addrs)))
			found(addrs, fromDHT)
		})
		if ctx.Err() != nil {
			return nil
		}
		r.ended(int(peers.Load()), errors.Is(err, dht.ErrNoNodes))
		if !f.rest(ctx, &r, better) {
			return nil
		}
	}
}

// rest waits until the next look-up is due; false: ctx has ended.
func (f *search) rest(ctx context.Context, r *rounds, better <-chan struct{}) bool {
	timer := time.NewTimer(0)
	defer timer.Stop()
	wanted, improved := false, false
	for {
		wait := time.Until(r.due(wanted, improved))
		if wait <= 0 {
			return true
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-better:
			improved, better = true, nil
		case <-f.starving:
			wanted = true
		case <-ctx.Done():
			return false
		}
	}
}

// tellNode tells a peer of our node, once, so that it can ask it (BEP 5).
func (r *run) tellNode(p *peer) {
	s := r.t.session
	if p.toldNode || s.dht == nil || r.t.info.Private || !p.hs.Has(wire.FeatureDHT) {
		return
	}
	if port := s.dht.Port(p.addr.Addr()); port != 0 {
		p.toldNode = true
		p.out.append(wire.Message{Kind: wire.Port, Index: uint32(port)})
		p.out.signal()
	}
}

// nodeTold takes what a peer says of its node.
func (p *peer) nodeTold(port uint32) {
	s := p.run.t.session
	if s.dht != nil && !p.run.t.info.Private && port > 0 && port <= 65535 {
		s.dht.Ping(netip.AddrPortFrom(p.addr.Addr(), uint16(port)))
	}
}
