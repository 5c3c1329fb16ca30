package integration

import (
	"os"
	"testing"
	"time"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// A cold copy of a big file, beside libtorrent downloading the same from the
// same seeders. Start and first byte count for both.
func BenchmarkMountCopy(b *testing.B) {
	c := benchContent(b, "copy.bin", mib, []fileSpec{{size: benchSize(b)}})
	for _, from := range []struct {
		name    string
		seeders func(b *testing.B) (libtorrents, []string) // with a count of what they sent, and without
	}{
		{"1libtorrent", func(b *testing.B) (libtorrents, []string) {
			l := seedLibtorrents(b, c, make([]link, 1), nil)
			return l, l.addresses
		}},
		{"4libtorrents", func(b *testing.B) (libtorrents, []string) {
			l := seedLibtorrents(b, c, make([]link, 4), nil)
			return l, l.addresses
		}},
		{"1swarmfs", func(b *testing.B) (libtorrents, []string) {
			n := newNode(b)
			seed(b, n, c, "--log-level", "warn")
			return libtorrents{}, []string{n.addr(swarmfsPort)}
		}},
	} {
		b.Run("from="+from.name, func(b *testing.B) {
			seeders, peers := from.seeders(b)
			f := newFigures(b)
			for round := 0; b.Loop(); round++ {
				// Who comes second finds memory that was used shortly before,
				// which on a virtual machine is quicker: take turns.
				if round%2 == 0 {
					copyByMount(b, f, c, seeders, peers, round == 0)
				}
				copyByLibtorrent(b, f, c, peers)
				if round%2 == 1 {
					copyByMount(b, f, c, seeders, peers, false)
				}
				last := func(unit string) float64 { return f.values[unit][len(f.values[unit])-1] }
				f.add("x-libtorrent-speed", last("MB/s")/last("libtorrent-MB/s"))
				f.add("x-libtorrent-cpu", last("cpu-s/GiB")/last("libtorrent-cpu-s/GiB"))
				f.round()
			}
			f.report()
		})
	}
}

func copyByMount(b *testing.B, f *figures, c *content, seeders libtorrents, peers []string, check bool) {
	b.Helper()
	before := seeders.uploaded()
	began := time.Now()
	m := benchMount(b, peers, nil, c.torrent)
	use := watch(m.process)
	got := startReader(b, "copy", m.path(c, c.files[0])).readings(copyLimit)
	took := time.Since(began)
	cpu, anon := use.use()
	if got.Bytes != c.size {
		b.Errorf("copied %d bytes, want %d", got.Bytes, c.size)
	}
	counted := m.counters(c.hash)
	if len(seeders.sessions) > 0 {
		counted = seeders.settled(m, c, before)
	}
	if check {
		m.sameBytes(c, c.files[0])
	}
	m.finish()
	f.add("MB/s", float64(c.size)/1e6/took.Seconds())
	f.add("first-byte-s", got.First)
	f.add("cpu-s/GiB", cpu*gib/float64(c.size))
	f.add("anon-MiB", float64(anon)/mib)
	f.add("twice-%", 100*float64(counted.Duplicated)/float64(c.size))
	f.add("wasted-%", 100*float64(counted.Wasted)/float64(c.size))
}

func copyByLibtorrent(b *testing.B, f *figures, c *content, peers []string) {
	b.Helper()
	dir := b.TempDir()
	n := newNode(b)
	began := time.Now()
	l := startLibtorrent(b, n, "leech", c, dir, libtorrentOptions{peers: peers})
	use := watch(l.process)
	l.expect("done", copyLimit)
	took := time.Since(began)
	cpu, anon := use.use()
	l.kill()
	if err := os.RemoveAll(dir); err != nil {
		b.Error(err)
	}
	f.add("libtorrent-MB/s", float64(c.size)/1e6/took.Seconds())
	f.add("libtorrent-cpu-s/GiB", cpu*gib/float64(c.size))
	f.add("libtorrent-anon-MiB", float64(anon)/mib)
}

// Nine peers of 2 MiB/s, and the same nine with one of 1 KiB/s among them.
func BenchmarkMountSlowPeer(b *testing.B) {
	const fast, rtt = 9, 40 * time.Millisecond
	c := benchContent(b, "slow peer.bin", mib, []fileSpec{{size: 128 * mib}})
	ways := []link{{delay: rtt / 2, rate: 1 << 10}}
	for range fast {
		ways = append(ways, link{delay: rtt / 2, rate: 2 * mib})
	}
	seeders := seedLibtorrents(b, c, ways, nil)
	copyFrom := func(f *figures, name string, peers []string) float64 {
		before := seeders.uploaded()
		began := time.Now()
		m := benchMount(b, peers, nil, c.torrent)
		got := startReader(b, "copy", m.path(c, c.files[0])).readings(copyLimit)
		took := time.Since(began).Seconds()
		if got.Bytes != c.size {
			b.Errorf("copied %d bytes, want %d", got.Bytes, c.size)
		}
		counted := seeders.settled(m, c, before)
		m.finish()
		f.add(name+"-s", took)
		f.add(name+"-twice-%", 100*float64(counted.Duplicated)/float64(c.size))
		return took
	}
	f := newFigures(b)
	f.add("ideal-s", float64(c.size)/(fast*2*mib))
	for b.Loop() {
		nine := copyFrom(f, "nine", seeders.addresses[1:])
		ten := copyFrom(f, "ten", seeders.addresses)
		f.add("x-nine", ten/nine)
		f.round()
	}
	f.report()
}
