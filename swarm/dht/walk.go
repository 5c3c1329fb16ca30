package dht

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/dht/v2/traversal"
	"github.com/anacrolix/dht/v2/types"
	"github.com/anacrolix/generics"

	k_nearest_nodes "github.com/anacrolix/dht/v2/k-nearest-nodes"
)

// walk goes from node to node towards a target, until the closest have answered
// or its context ends. Nothing of it is left when run returns.
type walk struct {
	// Set before run, read-only after.
	l       *life
	ctx     context.Context
	target  [20]byte
	method  string
	args    krpc.MsgArgs
	alpha   int                                       // questions at a time
	answer  func(from netip.AddrPort, r *krpc.Return) // called from several goroutines; may be nil
	onFirst func()                                    // at the first answer; may be nil

	asked   atomic.Int32
	answers atomic.Int32
	lost    atomic.Bool // the life has ended meanwhile
	closest []closest   // with tokens; set by run
}

type closest struct {
	addr  netip.AddrPort
	token string
}

const (
	// A walk asks 30 to 80 nodes; one who is led on by liars ends here.
	maxAsked = 400
	// And here.
	maxWalk = time.Minute
	// How many nodes closest to the target are found, and told of us (BEP 5).
	bucketSize = 8
)

// findSelf is the walk that fills our table.
func (l *life) findSelf(ctx context.Context) *walk {
	id := l.id
	return &walk{l: l, ctx: ctx, target: id, method: "find_node", args: krpc.MsgArgs{Target: id}, alpha: 16}
}

// run walks, from the given nodes and from those that come in more until it is
// closed.
func (w *walk) run(starts []contact, more <-chan netip.AddrPort) {
	ctx, cancel := context.WithTimeout(w.ctx, maxWalk)
	defer cancel()
	w.args.Want = []krpc.Want{krpc.WantNodes}
	if w.l.f.v6 {
		w.args.Want = []krpc.Want{krpc.WantNodes6}
	}
	op := traversal.Start(traversal.OperationInput{
		Target: w.target, Alpha: w.alpha, K: bucketSize,
		NodeFilter: w.mayAsk,
		DataFilter: func(data any) bool { _, ok := data.(string); return ok || w.method != "get_peers" },
		DoQuery:    w.query,
	})
	for _, c := range starts {
		_ = op.AddNode(types.AddrMaybeId{Addr: krpc.NodeAddrPort{AddrPort: c.addr}, Id: generics.Some(krpc.ID(c.id).Int160())})
	}
	for more != nil {
		select {
		case addr, ok := <-more:
			if !ok {
				more = nil
				break
			}
			_ = op.AddNode(types.AddrMaybeId{Addr: krpc.NodeAddrPort{AddrPort: addr}})
		case <-ctx.Done():
			more = nil
		}
	}
	select {
	case <-op.Stalled():
	case <-ctx.Done():
	}
	op.Stop() // ends the queries under way
	<-op.Stopped()
	op.Closest().Range(func(e k_nearest_nodes.Elem) {
		token, _ := e.Data.(string)
		w.closest = append(w.closest, closest{e.Addr.AddrPort, token})
	})
}

// mayAsk says whether a node is worth a question. Nodes far away have no business
// telling us of addresses in our own network, but those there do.
func (w *walk) mayAsk(n types.AddrMaybeId) bool {
	addr := n.Addr.AddrPort
	return reachable(addr) && addr.Addr().Is6() == w.l.f.v6 && w.l.f.s.o.Allow(addr.Addr()) == nil &&
		w.l.server.TraversalNodeFilter(n)
}

func (w *walk) query(ctx context.Context, to krpc.NodeAddr) traversal.QueryResult {
	addr, ok := fromNodeAddr(to)
	if !ok || w.asked.Add(1) > maxAsked {
		return traversal.QueryResult{}
	}
	r := w.l.server.Query(ctx, dht.NewAddr(net.UDPAddrFromAddrPort(addr)), w.method, dht.QueryInput{MsgArgs: w.args})
	if w.l.link.failing.Load() {
		w.lost.Store(true)
	}
	if r.Reply.R == nil {
		return traversal.QueryResult{}
	}
	if w.answers.Add(1) == 1 && w.onFirst != nil {
		w.onFirst()
	}
	w.l.vote(addr, r.Reply)
	if w.answer != nil {
		w.answer(addr, r.Reply.R)
	}
	res := r.TraversalQueryResult(to)
	res.Nodes, res.Nodes6 = believable(addr, res.Nodes), believable(addr, res.Nodes6)
	return res
}

// believable leaves out what a node of the internet says of places that it
// cannot see: it would have us send packets into our own network.
func believable(from netip.AddrPort, nodes []krpc.NodeInfo) []krpc.NodeInfo {
	if !global(from.Addr()) {
		return nodes
	}
	keep := nodes[:0]
	for _, n := range nodes {
		if a, ok := fromNodeAddr(n.Addr); ok && global(a.Addr()) {
			keep = append(keep, n)
		}
	}
	return keep
}

// Addresses that one look-up passes on, at most.
const maxFound = 2000

// lookup is Service.Lookup in one family.
func (l *life) lookup(ctx context.Context, hash [20]byte, port uint16, found func([]netip.AddrPort)) error {
	done, ok := l.use()
	if !ok {
		return errLinkClosed
	}
	defer done()
	known := l.known(hash)
	if len(known) == 0 {
		return ErrNoNodes
	}
	var mu sync.Mutex
	seen := map[netip.AddrPort]bool{}
	w := &walk{l: l, ctx: ctx, target: hash, method: "get_peers", args: krpc.MsgArgs{InfoHash: hash}, alpha: 8}
	w.answer = func(from netip.AddrPort, r *krpc.Return) {
		var fresh []netip.AddrPort
		mu.Lock()
		for _, v := range r.Values {
			addr, ok := fromNodeAddr(v)
			if ok && reachable(addr) && !seen[addr] && len(seen) < maxFound && (global(addr.Addr()) || !global(from.Addr())) {
				seen[addr] = true
				fresh = append(fresh, addr)
			}
		}
		mu.Unlock()
		if len(fresh) > 0 {
			found(fresh)
		}
	}
	w.run(known, nil)
	told := int32(0)
	if port != 0 && ctx.Err() == nil && !w.lost.Load() {
		told = w.announce(ctx, hash, port)
	}
	l.f.s.log.Debug("looked up", "network", l.f.network(), "asked", w.asked.Load(), "answered", w.answers.Load(), "peers", len(seen), "told", told)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case w.lost.Load():
		return errLinkClosed
	case w.answers.Load() == 0:
		return ErrNoNodes
	}
	return nil
}

// announce tells the closest nodes that we are a peer, and returns how many have
// taken note.
func (w *walk) announce(ctx context.Context, hash [20]byte, port uint16) int32 {
	var told atomic.Int32
	var wg sync.WaitGroup
	p := int(port)
	for _, c := range w.closest {
		wg.Go(func() {
			r := w.l.server.Query(ctx, dht.NewAddr(net.UDPAddrFromAddrPort(c.addr)), "announce_peer", dht.QueryInput{
				MsgArgs: krpc.MsgArgs{InfoHash: hash, Port: &p, Token: c.token}, NumTries: 2,
			})
			if r.Reply.R != nil {
				told.Add(1)
			}
		})
	}
	wg.Wait()
	return told.Load()
}
