package swarm

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"swarmfs/cache"
	"swarmfs/swarm/engine"
	"swarmfs/swarm/wire"
)

// run is one life of a torrent, from its start to its stop or crash. A new one
// has a new inbox and new IDs, so that nothing stale reaches it.
type run struct {
	// Set at start, read-only after.
	t     *Torrent
	log   *slog.Logger
	ctx   context.Context
	ended chan struct{} // closed when the loop is over: waiters turn to the next run
	inbox chan event

	// Owned by loop.
	eng        *engine.Engine
	peers      map[engine.PeerID]*peer          // look-up only: never ranged over to decide
	departed   map[engine.PeerID]netip.AddrPort // who has left: some are found guilty later
	hungryAt   time.Time
	lookAt     time.Time // when peers are looked over next
	locatedAt  time.Time // when we learned last where we are
	addrs      candidates
	waiting    map[int][]*waiter // by the piece they wait for
	dead       map[int]time.Time // pieces whose readers gave up, until when
	complaints complaints        // what was logged of them
	actions    []engine.Action
	dirty      []*peer
	background background
	withheld   withheld
	seat       *slotSeat
	web        webSeeds

	// Shared; safe for concurrent use.
	drafts drafts
	group  group
}

const (
	inboxSize = 256
	// Events handled before the actions are performed: more are not better once
	// the channel is drained, fewer mean more wake-ups of writers.
	batchSize = 64
)

func newRun(ctx context.Context, t *Torrent) *run {
	r := &run{
		t: t, log: t.log, ctx: ctx,
		ended: make(chan struct{}), inbox: make(chan event, inboxSize),
		peers: map[engine.PeerID]*peer{}, departed: map[engine.PeerID]netip.AddrPort{}, waiting: map[int][]*waiter{}, dead: map[int]time.Time{},
		drafts: drafts{volume: t.volume, open: map[int]draft{}},
	}
	r.addrs.init(t.session.opts.MaxPeers)
	r.web.init(t.meta, t.log)
	return r
}

// post puts an event into the inbox, and waits for room as long as ctx and the
// run last.
func (r *run) post(ctx context.Context, ev event) error {
	select {
	case r.inbox <- ev:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.ended:
		return ErrClosed
	}
}

// loop is the torrent: it takes events, feeds the engine and performs what the
// engine wants. It never waits for anything but the next event or deadline.
func (r *run) loop() error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		case ev := <-r.inbox:
			now := time.Now()
			r.apply(now, ev)
			for n := 1; n < batchSize && len(r.inbox) > 0; n++ {
				r.apply(now, <-r.inbox)
			}
		case <-timer.C:
		}
		now := time.Now()
		r.eng.Tick(now)
		r.yield(now)
		again := r.share(now)
		r.connect(now)
		r.joinWebSeeds(now)
		r.lookOver(now)
		r.perform()
		r.t.publish(r)
		timer.Reset(r.untilWake(now, r.watchReads(now), again))
	}
}

// Even when nothing is due the loop looks round this often: for addresses whose
// back-off has passed, and web seeds whose rest is over.
const maxSleep = 5 * time.Second

func (r *run) untilWake(now, look, share time.Time) time.Duration {
	d := maxSleep
	for _, next := range [...]time.Time{look, share, r.eng.NextWake()} {
		if !next.IsZero() {
			d = min(d, next.Sub(now))
		}
	}
	return max(d, time.Millisecond)
}

func (r *run) apply(now time.Time, ev event) {
	switch ev := ev.(type) {
	case *arrived:
		for _, g := range ev.got {
			r.progress(now, g.Piece)
		}
		r.eng.Blocks(now, ev.id, ev.got)
		arrivals.Put(ev)
	case received:
		r.eng.Message(now, ev.id, ev.m)
	case extended:
		if p := r.peers[ev.id]; p != nil {
			r.introduced(now, p, ev.h)
			r.tellNode(p)
		}
		r.eng.Extensions(ev.id, engine.Caps{DontHave: ev.h.M[wire.ExtDontHave], MaxRequests: ev.h.Requests})
	case dontHave:
		r.eng.DontHave(now, ev.id, ev.piece)
	case uploaded:
		r.eng.Uploaded(now, ev.id, ev.blocks, ev.bytes, ev.unreadable)
	case verified:
		r.verified(now, ev)
	case wants:
		// What the reader has left gives way first, and what it waits for comes
		// before what lies behind it.
		if ev.w.look {
			r.moved(now, ev.w.rd)
		}
		r.wants(now, ev.w)
		if ev.w.look {
			r.looks(now, ev.w.rd)
		}
	case gone:
		r.eng.ReaderGone(now, ev.id)
		r.unwait(ev.id)
	case closed:
		for _, id := range ev.r.ids {
			r.eng.ReaderClosed(now, id)
			r.t.showWindow(id, engine.Window{})
		}
	case stalled:
		r.stalled(now, ev.w)
	case looks:
		r.looks(now, ev.r)
	case acquired:
		r.eng.Acquired(now, ev.piece)
		r.wake(ev.piece, nil)
		r.decided(now, ev.piece)
	case evicted:
		r.eng.Evicted(now, ev.piece)
		r.refetch(now, ev.piece)
		r.decided(now, ev.piece)
	case recounted:
		r.recount(now)
	case room:
		r.t.roomPosted.Store(false)
		r.eng.Room(now)
	case joined:
		r.joined(now, ev.p)
	case left:
		r.left(now, ev)
	case webLeft:
		r.webLeft(now, ev)
	case reshared: // share looks whenever anything comes
	case repinned:
		r.repin(now)
	case inspect:
		r.inspect(ev)
	case found:
		r.addrs.add(now, ev.addrs, ev.source)
	case dialled:
		r.dialled(now, ev)
	}
}

// start makes the engine and begins what goes on beside the loop. Evictions from
// now on are in the inbox, so none is missed between here and there.
func (r *run) start() {
	r.seat = r.t.session.slots.join()
	cfg := engine.Config{Drafts: &r.drafts, Slots: r.seat}
	r.eng = engine.New(cfg, r.t.layout, r.t.volume.Pieces(), r.t.session.opts.rng(), time.Now())
	r.repin(time.Now())
	r.addrs.add(time.Now(), r.t.opts.Peers, fromUser)
	r.t.search.start(r.ctx, &r.group, r.found, r.reportPanic)
}

// found passes addresses on from whoever looks for peers.
func (r *run) found(addrs []netip.AddrPort, src source) {
	_ = r.post(r.ctx, found{addrs, src}) // fails only when the run is over
}

// perform does what the engine has decided.
func (r *run) perform() {
	r.actions = r.eng.Drain(r.actions[:0])
	for i := range r.actions {
		a := &r.actions[i]
		switch a.Kind {
		case engine.Send, engine.Upload:
			r.send(a)
		case engine.Verify:
			r.verify(a.Piece, a.Digests)
		case engine.Drop:
			r.drop(a)
		case engine.Completed:
			r.log.Info("torrent complete")
			if r.eng.Stats().Downloaded > 0 { // not merely found on the disk
				r.t.search.complete()
			}
		}
	}
	for _, p := range r.dirty {
		p.dirty = false
		p.out.signal()
	}
	r.dirty = r.dirty[:0]
	r.web.signal()
}

func (r *run) send(a *engine.Action) {
	if r.sendWeb(a.Peer, a.Msg) {
		return
	}
	p := r.peers[a.Peer]
	if p == nil || p.gone {
		return
	}
	if a.Kind == engine.Upload {
		p.out.upload(a.Msg)
	} else {
		if a.Msg.Kind == wire.Request {
			p.asked.add(a.Msg.Index, a.Msg.Begin)
		}
		if !p.out.append(a.Msg) {
			p.gone = true
			p.cancel(errDeaf)
			return
		}
	}
	if !p.dirty {
		p.dirty = true
		r.dirty = append(r.dirty, p)
	}
}

func (r *run) drop(a *engine.Action) {
	if r.dropWeb(a) {
		return
	}
	p := r.peers[a.Peer]
	addr, known := r.departed[a.Peer]
	if p != nil {
		addr, known = p.addr, true
		p.gone = true
		p.cancel(&PeerError{Addr: addr.String(), Op: "drop", Err: errors.New(a.Reason)})
	}
	if a.Ban && known {
		r.ban(addr, a.Reason)
	}
}

// ban also ends what the address has begun since: a guilty peer that left may be
// back already.
func (r *run) ban(addr netip.AddrPort, reason string) {
	if !r.t.session.isBanned(addr) {
		r.log.Info("peer banned", "peer", addr, "reason", reason)
	}
	r.addrs.ban(addr)
	r.t.session.ban(addr)
	for _, q := range r.peers { // all of them, in any order
		if banKey(q.addr) == banKey(addr) && !q.gone {
			q.gone = true
			q.cancel(&PeerError{Addr: q.addr.String(), Op: "drop", Err: errors.New("banned")})
		}
	}
}

// verify hashes a complete draft, on a goroutine of its own if there is much
// left to hash.
func (r *run) verify(piece int, digests bool) {
	d, ok := r.drafts.get(piece)
	if !ok {
		return
	}
	r.group.Go(func() error {
		hashers := r.t.session.hashers
		select {
		case hashers <- struct{}{}:
		case <-r.ctx.Done():
			return nil
		}
		defer func() { <-hashers }()
		ev := verified{piece: piece, ok: d.Verify()}
		if !ev.ok || digests {
			ev.digests = blockDigests(d.Draft, r.t.layout.NumBlocks(piece))
		}
		if ev.ok {
			ev.err = d.Commit()
		}
		return r.post(r.ctx, ev)
	}, r.reportPanic("verify piece"))
}

func (r *run) verified(now time.Time, ev verified) {
	if ev.err != nil {
		// Verified, but the cache is closing or full of what may not go.
		r.log.Warn("cache cannot take a piece", "piece", ev.piece, "err", ev.err)
		ev.ok, ev.digests = false, nil
	}
	if ev.ok {
		r.drafts.take(ev.piece)
	} else if ev.err == nil {
		r.log.Info("piece does not verify", "piece", ev.piece)
	}
	r.eng.Verified(now, ev.piece, ev.ok, ev.digests)
	if !ev.ok {
		return
	}
	if !r.t.volume.Has(ev.piece) {
		// Evicted before we heard of it, and that event has gone by.
		r.eng.Evicted(now, ev.piece)
	}
	r.wake(ev.piece, nil)
}

func (r *run) joined(now time.Time, p *peer) {
	for _, q := range r.peers {
		if q.hs.PeerID == p.hs.PeerID && !q.gone {
			r.keepOne(now, q, p)
			break
		}
	}
	r.peers[p.id] = p
	p.joined = now
	if p.dialed {
		p.ex.listens = p.addr
	}
	clear(r.dead)
	r.eng.PeerJoined(now, p.id, engine.Caps{Fast: p.fast()})
	if p.hs.Has(wire.FeatureExtended) {
		p.tell(r.introduce(p))
	}
}

// Connections that begin so close to each other are two dials that crossed.
const crossing = 10 * time.Second

// keepOne ends one of two connections with the same peer: the later, or, where both
// sides have dialled at once, the one that both sides choose. Each would end the
// other's otherwise.
func (r *run) keepOne(now time.Time, first, second *peer) {
	loser := second
	if first.dialed != second.dialed && now.Sub(first.joined) < crossing {
		ours := bytes.Compare(r.t.session.peerID[:], first.hs.PeerID[:]) > 0 // the dial of the greater ID stays
		if second.dialed == ours {
			loser = first
			loser.gone = true
		}
	}
	loser.cancel(errors.New("connected already"))
}

// Peers that left whose addresses are remembered, at most; beyond it all are
// forgotten.
const maxDeparted = 4096

func (r *run) left(now time.Time, ev left) {
	p := ev.p
	delete(r.peers, p.id)
	if len(r.departed) >= maxDeparted {
		clear(r.departed)
	}
	r.departed[p.id] = p.addr
	var pe *PanicError
	if errors.As(ev.err, &pe) {
		r.log.Error("panic in a peer", "peer", p.addr, "panic", pe.Value, "stack", string(pe.Stack))
	} else {
		r.log.Debug("peer left", "peer", p.addr, "err", ev.err)
	}
	r.addrs.closed(now, p.addr, p.dialed)
	if !p.dialed {
		r.addrs.part(now, p.ex.listens)
	}
	r.eng.PeerLeft(now, p.id)
}

func (r *run) reportPanic(what string) func(error) {
	return func(err error) {
		var pe *PanicError
		if errors.As(err, &pe) {
			r.log.Error("panic", "in", what, "panic", pe.Value, "stack", string(pe.Stack))
			r.t.crash(err)
		}
	}
}

func isEnded(err error) bool { return errors.Is(err, cache.ErrClosed) }

func blockDigests(d *cache.Draft, n int) []engine.BlockDigest {
	out := make([]engine.BlockDigest, n)
	for i := range out {
		out[i] = engine.Digest(d.Block(i))
	}
	return out
}
