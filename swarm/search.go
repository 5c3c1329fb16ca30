package swarm

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/tracker"
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
}

// account is what trackers are told, in bytes.
type account struct{ uploaded, downloaded, left int64 }

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
}

// What is left of a second for each tracker to hear that we stop.
const stopTimeout = time.Second

type answer struct {
	url  string
	resp tracker.Response
	err  error
}

// announce keeps the trackers informed and passes on the peers they tell of, until
// ctx ends; then it says goodbye, for a bounded time.
func (f *search) announce(ctx context.Context, found finding, failed func(error)) error {
	if len(f.trackers) == 0 {
		return nil
	}
	select {
	case <-f.loud:
	case <-ctx.Done():
		return nil
	}
	rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	s := tracker.NewSchedule(f.trackers, rng, tracker.Limits{})
	key := rng.Uint32()
	answers := make(chan answer)
	var asking group
	defer asking.Wait()
	ask := func(ctx context.Context, url string, ev tracker.Event) {
		req := f.announcement(key, ev)
		req.TrackerID = s.TrackerID(url)
		asking.Go(func() error {
			resp, err := f.session.trackers.Announce(ctx, url, req)
			select {
			case answers <- answer{url, resp, err}:
			case <-ctx.Done():
			}
			return nil
		}, failed)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	completed := false
	for {
		now := time.Now()
		if !completed && f.completed.Load() {
			completed = true
			s.Completed()
		}
		if f.hungry.CompareAndSwap(true, false) {
			s.NeedPeers(now)
		}
		wake := now.Add(time.Hour)
		for {
			url, ev, at, ok := s.Next(now)
			if !ok {
				if !at.IsZero() {
					wake = at
				}
				break
			}
			ask(ctx, url, ev)
		}
		timer.Reset(max(0, wake.Sub(now)))
		select {
		case a := <-answers:
			s.Done(time.Now(), a.url, a.resp, a.err)
			f.answered(a, found)
		case <-timer.C:
		case <-f.nudged:
		case <-ctx.Done():
			asking.Wait()
			if !errors.Is(context.Cause(ctx), errResolved) { // else the torrent goes on with them
				f.farewell(ctx, s, key)
			}
			return nil
		}
	}
}

func (f *search) answered(a answer, found finding) {
	if a.err != nil {
		f.log.Info("tracker does not answer", "tracker", tracker.Redact(a.url), "err", a.err)
		return
	}
	if a.resp.Warning != "" {
		f.log.Warn("tracker warns", "tracker", tracker.Redact(a.url), "warning", a.resp.Warning)
	}
	f.log.Debug("tracker answers", "tracker", tracker.Redact(a.url), "peers", len(a.resp.Peers))
	found(a.resp.Peers, fromTracker)
}

// farewell tells the trackers that know us that we stop.
func (f *search) farewell(ctx context.Context, s *tracker.Schedule, key uint32) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, url := range s.Stopping() {
		req := f.announcement(key, tracker.Stopped)
		req.TrackerID = s.TrackerID(url)
		wg.Go(func() {
			if _, err := f.session.trackers.Announce(ctx, url, req); err != nil {
				f.log.Debug("say goodbye", "tracker", tracker.Redact(url), "err", err)
			}
		})
	}
	wg.Wait()
}

func (f *search) announcement(key uint32, ev tracker.Event) tracker.Request {
	a := f.account()
	return tracker.Request{
		InfoHash: f.hash, PeerID: f.session.peerID, Port: f.session.port(), Key: key, Event: ev,
		Uploaded: a.uploaded, Downloaded: a.downloaded, Left: a.left,
	}
}
