package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const filmRate = 500_000 // bytes a second: 4 Mbit/s

// A player with one seek in a swarm that brings one and a half times what it
// shows, where most peers have half of the pieces. Four at once, each with
// seeders and a mount of its own: they wait most of the time.
func BenchmarkMountPlayer(b *testing.B) {
	const players = 4
	c := benchContent(b, "film.mkv", 256<<10, []fileSpec{{size: 32 * mib}})
	var ways []link
	for _, rate := range []int64{250_000, 150_000, 150_000, 200_000} {
		ways = append(ways, link{delay: 20 * time.Millisecond, rate: rate})
	}
	have := unevenPieces(int(c.size / c.pieceLength))
	seek := c.size / 10 * 7
	f := newFigures(b)
	f.add("ideal-start-s", idealStart(c, ways, have, 0))
	f.add("ideal-seek-s", idealStart(c, ways, have, seek))
	var worst readings
	for b.Loop() {
		var mounts []*mounted
		var swarms []libtorrents
		var readers []*benchReader
		for range players {
			seeders := seedLibtorrents(b, c, ways, have)
			m := benchMount(b, seeders.addresses, nil, c.torrent)
			// A quarter of the film, then from 70 % on to its end.
			r := startReader(b, "player", film(m.path(c, c.files[0]), c.size/4, seek, c.size)...)
			mounts, swarms, readers = append(mounts, m), append(swarms, seeders), append(readers, r)
		}
		for i, r := range readers {
			got := r.readings(2 * time.Minute)
			f.add("start-s", got.Start)
			f.add("seek-s", got.Seek)
			f.add("stalls", float64(got.Stalls))
			f.add("stalled-s", got.Stalled)
			worst.Start, worst.Seek = max(worst.Start, got.Start), max(worst.Seek, got.Seek)
			worst.Stalls += got.Stalls
			counted := swarms[i].settled(mounts[i], c, 0)
			f.add("twice-%", 100*float64(counted.Duplicated)/float64(counted.Fetched))
			mounts[i].finish()
			for _, s := range swarms[i].sessions {
				s.kill()
			}
		}
		f.round()
	}
	f.report()
	b.ReportMetric(worst.Start, "worst-start-s")
	b.ReportMetric(worst.Seek, "worst-seek-s")
	b.ReportMetric(float64(worst.Stalls), "all-stalls")
}

// film tells a player to show [0, first) of a file, then [seek, end).
func film(path string, first, seek, end int64) []string {
	return []string{path, fmt.Sprint(filmRate), fmt.Sprint(first), fmt.Sprint(seek), fmt.Sprint(end)}
}

// unevenPieces gives four seeders everything, the first half, the second half,
// and any half.
func unevenPieces(n int) []string {
	// With this seed a player starts after 0.91 s at best, and after 1.35 s when it seeks.
	random := rand.New(rand.NewPCG(7, 157))
	half := make([]byte, n)
	for i := range half {
		half[i] = '0' + byte(random.IntN(2))
	}
	first := strings.Repeat("1", n/2) + strings.Repeat("0", n-n/2)
	second := strings.Repeat("0", n/2) + strings.Repeat("1", n-n/2)
	return []string{"", first, second, string(half)}
}

// idealStart is how many seconds nobody can do without until a player has its
// first second from byte at on: a round trip, and for any of the pieces that
// all who have one of them are busy with these alone.
func idealStart(c *content, ways []link, have []string, at int64) float64 {
	first := at / c.pieceLength
	n := (at+filmRate)/c.pieceLength - first + 1
	var longest float64
	for set := 1; set < 1<<n; set++ {
		var bytes, rate int64
		for i := range n {
			bytes += int64(set>>i&1) * c.pieceLength
		}
		for i, way := range ways {
			for k := range n {
				if set>>k&1 == 1 && (have[i] == "" || have[i][first+k] == '1') {
					rate += way.rate
					break
				}
			}
		}
		longest = max(longest, float64(bytes)/float64(rate))
	}
	return longest + 2*ways[0].delay.Seconds()
}

// Two players and a cp at once in one torrent: the players must not notice the
// cp, which gets what they leave.
func BenchmarkMountPlayersAndCopy(b *testing.B) {
	const (
		seconds  = 24      // that each player shows
		capacity = 8 * mib // bytes a second
	)
	c := benchContent(b, "all", mib, []fileSpec{
		{path: "a.mkv", size: 64 * mib},
		{path: "b.mkv", size: 64 * mib},
		{path: "copied.bin", size: 512 * mib},
	})
	way := link{delay: 20 * time.Millisecond, rate: capacity / 4}
	seeders := seedLibtorrents(b, c, []link{way, way, way, way}, nil)
	f := newFigures(b)
	for b.Loop() {
		before := seeders.uploaded()
		m := benchMount(b, seeders.addresses, nil, c.torrent)
		m.connected(c, len(seeders.addresses))
		out := b.TempDir()
		cp := start(b, "cp", exec.Command("cp", m.path(c, c.files[2]), out))
		copied := func() int64 {
			info, err := os.Stat(filepath.Join(out, "copied.bin"))
			if err != nil {
				return 0
			}
			return info.Size()
		}
		time.Sleep(3 * time.Second) // it runs at full speed when the players come
		began, first := time.Now(), copied()
		var players []*benchReader
		for _, file := range c.files[:2] {
			half := int64(seconds / 2 * filmRate)
			players = append(players, startReader(b, "player", film(m.path(c, file), half, 40*mib, 40*mib+half)...))
			time.Sleep(700 * time.Millisecond) // their seeks are not at the same time
		}
		var shown int64
		for _, p := range players {
			got := p.readings(2 * time.Minute)
			shown += got.Bytes
			f.add("start-s", got.Start)
			f.add("seek-s", got.Seek)
			f.add("stalls", float64(got.Stalls))
			f.add("stalled-s", got.Stalled)
		}
		took, rest := time.Since(began).Seconds(), float64(copied()-first)
		if !cp.running() {
			b.Fatalf("cp ended before the players: %v", cp.err)
		}
		cp.kill()
		counted := seeders.settled(m, c, before)
		m.finish()
		if err := os.RemoveAll(out); err != nil {
			b.Error(err)
		}
		f.add("copy-MB/s", rest/1e6/took)
		f.add("copy-%-of-rest", 100*rest/(capacity*took-float64(shown)))
		f.add("twice-%", 100*float64(counted.Duplicated)/float64(counted.Fetched))
		f.round()
	}
	f.report()
}
