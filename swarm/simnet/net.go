package simnet

import (
	"container/heap"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Net is a network. It is safe for concurrent use.
type Net struct {
	// Set at start, read-only after.
	seed  uint64
	epoch time.Time

	// mu guards everything in the network, of all hosts and connections: what
	// happens at a moment happens as one.
	mu    sync.Mutex
	hosts map[netip.Addr]*Host
	cut   map[path][]func() // what waits for the path to heal
	due   events
	taken map[time.Duration]bool // moments that have an event
	timer *time.Timer            // nil until the first event
}

// path is one direction between two hosts.
type path struct{ from, to *Host }

// New returns an empty network.
func New(seed uint64) *Net {
	return &Net{
		seed: seed, epoch: time.Now(),
		hosts: map[netip.Addr]*Host{}, cut: map[path][]func(){}, taken: map[time.Duration]bool{},
	}
}

// Cut jams the way from one host to the other: nothing arrives until Heal. What
// streams send meanwhile waits, up to their windows, as if it were sent again
// until it arrives; datagrams are lost.
func (n *Net) Cut(from, to *Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.jam(path{from, to})
}

// Heal ends a Cut.
func (n *Net) Heal(from, to *Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clear(path{from, to})
}

func (n *Net) jam(p path) {
	if _, ok := n.cut[p]; !ok {
		n.cut[p] = nil
	}
}

func (n *Net) clear(p path) {
	held := n.cut[p]
	delete(n.cut, p)
	for _, again := range held {
		again()
	}
}

// event is something that happens at a moment.
type event struct {
	at time.Duration // since the epoch
	do func()
}

// events is a heap, soonest first. No two have the same moment.
type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }

func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return last
}

func (n *Net) now() time.Duration { return time.Since(n.epoch) }

// at has something done at a moment, or as soon after as nothing else is, and
// returns when. The lock is held, now and then.
func (n *Net) at(t time.Duration, do func()) time.Duration {
	for n.taken[t] {
		t++
	}
	n.taken[t] = true
	heap.Push(&n.due, event{t, do})
	if n.due[0].at == t {
		n.arm()
	}
	return t
}

// arm sets the timer to the first event.
func (n *Net) arm() {
	d := n.due[0].at - n.now()
	if n.timer == nil {
		n.timer = time.AfterFunc(d, n.fire)
	} else {
		n.timer.Reset(d)
	}
}

func (n *Net) fire() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.due) > 0 && n.due[0].at <= n.now() {
		ev := heap.Pop(&n.due).(event)
		delete(n.taken, ev.at)
		ev.do()
	}
	if len(n.due) > 0 {
		n.arm()
	}
}

// random returns the generator of one direction between two addresses. It
// depends on the seed and on them alone, never on what others have drawn.
func (n *Net) random(from, to netip.AddrPort) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(from.String()))
	h.Write([]byte{0})
	h.Write([]byte(to.String()))
	return rand.New(rand.NewPCG(n.seed, h.Sum64()))
}

// delay draws how long something takes over the path, without the links.
func (p path) delay(rng *rand.Rand) time.Duration {
	jitter := max(p.from.link.Jitter+p.to.link.Jitter, time.Microsecond)
	return p.from.link.Latency + p.to.link.Latency + time.Duration(rng.Int64N(int64(jitter)))
}

// land takes what has come over a path through the receiver's downlink.
func (n *Net) land(to *Host, size int, deliver func()) {
	to.received += int64(size)
	if to.link.Down == 0 || size == 0 {
		// Nothing may overtake what still is on the link, a FIN least of all.
		if to.downFree > n.now() {
			to.downFree = n.at(to.downFree, deliver)
			return
		}
		deliver()
		return
	}
	to.downFree = max(to.downFree, n.now()) + serialise(size, to.link.Down)
	to.downFree = n.at(to.downFree, deliver)
}

// serialise returns how long so many bytes take at a rate.
func serialise(size int, bytesPerSec int64) time.Duration {
	return time.Duration(int64(size) * int64(time.Second) / bytesPerSec)
}
