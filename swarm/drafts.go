package swarm

import (
	"sync"

	"swarmfs/cache"
)

// drafts are the open drafts of a run. The loop opens and ends them, the peers'
// readers look them up.
type drafts struct {
	volume Volume

	mu   sync.RWMutex
	open map[int]draft
	gen  uint32
}

type draft struct {
	*cache.Draft
	gen uint32
}

// Open implements engine.Drafts.
func (d *drafts) Open(piece int, urgent bool) (uint32, bool) {
	c, err := d.volume.Draft(piece, urgent)
	if err != nil {
		return 0, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gen++
	d.open[piece] = draft{c, d.gen}
	return d.gen, true
}

// Discard implements engine.Drafts.
func (d *drafts) Discard(piece int) {
	if o, ok := d.take(piece); ok {
		o.Discard()
	}
}

// take removes a draft from the table and returns it.
func (d *drafts) take(piece int) (draft, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, ok := d.open[piece]
	delete(d.open, piece)
	return o, ok
}

func (d *drafts) get(piece int) (draft, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	o, ok := d.open[piece]
	return o, ok
}

func (d *drafts) discardAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.open {
		o.Discard()
	}
	clear(d.open)
}
