package integration

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// 64 random reads of 64 KiB in a cold file, beside a bare peer that asks one
// seeder for whole pieces, one after the other: what the seeder can do.
func BenchmarkMountSeek(b *testing.B) {
	const reads = 64
	c := benchContent(b, "seek.bin", mib, []fileSpec{{size: benchSize(b)}})
	slow := link{delay: 20 * time.Millisecond, rate: 2 * mib}
	for _, swarm := range []struct {
		name string
		ways []link
	}{
		{"fast", make([]link, 4)},
		{"4x2MiBps+40ms", []link{slow, slow, slow, slow}},
	} {
		b.Run("swarm="+swarm.name, func(b *testing.B) {
			seeders := seedLibtorrents(b, c, swarm.ways, nil)
			f := newFigures(b)
			for round := 0; b.Loop(); round++ {
				random := rand.New(rand.NewPCG(1, uint64(round)))
				bare, err := askBare(seeders.addresses[0], c, reads/4, random)
				if err != nil {
					b.Fatal(err)
				}
				var offsets []int64
				for range reads {
					offsets = append(offsets, random.Int64N((c.size-probeLength)/4096)*4096)
				}
				before := seeders.uploaded()
				m := benchMount(b, seeders.addresses, nil, c.torrent)
				m.connected(c, len(seeders.addresses))
				got := startReader(b, "offsets", m.path(c, c.files[0]), list(offsets)).readings(copyLimit)
				counted := seeders.settled(m, c, before)
				m.finish()
				f.add("p50-ms", quantile(got.Millis, 0.50))
				f.add("p95-ms", quantile(got.Millis, 0.95))
				f.add("bare-p50-ms", quantile(bare, 0.50))
				f.add("bare-p95-ms", quantile(bare, 0.95))
				f.add("fetched/touched", float64(counted.Fetched)/float64(touched(c, offsets)*c.pieceLength))
				f.add("twice-%", 100*float64(counted.Duplicated)/float64(counted.Fetched))
				f.round()
			}
			f.report()
		})
	}
}

// askBare asks a seeder for count whole pieces, each at once, and returns how
// many milliseconds each took.
func askBare(address string, c *content, count int, random *rand.Rand) ([]float64, error) {
	const block, interested, unchoke, request, piece = 16 << 10, 2, 1, 6, 7 // BEP 3
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	hello := append([]byte("\x13BitTorrent protocol"), make([]byte, 8)...)
	hello = append(append(hello, c.rawHash[:]...), "-BARE00-bench-bench-"...)
	if _, err := conn.Write(append(hello, 0, 0, 0, 1, interested)); err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(conn, mib)
	if _, err := in.Discard(len(hello)); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	until := func(kind byte) error { // skips to the end of the next message of the kind
		for {
			var head [4]byte
			if _, err := io.ReadFull(in, head[:]); err != nil {
				return err
			}
			n := int(binary.BigEndian.Uint32(head[:]))
			if n == 0 {
				continue
			}
			id, err := in.ReadByte()
			if err == nil {
				_, err = in.Discard(n - 1)
			}
			if err != nil || id == kind {
				return err
			}
		}
	}
	if err := until(unchoke); err != nil {
		return nil, fmt.Errorf("wait to be unchoked: %w", err)
	}
	var millis []float64
	for range count {
		index := uint32(random.Int64N(c.size / c.pieceLength)) // a whole one
		var ask []byte
		for off := int64(0); off < c.pieceLength; off += block {
			ask = append(ask, 0, 0, 0, 13, request)
			for _, v := range []uint32{index, uint32(off), block} {
				ask = binary.BigEndian.AppendUint32(ask, v)
			}
		}
		began := time.Now()
		if _, err := conn.Write(ask); err != nil {
			return nil, err
		}
		for range c.pieceLength / block {
			if err := until(piece); err != nil {
				return nil, fmt.Errorf("wait for a block: %w", err)
			}
		}
		millis = append(millis, time.Since(began).Seconds()*1e3)
	}
	return millis, nil
}

// A scanner looks at the head and the tail of 500 files, twice.
func BenchmarkMountProbe(b *testing.B) {
	const files = 500
	// Not a multiple of the piece length: most tails share a piece with a head.
	const size = 20*mib + 4321
	var specs []fileSpec
	for i := range files {
		specs = append(specs, fileSpec{
			path: fmt.Sprintf("%03d.mkv", i), size: size,
			islands: []int64{0, size - probeLength},
		})
	}
	for _, pieceLength := range []int64{256 << 10, mib, 4 * mib} {
		b.Run(fmt.Sprintf("pieces=%dKiB", pieceLength>>10), func(b *testing.B) {
			c := benchContent(b, "probe", pieceLength, specs)
			pieces := map[int64]bool{}
			for i := range int64(files) {
				for _, at := range []int64{i * size, i*size + probeLength - 1, (i+1)*size - probeLength, (i+1)*size - 1} {
					pieces[at/pieceLength] = true
				}
			}
			seeders := seedLibtorrents(b, c, make([]link, 1), nil)
			f := newFigures(b)
			for b.Loop() {
				before := seeders.uploaded()
				m := benchMount(b, seeders.addresses, []string{"--cache-size", "16GiB"}, c.torrent)
				m.connected(c, 1)
				dir := filepath.Join(m.point, c.name)
				cold := startReader(b, "ends", dir).readings(copyLimit)
				first := seeders.settled(m, c, before)
				warm := startReader(b, "ends", dir).readings(copyLimit)
				second := seeders.settled(m, c, before)
				m.finish()
				touched := float64(len(pieces))
				got := float64(first.Fetched) / float64(pieceLength)
				if got > touched+files {
					b.Errorf("fetched %.1f pieces for %.0f touched of %d files, want one more a file at most", got, touched, files)
				}
				if again := second.Fetched - first.Fetched; again != 0 {
					b.Errorf("the second pass fetched %d bytes, want none", again)
				}
				f.add("fetched/touched", got/touched)
				f.add("extra-pieces/file", (got-touched)/files)
				f.add("twice-%", 100*float64(first.Duplicated)/float64(first.Fetched))
				f.add("p50-ms/file", quantile(cold.Millis, 0.50))
				f.add("p95-ms/file", quantile(cold.Millis, 0.95))
				f.add("again-p50-ms/file", quantile(warm.Millis, 0.50))
				f.round()
			}
			f.report()
		})
	}
}

// 300 reads wait for a torrent that nobody has; those of another torrent must
// not notice.
func BenchmarkMountBesideBlockedReads(b *testing.B) {
	const (
		blocked = 300
		turns   = 12 // with and without, alternating
	)
	tracker := newTracker(b)
	// The peers come from the tracker: none is tried for the dead torrent.
	c := benchContent(b, "live.bin", mib, []fileSpec{{size: benchSize(b)}}, tracker.url("http"))
	tracker.serve(c)
	seeders := seedLibtorrents(b, c, make([]link, 2), nil)
	tracker.waitSeeders(c, 2)
	const deadLength = 1 << 30
	dead := makeTorrent(b, map[string]any{
		"name": "dead.bin", "piece length": int64(mib), "length": int64(deadLength),
		"pieces": strings.Repeat("x", deadLength/mib*20),
	})
	deadHash := infoJSON(b, dead).InfohashV1
	pieces := c.size / c.pieceLength
	f := newFigures(b)
	for round := 0; b.Loop(); round++ {
		before := seeders.uploaded()
		m := benchMount(b, nil, []string{"--read-timeout", "0"}, c.torrent, dead)
		m.connected(c, len(seeders.addresses))
		random := rand.New(rand.NewPCG(2, uint64(round)))
		var offsets []int64 // one in each piece: every read is a miss
		for _, piece := range random.Perm(int(pieces)) {
			offsets = append(offsets, int64(piece)*c.pieceLength+random.Int64N((c.pieceLength-probeLength)/4096)*4096)
		}
		var millis [2][]float64 // without, with
		each := len(offsets) / (2*turns + 1)
		next := func() readings {
			now := offsets[:each]
			offsets = offsets[each:]
			return startReader(b, "offsets", m.path(c, c.files[0]), list(now)).readings(copyLimit)
		}
		next() // the first are slow: nothing is known of the peers yet
		var turnP95 [2][]float64
		for turn := range 2 * turns {
			with := []int{0, 1, 1, 0}[turn%4]
			var waiting *benchReader
			if with == 1 {
				waiting = startReader(b, "blocked", filepath.Join(m.point, "dead.bin"), strconv.Itoa(blocked))
				eventually(b, 10*time.Second, "all reads to wait", func() bool { return m.counters(deadHash).Waiting == blocked })
			}
			got := next()
			millis[with] = append(millis[with], got.Millis...)
			turnP95[with] = append(turnP95[with], quantile(got.Millis, 0.95))
			if waiting != nil {
				if !waiting.running() {
					b.Fatalf("the blocked reads ended: %s", waiting.output())
				}
				waiting.kill()
				eventually(b, 10*time.Second, "no read to wait", func() bool { return m.counters(deadHash).Waiting == 0 })
			}
		}
		seeders.settled(m, c, before)
		m.finish()
		f.add("p50-ms", quantile(millis[0], 0.50))
		f.add("blocked-p50-ms", quantile(millis[1], 0.50))
		f.add("p95-ms", quantile(millis[0], 0.95))
		f.add("blocked-p95-ms", quantile(millis[1], 0.95))
		// A disk that is busy for a moment decides the p95 of all: the median
		// over turns of their p95 tells more.
		f.add("turn-p95-ms", quantile(turnP95[0], 0.50))
		f.add("blocked-turn-p95-ms", quantile(turnP95[1], 0.50))
		f.add("x-turn-p95", quantile(turnP95[1], 0.50)/quantile(turnP95[0], 0.50))
		f.round()
		// How far turns under the same conditions lie apart says what that ratio can tell.
		b.Logf("p95 of single turns: without %.1f to %.1f ms, with %.1f to %.1f ms",
			slices.Min(turnP95[0]), slices.Max(turnP95[0]), slices.Min(turnP95[1]), slices.Max(turnP95[1]))
	}
	f.report()
}
