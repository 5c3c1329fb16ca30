package tracker

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"swarmfs/swarm/network"
)

// Event says why an announce is made (BEP 3). The values are those of BEP 15.
type Event uint32

// The events of an announce.
const (
	None      Event = 0 // a regular one
	Completed Event = 1 // the last piece has come, now
	Started   Event = 2 // the first one
	Stopped   Event = 3 // the last one
)

// String returns the event as HTTP trackers want it, "" for None.
func (e Event) String() string {
	switch e {
	case None:
		return ""
	case Completed:
		return "completed"
	case Started:
		return "started"
	case Stopped:
		return "stopped"
	}
	return fmt.Sprintf("event %d", uint32(e))
}

// DefaultNumWant is how many peers are asked for if the Request does not say.
const DefaultNumWant = 200

// Request is what we tell a tracker.
type Request struct {
	InfoHash, PeerID [20]byte
	// Port is the TCP port on which we listen.
	Port uint16
	// Uploaded, Downloaded and Left are in bytes: since the started event,
	// and until the torrent is complete. Negative ones are sent as 0.
	Uploaded, Downloaded, Left int64
	Event                      Event
	// Paused says that what is left is not going to be fetched: a partial seed
	// (BEP 21). Only HTTP trackers can be told, and not with another event.
	Paused bool
	// NumWant is how many peers we want. 0 means DefaultNumWant, a negative
	// number none; none are asked for with Stopped.
	NumWant int
	// Key proves to the tracker that we are the same when our address has
	// changed: random, and the same for all announces of a torrent.
	Key uint32
	// TrackerID is what this tracker asked us to repeat (Schedule.TrackerID).
	TrackerID string
	// IPv4 and IPv6 are further addresses of ours (BEP 7). Not sent if zero,
	// nor over UDP.
	IPv4, IPv6 netip.Addr
}

// numWant returns the number to be sent.
func (r *Request) numWant() int {
	switch {
	case r.NumWant < 0 || r.Event == Stopped:
		return 0
	case r.NumWant == 0:
		return DefaultNumWant
	}
	return r.NumWant
}

// MaxPeers is how many peers are kept of one answer.
const MaxPeers = 2000

// Response is what a tracker told us, cleaned. The times are not yet clamped:
// Schedule does that.
type Response struct {
	// Interval and MinInterval are how long to wait until the next announce,
	// and at least. 0 if the tracker did not say, never negative.
	Interval, MinInterval time.Duration
	// Seeders and Leechers are in the swarm; -1 if the tracker did not say.
	Seeders, Leechers int
	// Peers are distinct, at most MaxPeers, with a port, and not multicast,
	// broadcast or unspecified. Our own address may be among them.
	Peers []netip.AddrPort
	// Warning is for the user: at most 200 bytes of printable text.
	Warning string
	// TrackerID is to be sent with the next announces to this tracker. If it
	// is empty, the one from before still holds.
	TrackerID string
	// ExternalIP is our address as the tracker sees it (BEP 24), or zero.
	ExternalIP netip.Addr
}

// FailureError is a refusal that the tracker put into words.
type FailureError struct {
	// Reason is at most 200 bytes of printable text.
	Reason string
	// RetryIn is how long the tracker wants to be left alone (BEP 31), or 0.
	RetryIn time.Duration
	// Never says that the tracker will not ever accept this torrent (BEP 31).
	Never bool
}

// Error implements error.
func (e *FailureError) Error() string { return fmt.Sprintf("tracker refuses: %q", e.Reason) }

// ErrClosed is returned by Announce during and after Close.
var ErrClosed = errors.New("tracker client is closed")

// Options configure a Client. The zero value works.
type Options struct {
	// UserAgent is sent to HTTP trackers. Private ones accept only clients
	// they know. Default "swarmfs/0.1".
	UserAgent string
	// RootCAs is whom HTTPS trackers may be certified by. Default: whom the
	// system trusts. Certificates are always verified.
	RootCAs *x509.CertPool
	// Allow is asked about every address before anything is sent there, after
	// names are resolved; an error keeps us away. It is called from several
	// goroutines. Default: all that the package's own rules allow.
	Allow func(netip.Addr) error
	// Network opens the connections, and the sockets for UDP trackers. Default:
	// the operating system's.
	Network Network
}

// Network is what a Client needs of *network.Network.
type Network interface {
	Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error)
	Resolve(ctx context.Context, host string) ([]netip.Addr, error)
}

// Client announces to trackers. It is safe for concurrent use.
type Client struct {
	// Set at start, read-only after.
	opts          Options
	headerTimeout time.Duration
	httpTimeout   time.Duration
	udpTimeout    time.Duration
	classify      func(netip.Addr) scope
	ctx           context.Context // ends with Close
	cancel        context.CancelFunc
	udp           *udpClient

	mu     sync.Mutex
	closed bool           // owned by mu; no Add to work after it is set
	work   sync.WaitGroup // announces, dials and open connections
}

// Time limits of an announce.
const (
	headerTimeout = 10 * time.Second // name look-up and connect; TLS; the header: each
	httpTimeout   = 30 * time.Second // all of it, redirects and body included
	udpTimeout    = 60 * time.Second // two retransmissions of BEP 15
)

// NewClient returns a client. Close it.
func NewClient(opts Options) *Client {
	if opts.UserAgent == "" {
		opts.UserAgent = "swarmfs/0.1"
	}
	if opts.Network == nil {
		opts.Network = network.New(network.Options{})
	}
	c := &Client{
		opts:          opts,
		headerTimeout: headerTimeout,
		httpTimeout:   httpTimeout,
		udpTimeout:    udpTimeout,
		classify:      classify,
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.udp = newUDPClient(func(family string) (net.PacketConn, error) {
		return opts.Network.ListenPacket(c.ctx, family, ":0")
	})
	return c
}

// Announce tells the tracker at rawURL about us and returns what it answers.
// It blocks until there is an answer, ctx ends, or the time limits are
// reached: 30 s for http and https, 60 s for udp. A refusal of the tracker is a
// *FailureError; after Close the error is ErrClosed. Errors name the tracker
// without its passkey.
func (c *Client) Announce(ctx context.Context, rawURL string, r Request) (Response, error) {
	return request(ctx, c, "announce to", rawURL, func(ctx context.Context, u *url.URL) (Response, error) {
		if u.Scheme == "udp" {
			return c.announceUDP(ctx, u, r)
		}
		return c.announceHTTP(ctx, u, r)
	})
}

// request makes one request of a tracker: doing says which.
func request[T any](ctx context.Context, c *Client, doing, rawURL string, ask func(context.Context, *url.URL) (T, error)) (resp T, err error) {
	if !c.begin() {
		return resp, ErrClosed
	}
	defer c.work.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.ctx, func() { cancel(ErrClosed) })()

	u, err := parseURL(rawURL)
	if err != nil {
		return resp, wrap(doing, rawURL, err)
	}
	if resp, err = ask(ctx, u); err != nil {
		// What ended it, rather than what came of that.
		if c.ctx.Err() != nil {
			err = ErrClosed
		} else if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return resp, wrap(doing, rawURL, err)
	}
	return resp, nil
}

// begin reserves a place in c.work, unless the client is closed.
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.work.Add(1)
	return true
}

// Close ends all announces under way with ErrClosed, and returns when nothing
// of the client runs any more. To say goodbye to trackers, announce Stopped
// before.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.udp.close()
	c.work.Wait()
	return nil
}

// maxURLLen bounds what a torrent makes us send as our first request.
const maxURLLen = 4096

// parseURL returns the address of a tracker. It refuses what cannot be one, and
// what would let a torrent's author choose what we say (libtorrent's rule): an
// announce with a ready-made info_hash is not ours.
func parseURL(raw string) (*url.URL, error) {
	if len(raw) > maxURLLen {
		return nil, fmt.Errorf("URL of %d bytes, at most %d are allowed", len(raw), maxURLLen)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("URL cannot be read") // the error would quote it
	}
	if err := checkURL(u); err != nil {
		return nil, err
	}
	if u.Scheme == "udp" && u.Port() == "" {
		return nil, errors.New("URL of a UDP tracker needs a port")
	}
	for key := range u.Query() {
		switch key {
		case "info_hash", "peer_id", "port", "uploaded", "downloaded", "left", "event":
			return nil, fmt.Errorf("URL sets %s, which is ours to say", key)
		}
	}
	return u, nil
}

// Supported reports whether Announce knows the scheme of this tracker. Torrents
// also name WebSocket trackers, and worse.
func Supported(rawURL string) bool {
	_, err := parseURL(rawURL)
	return err == nil
}
