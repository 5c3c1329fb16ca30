package integration

import (
	"testing"
)

// With pieces in memory only, a copy fetches each once: what was read ahead is not
// given up for what comes behind it.
func TestACopyThroughMemoryFetchesEachPieceOnce(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, memory string
		piece        int64
	}{
		{"window as large as the memory", "32MiB", 1 << 20},
		{"window larger than the memory", "16MiB", 1 << 20},
		{"large pieces", "64MiB", 16 << 20},
		{"piece as large as the memory", "16MiB", 16 << 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := single(t, tc.name, 192<<20, tc.piece)
			n := newNode(t)
			s := seed(t, n, c)
			m := mount(t, newNode(t), mountOptions{flags: []string{"--cache-size", "0", "--memory", tc.memory, "--peer", n.addr(swarmfsPort)}}, c.torrent)
			c.readDirect(t, m)
			got := m.counters(c.hash).Fetched
			t.Logf("%.3f times the file was fetched", float64(got)/float64(c.size))
			if got > c.size*102/100 {
				t.Errorf("%d bytes were fetched of %d", got, c.size)
			}
			m.unmount()
			stopSeed(t, s)
		})
	}
}
