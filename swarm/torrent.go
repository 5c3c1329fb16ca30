package swarm

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/thejerf/suture/v4"

	"swarmfs/cache"
	"swarmfs/metainfo"
	"swarmfs/swarm/engine"
)

// Torrent is the handle of one torrent in a Session. It outlives the crashes of
// its run. It is safe for concurrent use.
type Torrent struct {
	// Set at start, read-only after.
	session *Session
	meta    *metainfo.Torrent
	info    *metainfo.Info
	layout  metainfo.Layout
	volume  Volume
	opts    AddOptions
	log     *slog.Logger
	token   suture.ServiceToken
	closed  chan struct{} // the torrent was removed, or has failed

	lives      atomic.Uint32 // runs that were begun
	readers    atomic.Uint32 // the newest ReaderID
	peers      atomic.Uint32 // the newest PeerID
	roomPosted atomic.Bool
	unasked    atomic.Int64 // bytes of blocks that nobody asked for
	search     *search
	sharing    sharing

	pinning sync.Mutex // held while pins change, around mu

	mu      sync.Mutex
	run     *run          // nil between two lives
	next    chan struct{} // closed when run is set
	failure error
	crashes []time.Time
	crashed context.CancelCauseFunc
	stats   TorrentStats
	earlier engine.Stats // of the runs that have ended
	pins    pins
}

// TorrentStats is a moment of a torrent's life. Its counters begin when the
// torrent is added and never go back: a crash of its loop costs at most what the
// loop had counted since its last event.
type TorrentStats struct {
	Pieces, Held int
	Peers        int
	// Borrowed is how many pieces were copied from other torrents since the store
	// was opened.
	Borrowed int64
	// Unasked is payload that came although nobody had asked for it, in bytes,
	// and was thrown away.
	Unasked int64
	engine.Stats
}

func newTorrent(s *Session, meta *metainfo.Torrent, o AddOptions) *Torrent {
	t := &Torrent{
		session: s, meta: meta, info: meta.Info, layout: meta.Info.Layout(), volume: o.Volume, opts: o,
		log:    s.log.With("torrent", meta.Info.Hash.String()[:8]),
		closed: make(chan struct{}), next: make(chan struct{}),
	}
	t.sharing.init(time.Now())
	t.search = newSearch(s, t.log, meta.Info.Hash, meta.Info.Private, meta.Trackers, t.account)
	if !o.Quiet {
		t.Announce()
	}
	t.stats.Pieces = t.layout.NumPieces()
	t.stats.Held = engine.Bitmap(t.volume.Pieces()).Count()
	if n, ok := t.volume.(notifier); ok {
		n.Notify(func(piece int) { t.tell(evicted{piece}) }, t.room)
	}
	if n, ok := t.volume.(finder); ok {
		n.NotifyFound(t.Verified)
	}
	if n, ok := t.volume.(doubtful); ok {
		n.NotifyRecount(func() { t.tell(recounted{}) })
	}
	if v, ok := t.volume.(advised); ok {
		v.Protect(edges(t.info)...)
	}
	if v, ok := t.volume.(sharer); ok {
		v.Share()
	}
	return t
}

// forgetVolume has the Volume, which stays in the store, hold on to nothing here.
func (t *Torrent) forgetVolume() {
	if n, ok := t.volume.(notifier); ok {
		n.Notify(nil, nil)
	}
	if n, ok := t.volume.(finder); ok {
		n.NotifyFound(nil)
	}
	if n, ok := t.volume.(doubtful); ok {
		n.NotifyRecount(nil)
	}
	if v, ok := t.volume.(advised); ok {
		v.CloseWindows()
	}
}

// Info returns what the torrent is.
func (t *Torrent) Info() *metainfo.Info { return t.info }

// Stats returns the newest counters.
func (t *Torrent) Stats() TorrentStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	st := t.stats
	st.Unasked = t.unasked.Load()
	if v, ok := t.volume.(sharer); ok {
		st.Borrowed = v.Borrowed()
	}
	return st
}

// Announce lets a torrent that was added with Quiet be announced.
func (t *Torrent) Announce() { t.search.open() }

// Verified says that the Volume holds a piece that no draft of ours led to.
func (t *Torrent) Verified(piece int) { t.tell(acquired{piece}) }

func (t *Torrent) newReaderID() engine.ReaderID { return engine.ReaderID(t.readers.Add(1)) }

func (t *Torrent) newPeerID() engine.PeerID { return engine.PeerID(t.peers.Add(1)) }

// String names the service for the supervisor's log.
func (t *Torrent) String() string { return "torrent " + t.info.Hash.String()[:8] }

// A torrent whose loop crashes for the third time within ten minutes has a
// reason that starting it again does not cure.
const (
	crashLimit  = 3
	crashWindow = 10 * time.Minute
)

// Serve runs the torrent until ctx ends or it crashes; it is the supervisor
// that calls it, again after a crash.
func (t *Torrent) Serve(ctx context.Context) error {
	if t.isClosed() { // removed before the supervisor came to it
		return suture.ErrDoNotRestart
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := newRun(ctx, t)
	t.begin(r, cancel)
	defer t.end(r)
	r.start()
	err := guard(r.loop)
	cancel(err)
	if _, crashed := err.(*PanicError); crashed {
		r.reportPanic("torrent loop")(err)
		return t.crashVerdict(err)
	}
	if _, crashed := context.Cause(ctx).(*PanicError); crashed {
		return t.crashVerdict(context.Cause(ctx))
	}
	return err
}

func (t *Torrent) begin(r *run, cancel context.CancelCauseFunc) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.run, t.crashed = r, cancel
	t.lives.Add(1)
	t.earlier = t.stats.Stats
	close(t.next)
}

// end waits for the run's goroutines and lets its waiters go to the next.
func (t *Torrent) end(r *run) {
	t.mu.Lock()
	t.run = nil
	t.next = make(chan struct{})
	t.mu.Unlock()
	close(r.ended)
	r.group.Wait()
	r.leaveBackground()
	if r.eng != nil { // else it did not get so far
		t.mu.Lock()
		t.stats.Stats = t.earlier.Plus(r.eng.Ended(t.volume.Has))
		t.mu.Unlock()
	}
	if r.seat != nil {
		r.seat.leave()
	}
	r.drafts.discardAll()
}

// crash ends the present run; the supervisor begins another.
func (t *Torrent) crash(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.crashed != nil {
		t.crashed(err)
	}
}

func (t *Torrent) crashVerdict(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	recent := t.crashes[:0]
	for _, at := range t.crashes {
		if now.Sub(at) < crashWindow {
			recent = append(recent, at)
		}
	}
	t.crashes = append(recent, now)
	if len(t.crashes) < crashLimit {
		return err
	}
	t.log.Error("torrent has failed: its loop keeps crashing", "crashes", len(t.crashes))
	t.fail(ErrFailed)
	return suture.ErrDoNotRestart
}

// fail ends the torrent for good. The lock is held.
func (t *Torrent) fail(err error) {
	if t.failure == nil {
		t.failure = err
		close(t.closed)
	}
}

func (t *Torrent) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failure != nil
}

// current returns the present run, or waits for the next.
func (t *Torrent) current(ctx context.Context) (*run, error) {
	for {
		t.mu.Lock()
		run, next, failure := t.run, t.next, t.failure
		t.mu.Unlock()
		switch {
		case failure != nil:
			return nil, failure
		case run != nil:
			return run, nil
		}
		select {
		case <-next:
		case <-t.closed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tell posts an event to the present run, if there is one.
func (t *Torrent) tell(ev event) {
	t.mu.Lock()
	run := t.run
	t.mu.Unlock()
	if run != nil {
		_ = run.post(context.Background(), ev) // fails only when the run is over, and its state with it
	}
}

// tryTell is tell that gives up when the inbox is full.
func (t *Torrent) tryTell(ev event) bool {
	t.mu.Lock()
	run := t.run
	t.mu.Unlock()
	if run == nil {
		return false
	}
	select {
	case run.inbox <- ev:
		return true
	default:
		return false
	}
}

// room is called by the cache when there is memory again.
func (t *Torrent) room() {
	if t.roomPosted.CompareAndSwap(false, true) {
		t.tell(room{})
	}
}

// publish makes the loop's counters visible to Stats.
func (t *Torrent) publish(r *run) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats.Held = r.eng.Held()
	t.stats.Peers = len(r.peers)
	t.stats.Stats = t.earlier.Plus(r.eng.Stats())
}

func (t *Torrent) account() account {
	st := t.Stats()
	_, inPlace := t.volume.(*cache.Files) // nothing can be added to it
	return account{uploaded: st.Uploaded, downloaded: st.Downloaded, left: t.left(), paused: inPlace && t.left() > 0}
}

// left returns how many bytes are not held, to within one piece. The volume knows
// it before the loop has heard.
func (t *Torrent) left() int64 {
	held := engine.Bitmap(t.volume.Pieces()).Count()
	return min(t.info.Length, int64(t.layout.NumPieces()-held)*t.info.PieceLength)
}
