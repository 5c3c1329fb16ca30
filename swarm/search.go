package swarm

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"swarmfs/metainfo"
)

// search is how peers of one infohash are found. It knows no metadata, so that it
// serves a magnet link too, and outlives the runs of a torrent. It is safe for
// concurrent use.
type search struct {
	// Set at start, read-only after.
	session  *Session
	log      *slog.Logger
	hash     metainfo.Hash
	private  bool // BEP 27: trackers alone may know of it
	trackers [][]string
	account  func() account

	begin     sync.Once
	starving  chan struct{} // 1 deep: nobody is left to talk to
	loud      chan struct{} // closed: others may be told of us
	nudged    chan struct{} // 1 deep: something below has changed
	hungry    atomic.Bool   // more addresses are wanted
	completed atomic.Bool   // all pieces came while we ran
	asked     atomic.Pointer[[]TrackerStatus]
}

// account is what trackers are told, in bytes.
type account struct {
	uploaded, downloaded, left int64
	paused                     bool // what is left is not wanted
}

func newSearch(s *Session, log *slog.Logger, hash metainfo.Hash, private bool, trackers [][]string, a func() account) *search {
	return &search{
		session: s, log: log, hash: hash, private: private, trackers: trackers, account: a,
		loud: make(chan struct{}), nudged: make(chan struct{}, 1), starving: make(chan struct{}, 1),
	}
}

// open lets the search begin.
func (f *search) open() { f.begin.Do(func() { close(f.loud) }) }

// needPeers asks for more addresses than come by themselves.
func (f *search) needPeers() {
	f.hungry.Store(true)
	f.nudge()
	f.beFound()
}

// beFound has the DHT told of us sooner than it forgets. Trackers keep us anyway.
func (f *search) beFound() {
	select {
	case f.starving <- struct{}{}:
	default:
	}
}

// complete says that all pieces came while we ran.
func (f *search) complete() {
	f.completed.Store(true)
	f.nudge()
}

// nudge lets the announcer look at once whether something is due.
func (f *search) nudge() {
	select {
	case f.nudged <- struct{}{}:
	default:
	}
}

// finding gets addresses of peers. It may wait as long as the search lasts.
type finding func(addrs []netip.AddrPort, src source)

// start looks for peers until ctx ends, on goroutines of g. A panic in one of
// them goes to failed.
func (f *search) start(ctx context.Context, g *group, found finding, failed func(what string) func(error)) {
	g.Go(func() error { return f.announce(ctx, found, failed("announce")) }, failed("announce"))
	if f.private {
		return
	}
	g.Go(func() error { return f.nodes(ctx, found) }, failed("look up in the DHT"))
	g.Go(func() error { return f.neighbours(ctx, found) }, failed("look on the local network"))
}
