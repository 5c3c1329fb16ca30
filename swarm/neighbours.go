package swarm

import (
	"context"
	"net/netip"

	"swarmfs/swarm/lsd"
	"swarmfs/swarm/network"
)

// newLSD returns what finds peers on the local network, or nil if nothing is to.
// Where nothing leaves this machine it looks there, for other programs on it.
func (s *Session) newLSD() *lsd.Service {
	if s.opts.NoLSD {
		return nil
	}
	o := lsd.Options{Port: s.port, Logger: s.log}
	if s.opts.Local {
		o.Interfaces = lsd.Loopback
	}
	if n, ok := s.opts.Network.(*network.Network); ok && n.Bound() {
		o.Interfaces = n.Interfaces
	}
	return lsd.New(o)
}

// neighbours announces the torrent on the local network and passes on who has it
// there, until ctx ends.
func (f *search) neighbours(ctx context.Context, found finding) error {
	if f.session.lsd == nil {
		return nil
	}
	select {
	case <-f.loud:
	case <-ctx.Done():
		return nil
	}
	return f.session.lsd.Search(ctx, f.hash, func(a netip.AddrPort) { found([]netip.AddrPort{a}, fromLSD) })
}
