package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"swarmfs/swarm"
	"swarmfs/swarm/network"
)

// defaultListen is where BitTorrent clients have always listened. When it is
// taken and was not asked for, any free port does.
const defaultListen = ":6881"

// networkFlags are the flags of commands that talk to peers.
type networkFlags struct {
	listen   addressList
	peers    addressList
	bind     string // interface or address; "": any
	noDHT    bool
	nodes    addressList // --dht-bootstrap
	nodeFile string      // where the DHT's nodes are kept; empty: nowhere
	allTr    bool        // --announce-all-trackers
	noLSD    bool
	noPEX    bool
	noMap    bool
	encrypt  string
	upload   int64 // bytes/s, 0: unlimited
	download int64 // bytes/s, 0: unlimited
	seed     swarm.Seeding
}

func (f *networkFlags) register(flags *pflag.FlagSet) {
	f.listen.addresses = []string{defaultListen}
	flags.Var(&f.listen, "listen", "listen on this `HOST:PORT`; repeatable; loopback addresses only: nothing is sent beyond this machine")
	flags.Var(&f.peers, "peer", "a peer `HOST:PORT` to try for every torrent; repeatable")
	flags.StringVar(&f.bind, "bind", "", "send and receive everything, name look-ups too, through this `IFACE|ADDR` alone; nothing while it is not there")
	flags.BoolVar(&f.noDHT, "no-dht", false, "do not use the distributed hash table")
	flags.Var(&f.nodes, "dht-bootstrap", "a node `HOST:PORT` of the distributed hash table to ask for others; repeatable, beside the public ones")
	flags.BoolVar(&f.allTr, "announce-all-trackers", false, "announce to all trackers of a torrent, not to one of them while it answers; private trackers may ban for it")
	flags.BoolVar(&f.noLSD, "no-lsd", false, "do not look for peers on the local network")
	flags.BoolVar(&f.noPEX, "no-pex", false, "do not exchange peer addresses with peers")
	flags.BoolVar(&f.noMap, "no-port-mapping", false, "do not ask the router to forward the port")
	f.encrypt = swarm.EncryptionPrefer.String()
	flags.Var(choiceValue{&f.encrypt, []string{"prefer", "require", "off"}}, "encryption", "encrypt connections with peers that can, with all or not at all, or never")
	flags.Var(sizeValue{bytes: &f.upload, suffix: "/s"}, "upload-limit", "most bytes to send each second, as in 5MiB; 0: no limit")
	flags.Var(sizeValue{bytes: &f.download, suffix: "/s"}, "download-limit", "most bytes to fetch each second, as in 5MiB; 0: no limit")
	flags.Var(seedValue{&f.seed}, "seed", "how long to upload what is held: off, while-open, while-cached, ratio:R or time:T")
}

// local reports whether nothing may be sent beyond this machine.
func (f *networkFlags) local() bool { return onlyLoopback(f.listen.addresses) }

// nets are what a command may open sockets with. The zero value is for commands
// without flags about it.
type nets struct {
	own  *network.Network // the session's, and for what a torrent or a link names
	user *network.Network // for the user's own URLs, which are fetched wherever they are
}

func (n nets) forUser() fetcher {
	if n.user == nil {
		n.user = network.New(network.Options{})
	}
	return fetcher{net: n.user, given: true}
}

func (n nets) forLinks() fetcher {
	if n.own == nil {
		n.own = network.New(network.Options{})
	}
	return fetcher{net: n.own}
}

// networks makes them, and keeps name look-ups of the whole process to the
// session's: what asks by itself must not ask elsewhere.
func (f *networkFlags) networks(log *slog.Logger) nets {
	own := network.New(network.Options{Bind: f.bind, Local: f.local(), Logger: log})
	n := nets{own: own, user: own}
	if f.local() {
		n.user = network.New(network.Options{Bind: f.bind})
	}
	net.DefaultResolver = own.Resolver()
	return n
}

// lookupTimeout bounds the look-up of all names given to --peer.
const lookupTimeout = 10 * time.Second

// resolvePeers turns --peer into addresses. A local session neither asks a name
// server nor reaches other machines, so it takes loopback addresses alone.
func (f *networkFlags) resolvePeers(ctx context.Context, own *network.Network) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookupTimeout, errors.New("no answer from the name server within 10 s"))
	defer cancel()
	var all []netip.AddrPort
	for _, p := range f.peers.addresses {
		host, port, err := splitAddress(p)
		if err != nil {
			return nil, failf(exitUsage, "--peer %s: %w", p, err)
		}
		if host == "" || port == 0 {
			return nil, failf(exitUsage, "--peer %s: a peer has a host and a port from 1 to 65535", p)
		}
		if f.local() && !onlyLoopback([]string{p}) {
			return nil, failf(exitUsage, "--peer %s: out of reach when every --listen is loopback: add a --listen that is not", p)
		}
		addrs, err := lookup(ctx, own, host)
		if err != nil {
			return nil, failf(exitNetwork, "--peer %s: %w", p, err)
		}
		for _, a := range addrs {
			all = append(all, netip.AddrPortFrom(a.Unmap(), port))
		}
	}
	return all, nil
}

// lookup returns the addresses of a host; a literal address asks nobody.
func lookup(ctx context.Context, own *network.Network, host string) ([]netip.Addr, error) {
	addrs, err := own.Resolve(ctx, host)
	if err == nil {
		return addrs, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if down := own.Down(); down != nil {
		return nil, fmt.Errorf("look up %s: %w: give an address", host, down)
	}
	return nil, fmt.Errorf("look up %s: no such host, or no name server: give an address", host)
}

// addressList is a repeatable flag of HOST:PORT. The first one given replaces
// the default.
type addressList struct {
	addresses []string
	given     bool
}

var _ pflag.SliceValue = (*addressList)(nil)

func (l *addressList) Set(s string) error {
	if !l.given {
		l.addresses = nil
	}
	return l.Append(s)
}

func (l *addressList) Append(s string) error {
	if _, _, err := splitAddress(s); err != nil {
		return err
	}
	l.given = true
	if !slices.Contains(l.addresses, s) {
		l.addresses = append(l.addresses, s)
	}
	return nil
}

func (l *addressList) Replace(all []string) error {
	l.addresses = nil
	for _, s := range all {
		if err := l.Append(s); err != nil {
			return err
		}
	}
	return nil
}

func (l *addressList) GetSlice() []string { return l.addresses }
func (l *addressList) String() string     { return strings.Join(l.addresses, ",") }
func (l *addressList) Type() string       { return "HOST:PORT" }
