package dht

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/log"
	"golang.org/x/time/rate"
)

// life is one server of the library, from its start to its end: a new id, or a
// new socket, takes a new one.
type life struct {
	// Set at start, read-only after.
	f      *family
	id     [20]byte
	link   *link
	server *dht.Server
	starts []contact
	tokens tokens
	heard  chan struct{} // 1 deep: a node that was told of has answered
	newID  chan struct{} // 1 deep: our address has another id

	group sync.WaitGroup // all that runs on the server
	state atomic.Int32   // a State

	peers peerStore // guarded by the server's own lock

	// leaves is what is known in the end, for the next life; set by run.
	leaves half

	mu     sync.Mutex
	ending bool // no look-up begins any more
	votes  votes
	next   [20]byte // the id of the next life
}

const (
	// queryTime is how long one try of a query may take. A round trip over the
	// longest ways takes a third of a second, and a home router's full queue two.
	queryTime = 2 * time.Second
	// Queries a second, and at once, of one family.
	sendRate, sendBurst = 200, 50
)

var errNewID = errors.New("our address has changed, and our id with it")

// newLife starts a server on a socket, with the nodes that the last one knew.
func newLife(f *family, socket net.PacketConn) (*life, error) {
	f.mu.Lock()
	last := f.last
	f.mu.Unlock()
	l := &life{
		f: f, link: newLink(socket, f.s.o.Allow), starts: last.nodes,
		tokens: newTokens(), heard: make(chan struct{}, 1), newID: make(chan struct{}, 1),
	}
	last.id = ownID(last.id, l.link.LocalAddr())
	l.id, l.next = last.id, last.id
	l.peers = newPeerStore(last.id)
	var quiet log.Logger
	quiet.SetHandlers()
	cfg := dht.NewDefaultServerConfig()
	cfg.NodeId = last.id
	cfg.Conn = l.link
	cfg.Passive = f.s.o.ReadOnly
	cfg.NoSecurity = false // BEP 42: nodes whose id is not that of their address do not count
	cfg.StartingNodes = func() ([]dht.Addr, error) { return nil, ErrNoNodes }
	cfg.SendLimiter = rate.NewLimiter(sendRate, sendBurst)
	cfg.DefaultWant = []krpc.Want{krpc.WantNodes}
	if f.v6 {
		cfg.DefaultWant = []krpc.Want{krpc.WantNodes6}
	}
	cfg.QueryResendDelay = func() time.Duration { return queryTime }
	cfg.Logger = quiet
	cfg.OnQuery = l.respond
	var err error
	if l.server, err = dht.NewServer(cfg); err != nil {
		return nil, err
	}
	return l, nil
}

// ownID is the id of a node at an address: the one it had, unless it has none or
// the address is known to be another's (BEP 42).
func ownID(had [20]byte, at net.Addr) [20]byte {
	addr, ok := addrPort(at)
	known := ok && global(addr.Addr())
	if had != ([20]byte{}) && (!known || dht.NodeIdSecure(had, addr.Addr().AsSlice())) {
		return had
	}
	id := krpc.RandomNodeID()
	if known {
		dht.SecureNodeId(&id, addr.Addr().AsSlice())
	}
	return id
}

// run keeps the node in the network until ctx ends, its id is to change
// (errNewID), or the socket is of no use any more.
func (l *life) run(ctx context.Context) error {
	living, cancel := context.WithCancel(ctx)
	defer l.stop(cancel)
	for _, c := range l.starts {
		_ = l.server.AddNode(nodeInfo(c)) // refused: its bucket is full
	}
	l.group.Go(func() { l.keep(living) })
	l.group.Go(func() { l.lookAtHints(living) })
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-l.link.broken:
		return err
	case <-l.newID:
		return errNewID
	}
}

// stop ends the server and all that runs on it.
func (l *life) stop(cancel context.CancelFunc) {
	l.leaves = l.knows()
	l.mu.Lock()
	l.leaves.id = l.next
	l.ending = true
	l.mu.Unlock()
	cancel()
	l.link.fail()
	l.server.Close()
	<-l.link.ended
	l.group.Wait()
}

// use lets a look-up run on the server; the life ends after it. False: the life
// is ending.
func (l *life) use() (done func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ending {
		return nil, false
	}
	l.group.Add(1)
	return l.group.Done, true
}

const (
	// How long saved nodes have to answer before bootstrap hosts are asked.
	savedPatience = 3 * time.Second
	firstRejoin   = 2 * time.Second
	maxRejoin     = 5 * time.Minute
	lookRound     = 20 * time.Second
)

// keep joins the network, and again when nobody in the table answers any more.
func (l *life) keep(ctx context.Context) {
	joined, maintained := false, false
	for pause := firstRejoin; ctx.Err() == nil; {
		if !joined || l.server.Stats().GoodNodes == 0 {
			joined = l.join(ctx)
		}
		wait := time.Duration(lookRound)
		if joined {
			pause = firstRejoin
			l.reach(Good)
			// It leaves a goroutine behind each time that its table is empty.
			if !maintained && l.server.NumNodes() > 0 {
				maintained = true
				l.group.Go(l.server.TableMaintainer) // ends with the server
			}
		} else {
			l.state.Store(int32(Offline))
			wait = pause
			pause = min(2*pause, maxRejoin)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.heard:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// reach says that the table has become better.
func (l *life) reach(s State) {
	if old := State(l.state.Swap(int32(s))); old < s {
		l.f.s.log.Debug("DHT", "network", l.f.network(), "state", s, "nodes", l.server.NumNodes())
		l.f.s.improved()
	}
}

// join looks for the nodes that are closest to us: among those in the table, and
// if none of these answers soon, among those that the bootstrap hosts know. It
// says whether anybody has answered.
func (l *life) join(ctx context.Context) bool {
	known := l.table()
	if len(known) > 0 {
		trying, cancel := context.WithCancel(ctx)
		w := l.findSelf(trying)
		w.onFirst = func() { l.reach(Joining) }
		patience := time.AfterFunc(savedPatience, func() {
			if w.answers.Load() == 0 {
				cancel()
			}
		})
		w.run(known, nil)
		patience.Stop()
		cancel()
		if w.answers.Load() > 0 || ctx.Err() != nil {
			return w.answers.Load() > 0
		}
	}
	if len(l.f.s.o.Bootstrap) == 0 {
		return false
	}
	w := l.findSelf(ctx)
	w.onFirst = func() { l.reach(Joining) }
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	w.run(nil, l.f.s.hosts(asking, &l.group, l.f.v6))
	return w.answers.Load() > 0
}

// lookAtHints pings the nodes that others told of. Who answers is in the table.
func (l *life) lookAtHints(ctx context.Context) {
	lim := rate.NewLimiter(hintRate, hintBurst)
	for {
		if err := lim.Wait(ctx); err != nil {
			return
		}
		select {
		case addr := <-l.f.pings:
			l.group.Go(func() {
				r := l.server.Query(ctx, dht.NewAddr(net.UDPAddrFromAddrPort(addr)), "ping", dht.QueryInput{})
				l.vote(addr, r.Reply)
				if r.Reply.R != nil {
					select {
					case l.heard <- struct{}{}:
					default:
					}
				}
			})
		case <-ctx.Done():
			return
		}
	}
}

// Every peer tells of its node once.
const hintRate, hintBurst = 5, 20

// table are the nodes in the server's table, good or not.
func (l *life) table() []contact {
	var list []contact
	for _, n := range l.server.Nodes() {
		if addr, ok := fromNodeAddr(n.Addr); ok {
			list = append(list, contact{n.ID, addr})
		}
	}
	return list
}

// known are the nodes that a look-up begins with: those that have answered.
func (l *life) known(target [20]byte) []contact {
	return l.link.closest(time.Now(), target, 8*bucketSize)
}

// knows is what is worth saving: those that have answered, then those that might.
func (l *life) knows() half {
	nodes := l.link.closest(time.Now(), l.id, maxSaved)
	good := map[netip.AddrPort]bool{}
	for _, c := range nodes {
		good[c.addr] = true
	}
	for _, c := range l.table() {
		if !good[c.addr] {
			nodes = append(nodes, c)
		}
	}
	return half{id: l.id, nodes: nodes[:min(len(nodes), maxSaved)]}
}

// vote takes what a node says our address is. A new id is taken when enough say
// that ours belongs to another address (BEP 42).
func (l *life) vote(from netip.AddrPort, m krpc.Msg) {
	says, ok := fromNodeAddr(m.IP)
	if !ok || m.Y != "r" || says.Addr().Is6() != l.f.v6 || !global(says.Addr()) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ip, won := l.votes.add(from, says.Addr())
	if !won || dht.NodeIdSecure(l.id, ip.AsSlice()) || l.next != l.id {
		return
	}
	id := krpc.RandomNodeID()
	dht.SecureNodeId(&id, ip.AsSlice())
	l.next = id
	l.newID <- struct{}{} // once in a life
}
