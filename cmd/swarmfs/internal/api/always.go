package api

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// missingEvery is how often it is looked whether the socket is still there.
const missingEvery = 2 * time.Second

// always is a listener that makes its socket anew when that is deleted, as with
// the data folder, once there is a folder again.
type always struct {
	dir  string
	quit chan struct{}
	done sync.WaitGroup

	mu     sync.Mutex
	now    *socket
	closed bool
}

// listenAlways makes the socket in dir. See listen.
func listenAlways(dir string) (net.Listener, error) {
	l, err := listen(dir)
	if err != nil {
		return nil, err
	}
	a := &always{dir: dir, quit: make(chan struct{}), now: l}
	a.done.Go(a.watch)
	return a, nil
}

func (a *always) watch() {
	tick := time.NewTicker(missingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.restore()
		case <-a.quit:
			return
		}
	}
}

// restore makes the socket again if it is missing and can be made.
func (a *always) restore() {
	old := a.current()
	if _, err := os.Lstat(old.path); !errors.Is(err, os.ErrNotExist) {
		return // there, or somebody else's
	}
	l, err := listen(a.dir)
	if err != nil {
		return // at another time
	}
	a.mu.Lock()
	a.now = l
	a.mu.Unlock()
	_ = old.Close() // Accept goes on with the new one
}

func (a *always) current() *socket {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now
}

// Accept implements net.Listener.
func (a *always) Accept() (net.Conn, error) {
	for {
		l := a.current()
		c, err := l.Accept()
		if err == nil || l == a.current() {
			return c, err
		}
	}
}

// Close implements net.Listener.
func (a *always) Close() error {
	a.mu.Lock()
	closed := a.closed
	a.closed = true
	a.mu.Unlock()
	if closed {
		return nil // http.Server closes more than once
	}
	close(a.quit)
	a.done.Wait()
	return a.now.Close() // nobody replaces it any more
}

// Addr implements net.Listener.
func (a *always) Addr() net.Addr { return a.current().Addr() }
