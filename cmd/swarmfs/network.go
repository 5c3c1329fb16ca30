package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"swarmfs/swarm"
)

// defaultListen is where BitTorrent clients have always listened. When it is
// taken and was not asked for, any free port does.
const defaultListen = ":6881"

// networkFlags are the flags of commands that talk to peers.
type networkFlags struct {
	listen   addressList
	peers    addressList
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

// errLocal is why something was not sent.
var errLocal = errors.New("nothing is sent beyond this machine, as every --listen is loopback")

// hostsOnly finds names in /etc/hosts and asks no name server, not even one on
// this machine, which would pass the question on.
var hostsOnly = &net.Resolver{
	PreferGo: true,
	Dial:     func(context.Context, string, string) (net.Conn, error) { return nil, errLocal },
}

// loopbackOnly is a net.Dialer.Control that reaches this machine alone.
func loopbackOnly(_, address string, _ syscall.RawConn) error {
	if a, err := netip.ParseAddrPort(address); err != nil || !a.Addr().Unmap().IsLoopback() {
		return errLocal
	}
	return nil
}

// confine keeps name look-ups of the whole process inside it, if the session is
// local: a torrent's trackers and web seeds have names that no name server
// should hear of then.
func (f *networkFlags) confine() {
	if f.local() {
		net.DefaultResolver = hostsOnly
	}
}

// lookupTimeout bounds the look-up of all names given to --peer.
const lookupTimeout = 10 * time.Second

// resolvePeers turns --peer into addresses. A local session neither asks a name
// server nor reaches other machines, so it takes loopback addresses alone.
func (f *networkFlags) resolvePeers(ctx context.Context) ([]netip.AddrPort, error) {
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
		addrs, err := lookup(ctx, host)
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
func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if strings.EqualFold(host, "localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("look up %s: no such host, or no name server: give an address", host)
	}
	return addrs, nil
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
