package swarm

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"time"

	"swarmfs/cache"
	"swarmfs/metainfo"
	"swarmfs/swarm/dht"
	"swarmfs/swarm/network"
)

// Background says what is fetched beyond what readers ask for.
type Background int

const (
	// BackgroundOpened completes a file behind its reader, rarest pieces first,
	// once one reader has consumed 32 MiB of it in sequence or all of a smaller
	// file. Probes and random reads never start it.
	BackgroundOpened Background = iota
	// BackgroundOff fetches only what is read, and the read-ahead.
	BackgroundOff
	// BackgroundAll completes the whole torrent once any of it was read.
	BackgroundAll
)

// ParseBackground reads "off", "opened" or "all".
func ParseBackground(s string) (Background, error) {
	for b, name := range backgroundNames {
		if s == name {
			return Background(b), nil
		}
	}
	return 0, fmt.Errorf("background mode %q is none of off, opened, all", s)
}

var backgroundNames = [...]string{BackgroundOpened: "opened", BackgroundOff: "off", BackgroundAll: "all"}

// String returns the name that ParseBackground reads.
func (b Background) String() string { return backgroundNames[b] }

// Options of a Session. The zero value of a field means its default.
type Options struct {
	// Listen are the HOST:PORT addresses to accept peers on, over TCP. Port 0
	// takes a free one. Default none: peers are only dialled.
	Listen []string
	// Store holds the pieces of torrents that bring no Volume of their own.
	Store *cache.Store
	// ReadTimeout is how long a read waits without any progress before it fails
	// with ErrTimeout. Default 60 s; negative waits for ever.
	ReadTimeout time.Duration
	// Background says what is fetched beyond what readers ask for.
	Background Background
	// ReadAhead is how far beyond a sequential reader pieces are fetched at
	// most, in bytes. More hides slow peers and wastes data on seeks.
	// Default 32 MiB.
	ReadAhead int64
	// UploadLimit and DownloadLimit bound the payload of all peers together, in
	// bytes a second. 0 means no limit.
	UploadLimit, DownloadLimit int64
	// Seeding says how long torrents are uploaded that have no rule of their own.
	Seeding Seeding
	// UploadSlots is how many peers may download from us at a time, of all torrents
	// together. Default: by what was seen to leave us.
	UploadSlots int
	// MaxPeers is how many connections a torrent keeps. Default 80.
	MaxPeers int
	// DHT is how peers are looked for in the DHT; what says where, through which
	// sockets and to whom is the session's to set. The public bootstrap nodes come
	// beside its own, unless Local is set. Nil: not at all.
	DHT *dht.Options
	// AllTrackers announces to every tracker of a torrent, not only to the first of
	// its tiers that answers. Private trackers may not like it.
	AllTrackers bool
	// Local confines everything to loopback addresses: nothing is dialled or
	// announced elsewhere.
	Local bool
	// NoLSD: nothing is announced on the local network, and nobody heard there.
	NoLSD bool
	// NoPEX: peers are neither told of each other nor asked for others.
	NoPEX bool
	// Encryption says which connections are encrypted.
	Encryption Encryption
	// Network opens every socket, and looks up every name. One that has a Serve
	// runs with the session. Default: the operating system's, confined by Local.
	Network Network
	// Logger gets what happens; nil: nobody.
	Logger *slog.Logger

	rng func() *rand.Rand // tests: the chance of each life of a torrent; nil: a new one
}

func (o *Options) fill() {
	if o.ReadTimeout == 0 {
		o.ReadTimeout = time.Minute
	}
	if o.ReadAhead == 0 {
		o.ReadAhead = 32 << 20
	}
	if o.MaxPeers == 0 {
		o.MaxPeers = 80
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Network == nil {
		o.Network = network.New(network.Options{Local: o.Local, Logger: o.Logger})
	}
	if o.rng == nil {
		o.rng = func() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }
	}
}

// Network opens sockets: a *network.Network, or a simulated one.
type Network interface {
	// Listen accepts TCP connections on HOST:PORT.
	Listen(addr string) (net.Listener, error)
	// Dial connects over TCP.
	Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	// ListenPacket opens a datagram socket for "udp", "udp4" or "udp6" on HOST:PORT.
	ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error)
	// Resolve returns the addresses of a host; a literal address is its own.
	Resolve(ctx context.Context, host string) ([]netip.Addr, error)
}

// AddOptions says how a torrent is to be run.
type AddOptions struct {
	// Volume holds the pieces; nil: the session's Store does.
	Volume Volume
	// Quiet keeps the torrent from its trackers until Announce is called: for
	// files whose pieces are still being looked at.
	Quiet bool
	// Uploaded and Downloaded are the payload of earlier runs, in bytes, which
	// SeedRatio counts too.
	Uploaded, Downloaded int64
	// Peers are addresses to connect to at once.
	Peers []netip.AddrPort
	// Select is which files BackgroundAll completes (BEP 53); nil: all.
	Select metainfo.FileRanges
}

// Volume is where the verified pieces of a torrent are: *cache.Volume, *cache.Imported, or
// *cache.Files for files that are seeded in place.
type Volume interface {
	Pieces() []uint64
	Has(piece int) bool
	ReadAt(piece int, p []byte, off int) (int, error)
	Peek(piece int, p []byte, off int) (int, error) // ReadAt that is no reason to keep the piece
	Draft(piece int, urgent bool) (*cache.Draft, error)
}

// notifier is a Volume whose pieces may go away again.
type notifier interface {
	Notify(onEvict func(piece int), onRoom func())
}

// finder is a Volume that may come to hold pieces by itself.
type finder interface {
	NotifyFound(onFound func(piece int))
}

// sharer is a Volume that has pieces in common with others, and copies them.
type sharer interface {
	Share()
	Borrowed() int64
}

// hashWorkers is how many pieces of the whole session are hashed at a time.
func hashWorkers() int { return max(1, runtime.GOMAXPROCS(0)) }
