package swarm

import (
	"sync"
	"testing"
)

func TestManyReadersShareASmallMemory(t *testing.T) {
	c := makeContent(t, 8*mebibyte)
	simulate(t, func(l *lab) {
		seed := l.peer(c, rated(8*mebibyte), script{})
		n := l.node(nodeOptions{memory: 512 << 10})
		tor := n.add(c, seed.addr())
		var g sync.WaitGroup
		for i := range 6 {
			g.Go(func() {
				r := n.open(tor, c)
				defer r.Close()
				for k := range 12 {
					off := (i*12 + k) * 104729 % (len(c.data) - readChunk)
					if err := r.read(off, readChunk); err != nil {
						t.Errorf("read at %d: %v", off, err)
					}
				}
			})
		}
		g.Wait()
	})
}
