package swarm

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"swarmfs/cache"
	"swarmfs/swarm/engine"
	"swarmfs/swarm/simnet"
	"swarmfs/swarm/wire"
)

// outcome is what came of a scenario.
type outcome struct {
	trace    uint64 // a hash over all that has happened, and when
	readers  map[string]*measured
	torrents map[string]*fetched
}

// fetched is what a torrent has cost.
type fetched struct {
	spec    *torrentSpec
	stats   TorrentStats
	touched engine.Bitmap
	late    int64 // bytes
}

func (f *fetched) bytes() int64 { return f.stats.Downloaded + f.stats.Duplicate + f.stats.Unasked }

// stage is a running scenario.
type stage struct {
	*lab
	sc   *scenario
	node *node
	play *outcome
	log  func(format string, v ...any)

	mu    sync.Mutex
	trace uint64 // of what the readers saw
}

// run plays the scenario in a bubble of its own, without the peers, readers or
// torrent of a name. It fails the test only when something is broken.
func (sc *scenario) run(t *testing.T, without string, log func(string, ...any)) *outcome {
	t.Helper()
	out := &outcome{readers: map[string]*measured{}, torrents: map[string]*fetched{}}
	simulateSeed(t, sc.seed, func(l *lab) {
		chance := sc.seed
		sc.opts.rng = func() *rand.Rand { chance++; return rand.New(rand.NewPCG(sc.seed, chance)) }
		memory := sc.memory
		s := &stage{lab: l, sc: sc, play: out, log: log}
		s.node = l.node(nodeOptions{Options: sc.opts, memory: memory, link: simnet.Link{Jitter: time.Microsecond}})
		var live []*torrentSpec
		for _, spec := range sc.torrents {
			if spec.name != without {
				live = append(live, spec)
			}
		}
		torrents := make([]*Torrent, len(live))
		for i, spec := range live {
			torrents[i] = s.addTorrent(spec, without)
		}
		l.net.Sleep(sc.warm, 0)
		var g sync.WaitGroup
		for i, spec := range live {
			s.startReaders(&g, spec, torrents[i], without)
		}
		g.Wait()
		l.net.Sleep(5*time.Second, 0) // what was asked for still comes
		for i, spec := range live {
			out.torrents[spec.name].stats = torrents[i].Stats()
		}
		l.net.Sleep(time.Minute, 0)
		for i, spec := range live {
			f := out.torrents[spec.name]
			f.late = torrents[i].Stats().Downloaded - f.stats.Downloaded
		}
		out.trace = mixTrace(l.net.Trace(), s.trace)
	})
	return out
}

func mixTrace(h, v uint64) uint64 { return (h ^ v) * 1099511628211 }

// saw puts what a reader saw into the trace. What several see at one moment may
// come in any order.
func (s *stage) saw(off int64, n int, err error) {
	h := mixTrace(mixTrace(mixTrace(uint64(s.now()), uint64(off)), uint64(n)), uint64(b2i(err != nil)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace += h
}

// now is the time since the readers' time began.
func (s *stage) now() time.Duration {
	return time.Since(bubbleStart) - s.sc.warm
}

// bubbleStart is when the time of every bubble begins.
var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (s *stage) addTorrent(spec *torrentSpec, without string) *Torrent {
	c := simContent(s.t, int(spec.file), int(spec.piece))
	rosters := spec.rosters(s.sc.seed)
	var addrs []netip.AddrPort
	for i, p := range rosters {
		if p.spec.name == without {
			continue
		}
		addrs = append(addrs, s.addPeer(p, i, c).addr())
	}
	info := c.meta.Info
	v, err := s.node.store.Volume(info.Hash, cache.Geometry{PieceLength: info.PieceLength, Length: info.Length, Sums: info.PieceSums()})
	if err != nil {
		s.t.Fatal(err)
	}
	tor, err := s.node.Add(c.meta, AddOptions{Peers: addrs, Volume: unhurried{v, s.net}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.play.torrents[spec.name] = &fetched{spec: spec, touched: engine.NewBitmap(c.pieces())}
	return tor
}

// unhurried is a volume whose reads take some microseconds, as copying does.
// Readers that a piece wakes at one moment go on at moments of their own.
type unhurried struct {
	*cache.Volume
	net *simnet.Net
}

func (v unhurried) ReadAt(piece int, p []byte, off int) (int, error) {
	n, err := v.Volume.ReadAt(piece, p, off)
	key := mixTrace(mixTrace(uint64(piece), uint64(off)), uint64(len(p)))
	v.net.Sleep(2*time.Microsecond+time.Duration(key%8192), key)
	return n, err
}

// simBytes is what all simulated files begin with.
var simBytes = sync.OnceValue(func() []byte {
	b := make([]byte, 112<<20)
	rand.NewChaCha8([32]byte{'s', 'i', 'm'}).Read(b)
	return b
})

var simContents sync.Map // [2]int to *content

// simContent makes a torrent of one file that shares its bytes with all others.
func simContent(t *testing.T, size, piece int) *content {
	key := [2]int{size, piece}
	if c, ok := simContents.Load(key); ok {
		return c.(*content)
	}
	if size > len(simBytes()) {
		t.Fatalf("file of %d bytes: %d is the most", size, len(simBytes()))
	}
	c := newContent(t, simBytes()[:size], piece)
	simContents.Store(key, c)
	return c
}

// roster is one peer and what it has.
type roster struct {
	spec *peerSpec
	has  engine.Bitmap
}

// rosters returns the peers one by one. It is a function of the seed.
func (spec *torrentSpec) rosters(seed uint64) []*roster {
	n := int((spec.file + spec.piece - 1) / spec.piece)
	var list, sharing []*roster
	for _, p := range spec.peers {
		for i := range p.n {
			h := fnv.New64a()
			fmt.Fprint(h, p.name, i)
			rng := rand.New(rand.NewPCG(seed, h.Sum64()))
			r := &roster{spec: p, has: engine.NewBitmap(n)}
			random := false
			for piece := range n {
				share, _ := p.share(piece, n)
				random = random || share > 0 && share < 1
				if rng.Float64() < share {
					r.has.Set(piece)
				}
			}
			list = append(list, r)
			if random {
				sharing = append(sharing, r)
			}
		}
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	for piece := range n {
		if len(sharing) > 0 && !slices.ContainsFunc(list, func(r *roster) bool { return r.has.Has(piece) }) {
			sharing[rng.IntN(len(sharing))].has.Set(piece)
		}
	}
	return list
}

func (s *stage) addPeer(r *roster, index int, c *content) *fakePeer {
	spec := r.spec
	rng := rand.New(rand.NewPCG(s.sc.seed, uint64(index)+1000))
	var took int64
	script := script{plain: spec.plain, has: r.has.Has, unfollowed: true}
	if r.has.Count() == c.pieces() {
		script.has = nil
	}
	if spec.reqq > 0 {
		script.ext = &wire.ExtHandshake{M: map[string]uint8{}, Requests: int(spec.reqq)}
	}
	script.request = func(p *fakeConn, m wire.Message) {
		s.log("%-10s ? %d:%d", spec.name, m.Index, m.Begin>>14)
		took++
		switch {
		case spec.mute > 0 && took > spec.mute:
		case rng.Float64() < spec.corrupt:
			p.serveWrong(m)
		case p.isChoking():
			if !spec.plain {
				p.send(wire.Message{Kind: wire.Reject, Index: m.Index, Begin: m.Begin, Length: m.Length})
			}
		default:
			p.serveBlock(m)
		}
	}
	if spec.choke != "" {
		script.hello = func(p *fakeConn) { s.chokes(p, spec.choke) }
	}
	link := simnet.Link{Latency: spec.latency / 2, Jitter: spec.jitter, Up: spec.rate, ResetEvery: spec.reset}
	p := s.silentPeer(c, link, script)
	s.begins(p, spec, p.listen())
	return p
}

// begins has happen what a peer does at its time.
func (s *stage) begins(p *fakePeer, spec *peerSpec, stop func()) {
	at := func(d time.Duration, f func()) {
		if d == 0 {
			return
		}
		timer := time.AfterFunc(s.sc.warm+d, f)
		s.atEnd(func() { timer.Stop() })
	}
	at(spec.silent, func() { s.net.Cut(p.host, s.node.host) })
	at(spec.back, func() { s.net.Heal(p.host, s.node.host) })
	at(spec.gone, stop)
}

// chokes is how a peer that chokes begins.
func (s *stage) chokes(p *fakeConn, every string) {
	p.tellPieces()
	if every == "never" {
		p.setChoking(true)
		return
	}
	p.send(wire.Message{Kind: wire.Unchoke})
	d, err := parseAmount(every)
	if err != nil {
		s.t.Fatal(err)
	}
	s.peers.Go(func() {
		for i := uint64(0); ; i++ {
			s.net.Sleep(seconds(d), uint64(p.host.Addr().As4()[1]))
			select {
			case <-p.ended:
				return
			default:
			}
			choking := i%2 == 0
			p.setChoking(choking)
			if !choking {
				p.send(wire.Message{Kind: wire.Unchoke})
				continue
			}
			p.send(wire.Message{Kind: wire.Choke})
			p.dropBlocks()
		}
	})
}

func (s *stage) startReaders(g *sync.WaitGroup, spec *torrentSpec, tor *Torrent, without string) {
	c := simContent(s.t, int(spec.file), int(spec.piece))
	index := uint64(0)
	for _, rs := range spec.readers {
		if rs.name == without {
			continue
		}
		m := &measured{spec: rs, torrent: spec}
		s.play.readers[rs.name] = m
		for range rs.n {
			index++
			seat := &seat{stage: s, spec: rs, c: c, tor: tor, all: m, cost: s.play.torrents[spec.name], key: index}
			g.Go(func() {
				s.net.Sleep(rs.at+time.Duration(seat.key)*37*time.Microsecond, seat.key)
				seat.open()
				seat.read()
				seat.close()
			})
		}
	}
}

// seat is where one reader sits.
type seat struct {
	*stage
	spec *readerSpec
	c    *content
	tor  *Torrent
	all  *measured
	cost *fetched
	key  uint64 // among all readers, and of what it waits for

	r *Reader
	k *kernel // nil: it calls the Reader itself
}

func (s *seat) open() {
	r, err := s.tor.Open(0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.r = r
	if s.spec.kernel {
		s.k = newKernel(s)
	}
}

func (s *seat) close() {
	if s.k != nil {
		s.k.wait()
	}
	s.r.Close()
}

// at reads n bytes, or up to the end of the file.
func (s *seat) at(off, n int64) error {
	n = min(n, int64(len(s.c.data))-off)
	if n <= 0 {
		return nil
	}
	start := time.Now()
	var err error
	if s.k != nil {
		err = s.k.read(off, n)
	} else {
		err = s.fetch(off, n)
	}
	took := time.Since(start)
	s.saw(off, int(n), err)
	s.log("%-10s   read %d+%d took %v %v", s.spec.name, off, n, took, orNothing(err))
	s.all.add(took, err)
	s.touch(off, n)
	return err
}

func orNothing(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (s *seat) touch(off, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := off / int64(s.c.pieceLen); i <= (off+n-1)/int64(s.c.pieceLen); i++ {
		s.cost.touched.Set(int(i))
	}
}

// fetch calls the Reader, and compares what it gives.
func (s *seat) fetch(off, n int64) error {
	buf := make([]byte, n)
	got, err := s.r.ReadAt(context.Background(), buf, off)
	if string(buf[:got]) != string(s.c.data[off:off+int64(got)]) {
		s.t.Fatalf("read %d bytes at %d: wrong bytes", n, off)
	}
	if err == nil && int64(got) < n {
		err = errors.New("short read without an error")
	}
	return err
}

// pause lets time go by.
func (s *seat) pause(d time.Duration) {
	if d > 0 {
		s.net.Sleep(d, s.key)
	}
}

// held returns the pieces that we have now.
func (s *seat) held() engine.Bitmap { return engine.Bitmap(s.tor.volume.Pieces()) }

// measured is how reading went, for all readers of one name.
type measured struct {
	spec    *readerSpec
	torrent *torrentSpec

	mu       sync.Mutex
	waits    []time.Duration // of every read
	reads    [][2]int64      // offset and length of the kernel's READs
	time     time.Duration   // of the longest
	errs     []error
	stalls   int
	stalled  time.Duration
	segments []segment
}

func (m *measured) add(took time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waits = append(m.waits, took)
	if err != nil {
		m.errs = append(m.errs, err)
	}
}

func (m *measured) asked(read [2]int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads = append(m.reads, read)
}

// forget begins the reads anew.
func (m *measured) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waits = nil
}

func (m *measured) stall(late time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stalls++
	m.stalled += late
}

func (m *measured) done(took time.Duration, seg ...segment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.time = max(m.time, took)
	m.segments = append(m.segments, seg...)
}

// quantile returns how long reads took.
func (m *measured) quantile(q float64) time.Duration {
	if len(m.waits) == 0 {
		return 0
	}
	list := slices.Sorted(slices.Values(m.waits))
	return list[min(int(q*float64(len(list))), len(list)-1)]
}
