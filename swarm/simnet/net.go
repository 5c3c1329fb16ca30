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
	names map[string][]netip.Addr // what Host.Resolve finds
	cut   map[path][]func()       // what waits for the path to heal
	due   events
	added uint64      // events up to now
	timer *time.Timer // nil until the first event
	trace uint64      // of what has happened
}

// path is one direction between two hosts.
type path struct{ from, to *Host }

// New returns an empty network.
func New(seed uint64) *Net {
	return &Net{
		seed: seed, epoch: time.Now(),
		hosts: map[netip.Addr]*Host{}, names: map[string][]netip.Addr{}, cut: map[path][]func(){},
	}
}

// Name gives addresses a name, which every host can look up.
func (n *Net) Name(name string, addrs ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[name] = addrs
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

// Trace returns a hash over all that has happened: the moment and the kind of
// every event. Two runs of one seed are the same run when it is the same.
func (n *Net) Trace() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.trace
}

// Sleep is time.Sleep for programs that are to be a function of the seed: it
// ends at a moment of its own. Of several that would end at one, the lowest key
// goes first.
func (n *Net) Sleep(d time.Duration, key uint64) {
	woken := make(chan struct{})
	n.mu.Lock()
	n.at(n.now()+d, key, func() { close(woken) })
	n.mu.Unlock()
	<-woken
}

// event is something that happens at a moment.
type event struct {
	at  time.Duration // since the epoch
	key uint64        // whose it is
	seq uint64
	do  func()
}

// events is a heap, soonest first. Among those of one moment the key decides,
// not the order of adding: goroutines that run at the same moment add theirs in
// any order. Those of one key stay in order.
type events []event

func (e events) Len() int      { return len(e) }
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }

func (e events) Less(i, j int) bool {
	a, b := &e[i], &e[j]
	switch {
	case a.at != b.at:
		return a.at < b.at
	case a.key != b.key:
		return a.key < b.key
	}
	return a.seq < b.seq
}

func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return last
}

func (n *Net) now() time.Duration { return time.Since(n.epoch) }

// at has something done at a moment, which is never now: what runs now is to
// have ended by then. Events of one moment, and those that are late, get one
// moment after the other. The moment asked for is returned. The lock is held,
// now and then.
func (n *Net) at(t time.Duration, key uint64, do func()) time.Duration {
	t = max(t, n.now()+1)
	n.added++
	heap.Push(&n.due, event{t, key, n.added, do})
	if n.due[0].seq == n.added {
		n.arm()
	}
	return t
}

// arm sets the timer to the first event.
func (n *Net) arm() {
	d := max(n.due[0].at-n.now(), 1)
	if n.timer == nil {
		n.timer = time.AfterFunc(d, n.fire)
	} else {
		n.timer.Reset(d)
	}
}

// fire does one event, so that it wakes one chain of goroutines.
func (n *Net) fire() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.due) > 0 && n.due[0].at <= n.now() {
		ev := heap.Pop(&n.due).(event)
		n.trace = mix(mix(n.trace, uint64(n.now())), ev.key)
		ev.do()
	}
	if len(n.due) > 0 {
		n.arm()
	}
}

// mix puts a number into a hash (FNV-1a over words).
func mix(h, v uint64) uint64 { return (h ^ v) * 1099511628211 }

// direction names one direction between two addresses.
func direction(from, to netip.AddrPort) uint64 {
	h := fnv.New64a()
	h.Write([]byte(from.String()))
	h.Write([]byte{0})
	h.Write([]byte(to.String()))
	return h.Sum64()
}

// random returns the generator of one direction. It depends on the seed and on
// the addresses alone, never on what others have drawn.
func (n *Net) random(direction uint64) *rand.Rand {
	return rand.New(rand.NewPCG(n.seed, direction))
}

// delay draws how long something takes over the path, without the links.
func (p path) delay(rng *rand.Rand) time.Duration {
	jitter := max(p.from.link.Jitter+p.to.link.Jitter, time.Microsecond)
	return p.from.link.Latency + p.to.link.Latency + time.Duration(rng.Int64N(int64(jitter)))
}

// land takes what has come over a path through the receiver's downlink.
func (n *Net) land(to *Host, size int, key uint64, deliver func()) {
	to.received += int64(size)
	if to.link.Down == 0 || size == 0 {
		// Nothing may overtake what still is on the link, a FIN least of all.
		if to.downFree > n.now() {
			to.downFree = n.at(to.downFree, key, deliver)
			return
		}
		deliver()
		return
	}
	to.downFree = max(to.downFree, n.now()) + serialise(size, to.link.Down)
	to.downFree = n.at(to.downFree, key, deliver)
}

// serialise returns how long so many bytes take at a rate.
func serialise(size int, bytesPerSec int64) time.Duration {
	return time.Duration(int64(size) * int64(time.Second) / bytesPerSec)
}
