package swarm

import (
	"slices"
	"sync"
	"sync/atomic"
)

// allotment divides what the cache keeps among all that is completed behind
// readers, so that none of it drives out another, or a large file its own
// beginning. What was opened last comes first. It is safe for concurrent use.
type allotment struct {
	revoked atomic.Int64 // grants, ever

	mu     sync.Mutex
	grants []*grant // oldest first
}

// grant lets so many bytes be fetched, until it is revoked.
type grant struct {
	bytes   int64 // read-only
	revoked atomic.Bool
}

// take grants so many bytes, or all that the cache keeps if that is less; the
// oldest grants are revoked for it.
func (a *allotment) take(bytes, keeps int64) *grant {
	g := &grant{bytes: min(bytes, keeps)}
	a.mu.Lock()
	a.grants = append(a.grants, g)
	a.mu.Unlock()
	a.fit(keeps)
	return g
}

// fit revokes grants until the cache keeps what is left.
func (a *allotment) fit(keeps int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.grants {
		keeps -= g.bytes
	}
	for len(a.grants) > 0 && keeps < 0 {
		keeps += a.grants[0].bytes
		a.grants[0].revoked.Store(true)
		a.grants = slices.Delete(a.grants, 0, 1)
		a.revoked.Add(1)
	}
}

// release gives a grant back.
func (a *allotment) release(g *grant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.grants = slices.DeleteFunc(a.grants, func(o *grant) bool { return o == g })
}
