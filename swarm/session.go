package swarm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/thejerf/suture/v4"
	"golang.org/x/time/rate"

	"swarmfs/cache"
	"swarmfs/metainfo"
	"swarmfs/swarm/dht"
	"swarmfs/swarm/lsd"
	"swarmfs/swarm/tracker"
	"swarmfs/swarm/wire"
)

// Version is what peers and trackers see of this client.
const Version = "swarmfs 0.1"

// Session listens for peers and runs torrents. It is safe for concurrent use.
type Session struct {
	// Set at start, read-only after.
	opts      Options
	log       *slog.Logger
	peerID    [20]byte
	listeners []net.Listener
	sup       *suture.Supervisor
	started   time.Time
	up, down  throttle
	hashers   chan struct{} // a place for each piece being hashed
	dials     chan struct{} // a place for each connection being opened
	trackers  *tracker.Client
	seeding   atomic.Pointer[Seeding]
	dht       *dht.Service // nil: off
	lsd       *lsd.Service // nil: off
	allotment allotment    // what is completed behind readers
	slots     slots
	yielding  yielding

	encrypting *rate.Limiter // of handshakes that are answered
	manners    manners

	mu       sync.Mutex
	torrents map[metainfo.Hash]*Torrent
	links    map[metainfo.Hash]*resolving
	banned   banList
}

// Connections that may be half open at a time: routers for the home drop
// packets beyond a few dozen.
const maxDials = 32

// New binds the listeners and returns a Session that does nothing until Serve.
// The error for an address is a *ListenError.
func New(o Options) (*Session, error) {
	o.fill()
	s := &Session{
		opts: o, log: o.Logger, started: time.Now(),
		hashers: make(chan struct{}, hashWorkers()), dials: make(chan struct{}, maxDials),
		torrents: map[metainfo.Hash]*Torrent{}, links: map[metainfo.Hash]*resolving{}, banned: banList{},
		encrypting: rate.NewLimiter(encryptedPerSec, encryptedPerSec),
	}
	s.up.set(o.UploadLimit)
	s.down.set(o.DownloadLimit)
	s.seeding.Store(&o.Seeding)
	s.slots.init(o.UploadSlots, &s.up, s.started)
	copy(s.peerID[:], "-SF0100-")
	if _, err := rand.Read(s.peerID[8:]); err != nil {
		return nil, fmt.Errorf("make a peer id: %w", err)
	}
	s.trackers = tracker.NewClient(tracker.Options{Allow: s.mayReach, Network: o.Network})
	s.sup = suture.New("session", suture.Spec{
		EventHook: s.supervisorEvent,
		Timeout:   5 * time.Second,
		// A crashed torrent starts again at once; only one that keeps crashing
		// makes the supervisor pause.
		FailureThreshold: 10, FailureBackoff: 5 * time.Second,
	})
	if n, ok := o.Network.(suture.Service); ok {
		s.sup.Add(n)
	}
	for _, addr := range o.Listen {
		l, err := o.Network.Listen(addr)
		if err != nil {
			for _, open := range s.listeners {
				open.Close()
			}
			return nil, &ListenError{addr, err}
		}
		s.listeners = append(s.listeners, l)
		s.sup.Add(&acceptor{s, l})
	}
	if s.dht = s.newDHT(); s.dht != nil {
		s.sup.Add(s.dht)
	}
	if s.lsd = s.newLSD(); s.lsd != nil {
		s.sup.Add(s.lsd)
	}
	return s, nil
}

func (s *Session) supervisorEvent(ev suture.Event) {
	switch ev.Type() {
	case suture.EventTypeStopTimeout:
		s.log.Warn("service does not stop", "event", ev.String())
	default:
		s.log.Debug("supervisor", "event", ev.String())
	}
}

// Serve runs the session until ctx ends, and returns ctx's error. All its
// goroutines have ended by then.
func (s *Session) Serve(ctx context.Context) error {
	err := s.sup.Serve(ctx)
	if cerr := s.trackers.Close(); cerr != nil {
		s.log.Debug("close trackers", "err", cerr)
	}
	for _, l := range s.listeners {
		l.Close()
	}
	s.mu.Lock()
	for _, t := range s.torrents {
		t.mu.Lock()
		t.fail(ErrClosed)
		t.mu.Unlock()
	}
	s.mu.Unlock()
	return err
}

// Add starts a torrent, or returns the one that runs already. Without a
// Volume its pieces are in the session's Store.
func (s *Session) Add(meta *metainfo.Torrent, o AddOptions) (*Torrent, error) {
	info := meta.Info
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.torrents[info.Hash]; t != nil {
		return t, nil
	}
	if o.Volume == nil {
		v, err := s.opts.Store.Volume(info.Hash, cache.Geometry{PieceLength: info.PieceLength, Length: info.Length, Sums: info.PieceSums()})
		if err != nil {
			return nil, fmt.Errorf("open volume of %s: %w", info.Hash, err)
		}
		o.Volume = v
	}
	t := newTorrent(s, meta, o)
	s.torrents[info.Hash] = t
	t.token = s.sup.Add(t)
	return t, nil
}

// Remove stops a torrent. Its readers get ErrClosed.
func (s *Session) Remove(h metainfo.Hash) error {
	s.mu.Lock()
	t := s.torrents[h]
	delete(s.torrents, h)
	if t != nil {
		t.forgetVolume() // before another of that hash is told by it
	}
	s.mu.Unlock()
	if t == nil {
		return errors.New("no such torrent")
	}
	t.mu.Lock()
	t.fail(ErrClosed)
	t.mu.Unlock()
	err := s.sup.RemoveAndWait(t.token, 5*time.Second)
	if errors.Is(err, suture.ErrSupervisorNotStarted) {
		return nil // Torrent.Serve ends at once when its turn comes
	}
	return err
}

// Torrents returns the torrents, in no order.
func (s *Session) Torrents() []*Torrent {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Torrent, 0, len(s.torrents))
	for _, t := range s.torrents {
		list = append(list, t)
	}
	return list
}

// Addrs returns the addresses that are listened on.
func (s *Session) Addrs() []net.Addr {
	var list []net.Addr
	for _, l := range s.listeners {
		list = append(list, l.Addr())
	}
	return list
}

// mayReach says whether anything may be sent to an address.
func (s *Session) mayReach(a netip.Addr) error {
	if s.opts.Local && !a.Unmap().IsLoopback() {
		return errNotLocal
	}
	return nil
}

var errNotLocal = errors.New("only loopback addresses are used, as every --listen is one")

func (s *Session) ban(a netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.banned.add(a)
}

func (s *Session) isBanned(a netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.banned.has(a)
}

// port returns the port that peers can reach, 0 if none.
func (s *Session) port() uint16 {
	if len(s.listeners) == 0 {
		return 0
	}
	a, ok := s.listeners[0].Addr().(*net.TCPAddr)
	if !ok {
		return 0
	}
	return uint16(a.Port)
}

// Our own identifiers of extended messages.
const (
	extDontHave = 1
	extMetadata = 2
	extPex      = 3
)

// extHandshake is what peers are told of the torrent with an info dictionary of
// so many bytes; 0: it is not known yet.
func (s *Session) extHandshake(metadataSize int) wire.ExtHandshake {
	return wire.ExtHandshake{
		M:       map[string]uint8{wire.ExtDontHave: extDontHave, wire.ExtMetadata: extMetadata},
		Version: Version, Port: s.port(), Requests: 500, MetadataSize: metadataSize,
	}
}

// clock turns a moment into ns since the session began, which never jumps.
func (s *Session) clock(now time.Time) int64 { return int64(now.Sub(s.started)) }
