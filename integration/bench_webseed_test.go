package integration

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// A cold copy of a big file from a web server alone, beside curl fetching the same
// file, and beside the cold copy from one libtorrent seeder. Start and first byte
// count for the mount, as in BenchmarkMountCopy.
func BenchmarkMountWebSeed(b *testing.B) {
	c := benchContent(b, "webseed.bin", mib, []fileSpec{{size: benchSize(b)}})
	seeded := *c
	for _, server := range []struct {
		name string
		more []string
	}{
		{"limit_rate=100m", []string{"limit_rate 100m;"}},
		{"unlimited", nil},
	} {
		b.Run(server.name, func(b *testing.B) {
			w := serveWeb(b, newNode(b), c.dir, server.more...)
			var seeders libtorrents
			if server.more == nil {
				seeders = seedLibtorrents(b, c, make([]link, 1), nil)
			}
			seeded.webSeeds = []string{w.url}
			seeded.describe(b)
			f := newFigures(b)
			for round := 0; b.Loop(); round++ {
				curl := curlSpeed(b, w.url+c.name)
				f.add("curl-MB/s", curl)
				speed := copyByWebSeed(b, f, &seeded, w, round == 0)
				f.add("x-curl", speed/curl)
				if server.more == nil {
					copyByMount(b, f, c, seeders, seeders.addresses, false)
					copied := f.values["MB/s"]
					f.add("x-copy", speed/copied[len(copied)-1])
				}
				f.round()
			}
			f.report()
		})
	}
}

// curlSpeed is how fast curl fetches a file, in MB/s.
func curlSpeed(b *testing.B, url string) float64 {
	b.Helper()
	out := mustRun(b, copyLimit, "nsenter", append([]string{"--net=/run/netns/" + newNode(b).name, "--"},
		"curl", "-sS", "-o", "/dev/null", "-w", "%{speed_download}", url)...)
	speed, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	if err != nil {
		b.Fatal(err)
	}
	return speed / 1e6
}

func copyByWebSeed(b *testing.B, f *figures, c *content, w *nginx, check bool) float64 {
	b.Helper()
	before := len(w.requests())
	began := time.Now()
	m := benchMount(b, nil, nil, c.torrent)
	use := watch(m.process)
	got := startReader(b, "copy", m.path(c, c.files[0])).readings(copyLimit)
	took := time.Since(began)
	cpu, anon := use.use()
	if got.Bytes != c.size {
		b.Errorf("copied %d bytes, want %d", got.Bytes, c.size)
	}
	counted := m.counters(c.hash)
	if check {
		m.sameBytes(c, c.files[0])
	}
	m.finish()
	speed := float64(c.size) / 1e6 / took.Seconds()
	f.add("web-MB/s", speed)
	f.add("web-first-byte-s", got.First)
	f.add("web-cpu-s/GiB", cpu*gib/float64(c.size))
	f.add("web-anon-MiB", float64(anon)/mib)
	f.add("web-requests", float64(len(w.requests())-before))
	f.add("web-wasted-%", 100*float64(counted.Wasted+counted.Duplicated)/float64(c.size))
	return speed
}
