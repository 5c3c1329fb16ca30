package dht

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
)

// Options of a Service.
type Options struct {
	// Bootstrap are the nodes, as HOST:PORT, that are asked for others when no
	// saved node answers. Default none: then nodes come from Ping alone.
	Bootstrap []string
	// Load returns what Save was given last, or nothing. Nil: nothing is kept.
	Load func() ([]byte, error)
	// Save keeps the node table, some kB, over a restart. Nil: nothing is kept.
	Save func([]byte) error
	// ReadOnly marks a node that others should not keep in their tables, as it
	// will soon be gone (BEP 43). It answers nobody.
	ReadOnly bool

	// Addrs are the addresses of the sockets, IP:PORT, one of IPv4 and one of
	// IPv6 at most. When a port is taken, another is.
	Addrs []netip.AddrPort
	// ListenPacket opens a socket; network is "udp4" or "udp6".
	// Default: net.ListenPacket.
	ListenPacket func(ctx context.Context, network, addr string) (net.PacketConn, error)
	// Resolve looks up a host. Default: net.DefaultResolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Allow says which addresses packets may go to and come from. It is called
	// for each and must be quick. Default: all.
	Allow func(netip.Addr) error
	// Logger gets what happens; nil: nobody.
	Logger *slog.Logger
}

// PublicBootstrap are hosts that are known for giving nodes to newcomers.
var PublicBootstrap = []string{
	"dht.libtorrent.org:25401",
	"router.bittorrent.com:6881",
	"router.utorrent.com:6881",
	"dht.transmissionbt.com:6881",
	"dht.aelitis.com:6881",
}

func (o *Options) fill() {
	if o.ListenPacket == nil {
		var c net.ListenConfig
		o.ListenPacket = c.ListenPacket
	}
	if o.Resolve == nil {
		o.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if o.Allow == nil {
		o.Allow = func(netip.Addr) error { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}
