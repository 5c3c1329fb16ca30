package swarm

import (
	"context"
	"errors"
	"time"

	"swarmfs/swarm/engine"
	"swarmfs/swarm/webseed"
	"swarmfs/swarm/wire"
)

// webPeer is a web seed that takes part: a peer without a wire. One goroutine owns
// its connection; it gets blocks that were asked of it one after another and puts
// them into drafts, as a peer's reader does.
type webPeer struct {
	// Set before the goroutine starts, read-only after.
	run    *run
	id     engine.PeerID
	seed   *webSeed
	ctx    context.Context
	cancel context.CancelCauseFunc

	// Shared; safe for concurrent use.
	queue webQueue

	// Owned by the goroutine, and after its end by the loop.
	streams    [webStreams]*webseed.Stream // the one used last comes first
	single     bool                        // the server does not take a second connection
	pos        int64                       // where its last block ended
	deliveries deliveries
	total      int64 // bytes delivered
	since      int64 // of them since something failed

	// Owned by the loop.
	gone  bool
	dirty bool // the goroutine is to be woken after this batch
}

const (
	// What is asked for is mostly one long run with holes that are asked for later:
	// with a second response for these the first need not be ended.
	webStreams = 2
	// A response that nothing is wanted of is kept open for so long, in case that a
	// reader goes on: less than servers wait for who does not read.
	webPause = 20 * time.Second
	// One failure is tried again at once after so many bytes: connections end.
	webProgress = 1 << 20
)

func (r *run) newWebPeer(seed *webSeed) *webPeer {
	s := r.t.session
	p := &webPeer{run: r, id: r.t.newPeerID(), seed: seed, queue: newWebQueue(r.t.layout), single: seed.single}
	p.deliveries = deliveries{run: r, id: p.id}
	p.ctx, p.cancel = context.WithCancelCause(r.ctx)
	for i := range p.streams {
		p.streams[i] = webseed.NewStream(seed.source, webseed.Options{
			Dial: s.opts.Network.Dial, Lookup: s.opts.Network.Resolve, Allow: s.mayReach,
			Pass: s.down.wait, UserAgent: userAgent,
		})
	}
	return p
}

const userAgent = "swarmfs/0.1"

// serve delivers what is asked for until something fails that trying again at once
// does not help.
func (p *webPeer) serve() error {
	// What is in a draft must be told, however this ends (as in peer.readLoop).
	defer func() { _ = p.flush() }()
	defer p.close()
	timer := time.NewTimer(webPause)
	defer timer.Stop()
	open := false
	for {
		if err := p.rejectWithdrawn(); err != nil {
			return err
		}
		if want, ok := p.queue.next(time.Now(), p.pos); ok {
			open = true
			if err := p.deliver(want); err != nil {
				return err
			}
			continue
		}
		if err := p.flush(); err != nil {
			return err
		}
		var pause <-chan time.Time
		if open {
			timer.Reset(webPause)
			pause = timer.C
		}
		select {
		case <-p.queue.wake:
		case <-pause:
			open = false
			p.close()
		case <-p.ctx.Done():
			return context.Cause(p.ctx)
		}
	}
}

func (p *webPeer) close() {
	for _, s := range p.streams {
		s.Close()
	}
}

// streamAt returns the stream that brings a byte without another request, else the
// one that was used longer ago.
func (p *webPeer) streamAt(off int64) *webseed.Stream {
	if p.single {
		return p.streams[0]
	}
	for i, s := range p.streams {
		if s.Reaches(off) || i == len(p.streams)-1 {
			copy(p.streams[1:i+1], p.streams[:i])
			p.streams[0] = s
			break
		}
	}
	return p.streams[0]
}

func (p *webPeer) rejectWithdrawn() error {
	for _, m := range p.queue.rejects() {
		m.Kind = wire.Reject
		if err := p.run.post(p.ctx, received{p.id, m}); err != nil {
			return err
		}
	}
	return nil
}

// deliver gets one block and puts it into its draft.
func (p *webPeer) deliver(want webRequest) error {
	stream, n := p.streamAt(want.off), int(want.m.Length)
	if !stream.Ready(want.off, n) { // do not let the loop wait for the network
		if err := p.flush(); err != nil {
			return err
		}
	}
	b, err := stream.Block(p.ctx, want.off, n, func() int64 { return p.queue.run(want.off) })
	if err != nil {
		if p.ctx.Err() != nil {
			return context.Cause(p.ctx)
		}
		if p.tryAgain(err) {
			return nil // the block is still asked for
		}
		return err
	}
	p.pos = want.end()
	p.total += int64(n)
	p.since += int64(n)
	if !p.queue.pop(want) { // taken back meanwhile
		p.run.t.unasked.Add(int64(n))
		return nil
	}
	return p.deliveries.take(want.m, b)
}

// tryAgain reports whether what failed may go well when it is tried again at once.
func (p *webPeer) tryAgain(err error) bool {
	var refusal *webseed.Refusal
	switch {
	case errors.As(err, &refusal) && !p.single && p.streams[1].Open():
		// Some servers count connections: this may be one too many.
		p.single = true
		p.streams[1].Close()
		return true
	case isVerdict(err) || p.since < webProgress:
		return false
	}
	p.since = 0
	return true
}

func (p *webPeer) flush() error {
	for _, s := range p.streams {
		p.run.t.unasked.Add(s.TakeSkipped())
	}
	return p.deliveries.flush()
}
