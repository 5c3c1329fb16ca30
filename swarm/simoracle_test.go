package swarm

import (
	"math"
	"math/rand/v2"
	"sort"
	"testing"
	"time"

	"swarmfs/metainfo"
)

// oracle is an omniscient scheduler: it knows what every peer has, sends and
// takes, and when each piece will be played. What it says is a bound for every
// scheduler that begins at the same moment with the same pieces held and nothing
// under way, ours included:
//
//   - By a moment t after the start a peer has sent no more whole blocks than
//     (t - round trip) × rate / 16 KiB: a request has to get there, the last byte
//     to come back, and the uplink is as fast as it is. Headers, jitter, chokes,
//     its send buffer and our own link only make it fewer.
//   - A block is of use only when all of its piece is there, since pieces are
//     verified whole; hashing takes no time. A short last block is left out.
//   - Behind a kernel whole READs have to be answered, as it sends them.
//   - So a schedule is an assignment of blocks to the peers' places in time, each
//     block to a peer that has it and to a place before its deadline, and each
//     place once. Whether there is one is a maximum flow: deadline by deadline,
//     pieces ─► peer until then ─► … ─► peer until the first deadline, with as
//     much let out of each of these as the peer sends between the deadlines.
//     Blocks are all alike, so whole flows are schedules and the other way round.
//
// It knows nothing of a seek before it comes: each part is a start of its own.
// That it begins with an empty pipe is where a scheduler could be better: what it
// was about to get when the part began. A player that seeks afar gets nothing of
// it.
type oracle struct {
	layout metainfo.Layout
	peers  []supply
}

type supply struct {
	rate float64 // bytes/s, +Inf: no limit
	trip time.Duration
	has  func(piece int) bool
}

// newOracle knows the swarm of a scenario's torrent. Peers that choke, corrupt
// or go away are taken for honest ones, which is a bound, too; one that never
// unchokes sends nothing.
func newOracle(spec *torrentSpec, seed uint64) *oracle {
	o := &oracle{layout: metainfo.Layout{PieceLength: spec.piece, Length: spec.file}}
	for _, r := range spec.rosters(seed) {
		if r.spec.choke == "never" {
			continue
		}
		rate := float64(r.spec.rate)
		if rate == 0 {
			rate = math.Inf(1)
		}
		o.peers = append(o.peers, supply{rate, r.spec.latency, r.has.Has})
	}
	return o
}

// blocks returns how many the peer has sent at the most by a time.
func (s *supply) blocks(t time.Duration) int {
	if t <= s.trip {
		return 0
	}
	return int(min((t-s.trip).Seconds()*s.rate/metainfo.BlockSize, 1<<30))
}

// demand is that a piece is to be there by a time.
type demand struct {
	piece int
	by    time.Duration
}

// meets says whether all demands can be met.
func (o *oracle) meets(list []demand) bool {
	sort.Slice(list, func(i, j int) bool { return list[i].by < list[j].by })
	var times []time.Duration
	for _, d := range list {
		if len(times) == 0 || times[len(times)-1] != d.by {
			times = append(times, d.by)
		}
	}
	// Nodes: source, sink, the peers at each deadline, the pieces.
	np := len(o.peers)
	f := newFlow(2 + np*len(times) + len(list))
	at := func(peer, k int) int { return 2 + k*np + peer }
	for p := range o.peers {
		before := 0
		for k, t := range times {
			sent := o.peers[p].blocks(t)
			f.edge(at(p, k), 1, sent-before)
			before = sent
			if k > 0 {
				f.edge(at(p, k), at(p, k-1), math.MaxInt32)
			}
		}
	}
	wanted, k := 0, 0
	for i, d := range list {
		for times[k] < d.by {
			k++
		}
		node := 2 + np*len(times) + i
		n := o.layout.PieceSize(d.piece) / metainfo.BlockSize
		wanted += n
		f.edge(0, node, n)
		for p := range o.peers {
			if o.peers[p].has(d.piece) {
				f.edge(node, at(p, k), n)
			}
		}
	}
	return f.max() == wanted
}

// horizon is when something that can be had at all is had.
const horizon = 24 * time.Hour

// soonest returns when all of these pieces can be there, at the soonest: at most
// 0.1 ms too soon.
func (o *oracle) soonest(pieces []int) (time.Duration, bool) {
	by := func(t time.Duration) bool {
		list := make([]demand, len(pieces))
		for i, piece := range pieces {
			list[i] = demand{piece, t}
		}
		return o.meets(list)
	}
	if !by(horizon) {
		return 0, false
	}
	low, high := time.Duration(-1), horizon // not by low, but by high
	for high-low > 100*time.Microsecond {
		if mid := (low + high) / 2; by(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return max(low, 0), true
}

// whole widens a range to the READs that bring it: the kernel gives no page of
// one before all of it is answered. Without a kernel there are none.
func (seg *segment) whole(from, end int64) (first, last int64) {
	first, last = from, end
	for _, r := range seg.reads {
		if r[0] < end && from < r[0]+r[1] {
			first, last = min(first, r[0]), max(last, min(r[0]+r[1], seg.size))
		}
	}
	return first, last
}

// verdict is what the oracle says of a player's segment.
type verdict struct {
	startup time.Duration
	smooth  bool // it can be played without a stall, from that start on
}

// judge finds the best start of a segment and whether it can be played from it.
func (o *oracle) judge(seg *segment) verdict {
	piece := func(pos int64) int { return int(pos / o.layout.PieceLength) }
	listed := map[int]bool{}
	missing := func(list []demand, from, end int64, by time.Duration) []demand {
		from, end = seg.whole(from, end)
		for i := piece(from); from < end && i <= piece(end-1); i++ {
			if !seg.held.Has(i) && !listed[i] {
				listed[i] = true
				list = append(list, demand{i, by})
			}
		}
		return list
	}
	rate := float64(seg.bitrate)
	// The player reads whole chunks.
	need := seg.first
	for need < min(seg.size, seg.first+int64(rate*seg.start.Seconds())) {
		need += playChunk
	}
	list := missing(nil, seg.first, min(need, seg.size), 0)
	var pieces []int
	for _, d := range list {
		pieces = append(pieces, d.piece)
	}
	start, ok := o.soonest(pieces)
	if !ok {
		return verdict{}
	}
	// The bisection is too soon by no more than this; a start that is not to be
	// had would make everything impossible.
	first := start + 100*time.Microsecond
	for i := range list {
		list[i].by = first
	}
	for pos := need; pos < min(seg.stop, seg.size); pos += playChunk {
		due := first + seconds(float64(pos-seg.first)/rate) + stallSlack
		list = missing(list, pos, min(pos+playChunk, seg.size), due)
	}
	return verdict{start, o.meets(list)}
}

// flow is a network of capacities; the source is node 0 and the sink node 1.
type flow struct {
	edges [][]int // by node: indexes of arcs; an arc's reverse is next to it (i^1)
	arcs  []arc
	level []int
	next  []int
}

type arc struct{ to, room int }

func newFlow(nodes int) *flow {
	return &flow{edges: make([][]int, nodes), level: make([]int, nodes), next: make([]int, nodes)}
}

func (f *flow) edge(from, to, capacity int) {
	f.edges[from] = append(f.edges[from], len(f.arcs))
	f.edges[to] = append(f.edges[to], len(f.arcs)+1)
	f.arcs = append(f.arcs, arc{to, capacity}, arc{from, 0})
}

// max is Dinic's algorithm.
func (f *flow) max() int {
	total := 0
	for f.rank() {
		clear(f.next)
		for {
			n := f.push(0, math.MaxInt32)
			if n == 0 {
				break
			}
			total += n
		}
	}
	return total
}

func (f *flow) rank() bool {
	for i := range f.level {
		f.level[i] = -1
	}
	f.level[0] = 0
	queue := []int{0}
	for len(queue) > 0 {
		v := queue[0]
		queue = queue[1:]
		for _, i := range f.edges[v] {
			if a := f.arcs[i]; a.room > 0 && f.level[a.to] < 0 {
				f.level[a.to] = f.level[v] + 1
				queue = append(queue, a.to)
			}
		}
	}
	return f.level[1] >= 0
}

func (f *flow) push(v, limit int) int {
	if v == 1 {
		return limit
	}
	for ; f.next[v] < len(f.edges[v]); f.next[v]++ {
		i := f.edges[v][f.next[v]]
		a := &f.arcs[i]
		if a.room == 0 || f.level[a.to] != f.level[v]+1 {
			continue
		}
		if n := f.push(a.to, min(limit, a.room)); n > 0 {
			a.room -= n
			f.arcs[i^1].room += n
			return n
		}
	}
	return 0
}

// TestTheOracleIsExactOnTinyCases tries all schedules.
func TestTheOracleIsExactOnTinyCases(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	met := 0
	for range 3000 {
		blocks := 1 + rng.IntN(2) // of a piece
		n := 1 + rng.IntN(4)
		o := &oracle{layout: metainfo.Layout{PieceLength: int64(blocks) * metainfo.BlockSize, Length: int64(n*blocks) * metainfo.BlockSize}}
		for range 1 + rng.IntN(3) {
			bits := rng.IntN(1 << n)
			o.peers = append(o.peers, supply{
				rate: float64(1+rng.IntN(4)) * metainfo.BlockSize, trip: time.Duration(rng.IntN(3)) * 300 * time.Millisecond,
				has: func(piece int) bool { return bits>>piece&1 != 0 },
			})
		}
		var list []demand
		for i := range n {
			list = append(list, demand{i, time.Duration(1+rng.IntN(12)) * 250 * time.Millisecond})
		}
		want := o.tryAll(list, blocks)
		if want {
			met++
		}
		if got := o.meets(list); got != want {
			t.Fatalf("demands %v of %+v: the flow says %v, trying all %v", list, o.peers, got, want)
		}
	}
	if met < 300 || met > 2700 {
		t.Errorf("%d of 3000 cases can be met: too one-sided to tell anything", met)
	}
}

// tryAll tries every assignment of blocks to peers; each peer sends what is due
// first.
func (o *oracle) tryAll(list []demand, blocks int) bool {
	loads := make([][]time.Duration, len(o.peers)) // deadlines of what a peer sends
	var try func(i int) bool
	try = func(i int) bool {
		if i == len(list)*blocks {
			for p, load := range loads {
				load = append([]time.Duration(nil), load...)
				sort.Slice(load, func(a, b int) bool { return load[a] < load[b] })
				for k, by := range load {
					sent := o.peers[p].trip.Seconds() + float64(k+1)*metainfo.BlockSize/o.peers[p].rate
					if sent > by.Seconds()+1e-9 {
						return false
					}
				}
			}
			return true
		}
		d := list[i/blocks]
		for p := range o.peers {
			if !o.peers[p].has(d.piece) {
				continue
			}
			loads[p] = append(loads[p], d.by)
			ok := try(i + 1)
			loads[p] = loads[p][:len(loads[p])-1]
			if ok {
				return true
			}
		}
		return false
	}
	return try(0)
}
