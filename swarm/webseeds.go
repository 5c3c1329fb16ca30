package swarm

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/engine"
	"swarmfs/swarm/tracker"
	"swarmfs/swarm/webseed"
	"swarmfs/swarm/wire"
)

// webSeeds are those that the torrent names. The loop owns them.
type webSeeds struct {
	all    []*webSeed
	joined map[engine.PeerID]*webPeer
	left   map[engine.PeerID]*webSeed // some are found guilty later
	dirty  []*webPeer
}

// webSeed is one URL, and how it has been.
type webSeed struct {
	source *webseed.Source
	shown  string // the URL without its secrets

	lacks   engine.Bitmap // pieces that are not there; nil: none
	bad     int           // pieces from it that did not verify, each of which it lacks since
	fails   int           // in a row, without a byte between them
	next    time.Time     // not to be tried before
	why     string        // it failed last; "": it did not
	single  bool          // it takes one connection at a time
	joined  bool
	refused bool // for as long as the torrent runs
}

const (
	// So many web seeds of a torrent take part at a time.
	maxWebSeeds = 4
	// One with so many bad pieces is let go.
	maxBadPieces = 3
	firstWebRest = 2 * time.Second
	maxWebRest   = webseed.MaxRetry
)

func (w *webSeeds) init(t *metainfo.Torrent, log *slog.Logger) {
	w.joined, w.left = map[engine.PeerID]*webPeer{}, map[engine.PeerID]*webSeed{}
	add := func(kind webseed.Kind, urls []string) {
		for _, u := range urls {
			src, err := webseed.NewSource(kind, u, t.Info)
			if err != nil {
				log.Info("web seed is not used", "url", tracker.Redact(u), "err", err)
				continue
			}
			w.all = append(w.all, &webSeed{source: src, shown: tracker.Redact(u)})
		}
	}
	add(webseed.Files, t.WebSeeds)
	add(webseed.Pieces, t.HTTPSeeds)
}

// WebSeedStatus is a moment of one web seed that the torrent names.
type WebSeedStatus struct {
	URL string // without its secrets
	// Joined: it takes part, and is among the connections. Refused: it is not used
	// any more.
	Joined, Refused bool
	// Why it failed last; "" if it did not. It is not tried again before Next.
	Why  string
	Next time.Time
}

func (w *webSeeds) status() []WebSeedStatus {
	list := make([]WebSeedStatus, 0, len(w.all))
	for _, s := range w.all {
		list = append(list, WebSeedStatus{URL: s.shown, Joined: s.joined, Refused: s.refused, Why: s.why, Next: s.next})
	}
	return list
}

// joinWebSeeds lets web seeds take part while pieces are missing. They cost nothing
// until they are asked for something.
func (r *run) joinWebSeeds(now time.Time) {
	if r.eng.Held() == r.t.layout.NumPieces() {
		return
	}
	for len(r.web.joined) < maxWebSeeds {
		seed := r.web.pick(now)
		if seed == nil {
			return
		}
		r.joinWebSeed(now, seed)
	}
}

// pick returns the one that has failed least of those whose rest is over.
func (w *webSeeds) pick(now time.Time) (best *webSeed) {
	for _, s := range w.all {
		if !s.joined && !s.refused && !now.Before(s.next) && (best == nil || s.fails < best.fails) {
			best = s
		}
	}
	return best
}

// joinWebSeed has a web seed join as a peer of the engine that has all pieces and
// never chokes.
func (r *run) joinWebSeed(now time.Time, seed *webSeed) {
	p := r.newWebPeer(seed)
	seed.joined = true
	r.web.joined[p.id] = p
	clear(r.dead)
	r.eng.PeerJoined(now, p.id, engine.Caps{Fast: true, Stream: true})
	has := wire.Message{Kind: wire.HaveAll}
	if seed.lacks != nil {
		n := r.t.layout.NumPieces()
		pieces := engine.NewBitmap(n)
		pieces.Fill(n)
		for i := range pieces {
			pieces[i] &^= seed.lacks[i]
		}
		has = wire.Message{Kind: wire.Bitfield, Data: wire.AppendBitfield(nil, pieces, n)}
	}
	r.eng.Message(now, p.id, has)
	r.eng.Message(now, p.id, wire.Message{Kind: wire.Unchoke})
	r.group.Go(p.serve, func(err error) {
		p.cancel(err)
		_ = r.post(context.WithoutCancel(r.ctx), webLeft{p, err}) // fails only when the run is over
	})
}

// sendWeb passes a message of the engine on, if it is for a web seed.
func (r *run) sendWeb(id engine.PeerID, m wire.Message) bool {
	p := r.web.joined[id]
	if p == nil {
		return false
	}
	p.queue.take(m)
	if !p.dirty {
		p.dirty = true
		r.web.dirty = append(r.web.dirty, p)
	}
	return true
}

func (w *webSeeds) signal() {
	for _, p := range w.dirty {
		p.dirty = false
		p.queue.signal()
	}
	w.dirty = w.dirty[:0]
}

// dropWeb does what the engine wants of a connection, if it is a web seed's. What
// it sent for a piece that did not verify it is not asked for again.
func (r *run) dropWeb(a *engine.Action) bool {
	p, seed := r.web.joined[a.Peer], r.web.left[a.Peer]
	if p != nil {
		seed = p.seed
		p.gone = true
		p.cancel(errors.New(a.Reason))
	}
	if seed == nil {
		return false
	}
	if a.Ban {
		seed.lack(r.t.layout.NumPieces(), a.Piece, a.Piece+1)
		if seed.bad++; seed.bad >= maxBadPieces && !seed.refused {
			seed.refused, seed.why = true, "its files are others"
			r.log.Warn("web seed is not used any more: its files are others", "url", seed.shown, "bad pieces", seed.bad)
		}
	}
	return true
}

func (s *webSeed) lack(pieces, first, end int) {
	if s.lacks == nil {
		s.lacks = engine.NewBitmap(pieces)
	}
	for piece := first; piece < end; piece++ {
		s.lacks.Set(piece)
	}
}

func (r *run) webLeft(now time.Time, ev webLeft) {
	p, seed := ev.p, ev.p.seed
	delete(r.web.joined, p.id)
	if len(r.web.left) >= maxDeparted {
		clear(r.web.left)
	}
	r.web.left[p.id] = seed
	seed.joined, seed.single = false, p.single
	if p.total > 0 {
		seed.fails = 0
	}
	var pe *PanicError
	switch {
	case errors.As(ev.err, &pe):
		r.log.Error("panic in a web seed", "url", seed.shown, "panic", pe.Value, "stack", string(pe.Stack))
		seed.refused = true
	case p.gone: // by the engine's will
		seed.next = now
	default:
		r.restWeb(now, seed, ev.err)
	}
	r.eng.PeerLeft(now, p.id)
}

// restWeb decides when a web seed that failed is tried again.
func (r *run) restWeb(now time.Time, seed *webSeed, err error) {
	var missing *webseed.MissingFile
	var refusal *webseed.Refusal
	var fault *webseed.Fault
	seed.fails++
	rest := min(firstWebRest<<min(seed.fails-1, 12), maxWebRest)
	switch {
	case errors.As(err, &missing):
		f := r.t.info.Files[missing.File]
		n := r.t.layout.NumPieces()
		first, end := r.t.layout.Pieces(f.Offset, f.Length)
		seed.lack(n, first, end)
		switch {
		case seed.lacks.Count() == n: // it may be put there later
			seed.lacks, rest = nil, maxWebRest
		case seed.fails < 3:
			rest = 0
		}
	case errors.As(err, &refusal):
		rest = max(rest, refusal.Retry)
	case errors.As(err, &fault) && seed.fails >= 3:
		rest = maxWebRest
	}
	seed.next, seed.why = now.Add(rest), err.Error()
	r.log.Info("web seed fails", "url", seed.shown, "err", err, "rest", rest)
}

// isVerdict reports whether a server has said clearly what it does not do.
func isVerdict(err error) bool {
	var missing *webseed.MissingFile
	var refusal *webseed.Refusal
	var fault *webseed.Fault
	return errors.As(err, &missing) || errors.As(err, &refusal) || errors.As(err, &fault)
}
