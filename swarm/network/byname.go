package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// Names is what DialName needs: a *Network, or a simulated one.
type Names interface {
	Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	Resolve(ctx context.Context, host string) ([]netip.Addr, error)
}

// Times of RFC 8305: how long one address has before another is tried beside it.
const (
	attemptDelay = 250 * time.Millisecond
	maxAttempts  = 8 // addresses of one name
)

// DialName connects to HOST:PORT over TCP: to whichever of its addresses that
// check permits answers first. It is what http.Transport's DialContext calls.
func DialName(ctx context.Context, n Names, address string, check func(netip.Addr) error) (net.Conn, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return nil, errors.New("port of the URL is not one")
	}
	addrs, err := n.Resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	addrs, err = permitted(addrs, check)
	if err != nil {
		return nil, err
	}
	return race(ctx, n, addrs, uint16(port))
}

// permitted returns the addresses to try, the families in turn, or why none.
func permitted(addrs []netip.Addr, check func(netip.Addr) error) ([]netip.Addr, error) {
	var refused error
	var families [2][]netip.Addr
	for _, a := range addrs {
		if check != nil {
			if err := check(a); err != nil {
				refused = err
				continue
			}
		}
		i := 0
		if a.Is4() != addrs[0].Is4() { // the resolver's favourite comes first
			i = 1
		}
		families[i] = append(families[i], a)
	}
	var all []netip.Addr
	for i := range addrs {
		for _, f := range families {
			if i < len(f) && len(all) < maxAttempts {
				all = append(all, f[i])
			}
		}
	}
	switch {
	case len(all) > 0:
		return all, nil
	case refused != nil:
		return nil, refused
	}
	return nil, errors.New("the name has no address")
}

// race dials one address after the other, a little apart, and returns the first
// connection. Nothing of it goes on when it returns.
func race(ctx context.Context, n Names, addrs []netip.Addr, port uint16) (net.Conn, error) {
	dialling, cancel := context.WithCancel(ctx)
	type outcome struct {
		conn net.Conn
		err  error
	}
	outcomes := make(chan outcome, len(addrs))
	var attempts sync.WaitGroup
	defer func() { // who comes second is not needed
		cancel()
		attempts.Wait()
		close(outcomes)
		for o := range outcomes {
			if o.conn != nil {
				o.conn.Close()
			}
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var first error
	for next, failed := 0, 0; failed < len(addrs); {
		select {
		case <-timer.C:
			if next < len(addrs) {
				a := netip.AddrPortFrom(addrs[next], port)
				next++
				attempts.Go(func() {
					c, err := n.Dial(dialling, a)
					outcomes <- outcome{c, err}
				})
				timer.Reset(attemptDelay)
			}
		case o := <-outcomes:
			if o.err == nil {
				return o.conn, nil
			}
			if first == nil {
				first = o.err
			}
			failed++
			timer.Reset(0)
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, fmt.Errorf("connect: %w", first)
}
