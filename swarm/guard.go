package swarm

import (
	"runtime/debug"
	"sync"
)

// group starts goroutines and waits for them: the one door for goroutines of a
// run or a session. A panic in one of them becomes an error and goes to whoever
// asked for it; that is sound because each owns what it touches and holds no
// lock while it runs foreign input.
type group struct{ wg sync.WaitGroup }

// Go runs f; done, if not nil, gets its result, or a *PanicError.
func (g *group) Go(f func() error, done func(error)) {
	g.wg.Go(func() {
		err := guard(f)
		if done != nil {
			done(err)
		}
	})
}

// Wait returns when all have ended.
func (g *group) Wait() { g.wg.Wait() }

func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
