package dht

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// hosts are the addresses of the bootstrap hosts of a family, as they become
// known; all are looked up at once, on goroutines of g, until ctx ends.
func (s *Service) hosts(ctx context.Context, g *sync.WaitGroup, v6 bool) <-chan netip.AddrPort {
	out := make(chan netip.AddrPort)
	var wg sync.WaitGroup
	for _, hp := range s.o.Bootstrap {
		wg.Go(func() {
			addrs, err := s.resolve(ctx, hp)
			if err != nil {
				s.log.Debug("look up a bootstrap node", "node", hp, "err", err)
				return
			}
			for _, a := range addrs {
				if a.Addr().Is6() != v6 {
					continue
				}
				select {
				case out <- a:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	g.Go(func() { wg.Wait(); close(out) })
	return out
}

// resolveTime bounds the look-up of one bootstrap host.
const resolveTime = 5 * time.Second

// Addresses of one bootstrap host that are asked, at most.
const maxHostAddrs = 8

func (s *Service) resolve(ctx context.Context, hostPort string) ([]netip.AddrPort, error) {
	host, portName, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portName, 10, 16)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, a)
	} else {
		ctx, cancel := context.WithTimeout(ctx, resolveTime)
		defer cancel()
		if addrs, err = s.o.Resolve(ctx, host); err != nil {
			return nil, fmt.Errorf("look up %s: %w", host, err)
		}
	}
	var out []netip.AddrPort
	for _, a := range addrs[:min(len(addrs), maxHostAddrs)] {
		out = append(out, netip.AddrPortFrom(a.Unmap(), uint16(port)))
	}
	return out, nil
}
