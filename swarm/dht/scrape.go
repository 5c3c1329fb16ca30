package dht

import (
	"context"
	"math"
	"net/netip"
	"sync"

	"github.com/anacrolix/dht/v2/krpc"
)

// scrape is Service.Scrape in one family. Each node has a Bloom filter of the
// addresses that were announced to it; together they estimate the swarm.
func (l *life) scrape(ctx context.Context, hash [20]byte) (seeds, peers int, err error) {
	done, ok := l.use()
	if !ok {
		return 0, 0, errLinkClosed
	}
	defer done()
	known := l.known(hash)
	if len(known) == 0 {
		return 0, 0, ErrNoNodes
	}
	var mu sync.Mutex
	var sd, pe krpc.ScrapeBloomFilter
	w := &walk{l: l, ctx: ctx, target: hash, method: "get_peers", args: krpc.MsgArgs{InfoHash: hash, Scrape: 1}, alpha: 8}
	w.answer = func(_ netip.AddrPort, r *krpc.Return) {
		mu.Lock()
		defer mu.Unlock()
		merge(&sd, r.BFsd)
		merge(&pe, r.BFpe)
	}
	w.run(known, nil)
	if w.lost.Load() {
		return 0, 0, errLinkClosed
	}
	return int(math.Round(sd.EstimateCount())), int(math.Round(pe.EstimateCount())), nil
}

// merge adds what one node has seen. A filter that is all ones is a lie: it
// would be worth 6000 peers.
func merge(into, f *krpc.ScrapeBloomFilter) {
	if f == nil || full(f) {
		return
	}
	for i := range into {
		into[i] |= f[i]
	}
}

func full(f *krpc.ScrapeBloomFilter) bool {
	for _, b := range f {
		if b != 0xff {
			return false
		}
	}
	return true
}
