package swarm

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"swarmfs/swarm/engine"
)

// Status is a moment of a torrent's life in full.
type Status struct {
	TorrentStats
	// Reads that wait, longest first, maxReads of them; Waiting counts all.
	Reads   []ReadStatus
	Waiting int
	// Connections in the order of joining; only if asked for.
	Connections []PeerStatus
	// WebSeeds are those that the torrent names, in its order; only if asked for.
	WebSeeds []WebSeedStatus
	// Trackers in the order in which they are tried.
	Trackers []TrackerStatus
	// Background is what is fetched beyond what readers ask for.
	Background Background
	// Failure is why the torrent stands still: ErrClosed, ErrFailed or nil.
	Failure error
}

// ReadStatus is one read that waits for a piece.
type ReadStatus struct {
	File   int   // index in Info.Files
	Offset int64 // in the file, where the read begins
	Piece  int   // the first that is missing
	Since  time.Time
	// Progress is when something of the piece came last; Since if nothing has.
	Progress time.Time
	// Availability is how many connected peers have the piece.
	Availability int
	// Received of Blocks blocks of the piece are in.
	Received, Blocks int
	Verifying        bool
	Asked            []AskedStatus
}

// AskedStatus is one peer that was asked for blocks of a piece and has not sent
// them.
type AskedStatus struct {
	Addr   netip.AddrPort
	URL    string // of a web seed, which has no Addr, without its secrets
	Blocks int
	Since  time.Time // of the oldest request among them
}

// Name is how users know the peer: its address, or the URL of a web seed.
func (a AskedStatus) Name() string { return peerName(a.Addr, a.URL) }

// PeerStatus is one connection.
type PeerStatus struct {
	Addr   netip.AddrPort
	URL    string // of a web seed, which has no Addr, without its secrets
	Client string // as the peer calls itself, or the code in its ID; "" if neither is known
	// Source is how we came to it: "user", "tracker", "lsd", "dht", "pex",
	// "incoming", or "torrent" for a web seed.
	Source string
	// Protection is how the connection is hidden from bystanders.
	Protection Protection
	engine.PeerStatus
}

// Name is how users know the peer: its address, or the URL of a web seed.
func (p PeerStatus) Name() string { return peerName(p.Addr, p.URL) }

func peerName(addr netip.AddrPort, url string) string {
	if url != "" {
		return url
	}
	return addr.String()
}

// maxReads is how many waiting reads a Status describes. Each costs a look at
// all outstanding requests, in the loop.
const maxReads = 16

// Status returns how the torrent is. It asks the torrent's loop, and waits for
// the answer as long as ctx lasts; without one it returns what Stats knows and
// the error. Between two lives of a torrent, and after its end, it returns that
// without an error.
func (t *Torrent) Status(ctx context.Context, connections bool) (Status, error) {
	t.mu.Lock()
	r := t.run
	t.mu.Unlock()
	var err error
	if r != nil {
		reply := make(chan Status, 1)
		if err = r.post(ctx, inspect{connections, reply}); err == nil {
			select {
			case st := <-reply:
				return st, nil
			case <-r.ended:
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		if ctx.Err() == nil { // that run is over
			err = nil
		}
	}
	st := Status{TorrentStats: t.Stats(), Background: t.session.opts.Background, Trackers: t.search.shown()}
	t.mu.Lock()
	st.Failure = t.failure
	t.mu.Unlock()
	return st, err
}

// inspect answers from the loop.
func (r *run) inspect(q inspect) {
	r.t.publish(r)
	st := Status{TorrentStats: r.t.Stats(), Background: r.t.session.opts.Background, Trackers: r.t.search.shown()}
	st.Reads, st.Waiting = r.waitingReads(maxReads)
	if q.connections {
		st.WebSeeds = r.web.status()
		for _, e := range r.eng.Peers() {
			if p := r.peers[e.Peer]; p != nil {
				st.Connections = append(st.Connections, PeerStatus{Addr: p.addr, Client: p.clientName(), Source: r.sourceOf(p), Protection: protectionOf(p.conn), PeerStatus: e})
			} else if p := r.web.joined[e.Peer]; p != nil {
				st.Connections = append(st.Connections, PeerStatus{URL: p.seed.shown, Source: "torrent", PeerStatus: e})
			}
		}
	}
	q.reply <- st
}

func (r *run) sourceOf(p *peer) string {
	if !p.dialed {
		return fromIncoming.String()
	}
	return r.addrs.sourceOf(p.addr).String()
}

// waitingReads returns the n reads that wait longest, and how many there are.
func (r *run) waitingReads(n int) ([]ReadStatus, int) {
	var all []*waiter
	for _, list := range r.waiting {
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b *waiter) int {
		if c := a.since.Compare(b.since); c != 0 {
			return c
		}
		return int(a.id) - int(b.id)
	})
	var reads []ReadStatus
	for _, w := range all[:min(n, len(all))] {
		reads = append(reads, r.readStatus(w))
	}
	return reads, len(all)
}

func (r *run) readStatus(w *waiter) ReadStatus {
	why := r.eng.Why(w.piece)
	st := ReadStatus{
		File: w.file, Offset: w.off, Piece: w.piece,
		Since: w.since, Progress: r.t.session.started.Add(time.Duration(w.progress.Load())),
		Availability: why.Availability, Received: why.Received, Blocks: why.Blocks, Verifying: why.Verifying,
	}
	for _, a := range why.Asked {
		if p := r.peers[a.Peer]; p != nil {
			st.Asked = append(st.Asked, AskedStatus{Addr: p.addr, Blocks: a.Blocks, Since: a.Since})
		} else if p := r.web.joined[a.Peer]; p != nil {
			st.Asked = append(st.Asked, AskedStatus{URL: p.seed.shown, Blocks: a.Blocks, Since: a.Since})
		}
	}
	return st
}

// clientName is what the peer said of itself in the extended handshake, else the
// code that most clients put at the start of their ID (BEP 20), as in TR4060.
func (p *peer) clientName() string {
	if p.client != "" {
		return p.client
	}
	code := p.hs.PeerID[1:7]
	if p.hs.PeerID[0] != '-' || p.hs.PeerID[7] != '-' || slices.ContainsFunc(code, func(c byte) bool { return c <= ' ' || c > '~' }) {
		return ""
	}
	return string(code)
}

// A read that has waited so long without progress is worth a line in the log:
// one for all that wait then, and none again for any of these. The next, for
// others, comes so much later. Stalled reads are looked for so often.
const (
	stallAfter = 5 * time.Second
	stallEvery = 30 * time.Second
	stallLook  = time.Second
)

// complaints is when reads that wait were looked at last, and logged.
type complaints struct{ look, waits, gaveUp time.Time }

// watchReads logs the read that waits longest without progress. It returns when
// it wants to look again; the zero time when nobody waits.
func (r *run) watchReads(now time.Time) time.Time {
	if len(r.waiting) == 0 {
		return time.Time{}
	}
	c := &r.complaints
	if now.Before(c.look) {
		return c.look
	}
	c.look = now.Add(stallLook)
	if now.Sub(c.waits) < stallEvery {
		return c.look
	}
	var worst *waiter
	for _, list := range r.waiting {
		for _, w := range list {
			if w.said || r.quiet(now, w) < stallAfter {
				continue
			}
			if worst == nil || w.since.Before(worst.since) || w.since.Equal(worst.since) && w.id < worst.id {
				worst = w
			}
		}
	}
	if worst == nil {
		return c.look
	}
	c.waits = now
	waiting := 0
	for _, list := range r.waiting {
		for _, w := range list {
			w.said = true
			waiting++
		}
	}
	r.logRead(slog.LevelWarn, "read waits", now, worst, "waiting", waiting)
	return c.look
}

// logRead logs what a read waits for.
func (r *run) logRead(level slog.Level, what string, now time.Time, w *waiter, more ...any) {
	if !r.log.Enabled(r.ctx, level) {
		return
	}
	st := r.readStatus(w)
	if len(r.peers) == 0 {
		more = append(more, "trackers", TrackersText(r.t.search.shown()))
	}
	r.log.Log(r.ctx, level, what, append([]any{
		"file", strings.Join(r.filePath(st.File), "/"), "offset", st.Offset, "piece", st.Piece,
		"for", now.Sub(st.Since).Round(time.Millisecond), "copies", st.Availability, "peers", len(r.peers),
		"asked", askedText(now, st.Asked),
	}, more...)...)
}

// quiet is how long nothing has come for a waiter.
func (r *run) quiet(now time.Time, w *waiter) time.Duration {
	return time.Duration(r.t.session.clock(now) - w.progress.Load())
}

// filePath is where a file of the torrent is.
func (r *run) filePath(file int) []string {
	info := r.t.info
	return append([]string{info.Name}, info.Files[file].Path...)
}

// askedText names at most three of those who were asked.
func askedText(now time.Time, asked []AskedStatus) string {
	if len(asked) == 0 {
		return "nobody"
	}
	var parts []string
	for i, a := range asked {
		if i == 3 {
			parts = append(parts, "…")
			break
		}
		parts = append(parts, a.Name()+" "+now.Sub(a.Since).Round(100*time.Millisecond).String()+" ago")
	}
	return strings.Join(parts, ", ")
}

// Pieces returns the pieces held; bit i%64 of word i/64 is piece i.
func (t *Torrent) Pieces() []uint64 { return t.volume.Pieces() }
