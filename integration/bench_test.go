package integration

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The BenchmarkMount… measure the built command end to end: its process, a
// mount, seeders that are other clients, readers that are other processes.
// `make bench` runs them. An iteration is a round of the scenario, figures are
// medians over the rounds, and each round is logged: -benchtime 5x makes five.
// Everything runs on one machine, so compare figures of one run with each
// other, and with those of other clients that the same run measures.
//
// Figures of time are reported, never judged. What is judged: that the bytes
// read are right, and that the command counts what the seeders count.

// benchMiBVar is the size of the big file in MiB, 1024 unless set.
const benchMiBVar = "SWARMFS_BENCH_MIB"

func benchSize(b *testing.B) int64 {
	b.Helper()
	v := os.Getenv(benchMiBVar)
	if v == "" {
		return 1 << 30
	}
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || n < 128 {
		b.Fatalf("%s=%s: want a number of MiB, 128 at least", benchMiBVar, v)
	}
	return n << 20
}

// benchContent makes a content in memory, so that seeders wait for no disk.
func benchContent(b *testing.B, name string, pieceLength int64, files []fileSpec, trackers ...string) *content {
	b.Helper()
	requireNamespaces(b)
	dir := b.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		b.Fatalf("mount tmpfs: %v", err)
	}
	b.Cleanup(func() { detach(b, dir) })
	return makeContentIn(b, dir, name, pieceLength, files, trackers...)
}

// benchMount mounts c as its users do: what it logs does not count.
func benchMount(b *testing.B, peers []string, flags []string, sources ...string) *mounted {
	b.Helper()
	opts := mountOptions{flags: slices.Concat([]string{"--log-level", "warn"}, flags)}
	for _, peer := range peers {
		opts.flags = append(opts.flags, "--peer", peer)
	}
	return mount(b, newNode(b), opts, sources...)
}

// finish unmounts and gives the disk space back.
func (m *mounted) finish() {
	m.t.Helper()
	m.unmount()
	if err := os.RemoveAll(m.data); err != nil {
		m.t.Error(err)
	}
}

// counters are what `swarmfs status --json` says of a torrent.
type counters struct {
	Infohash   string `json:"infohash"`
	Fetched    int64  `json:"bytes_fetched"`
	Wasted     int64  `json:"bytes_wasted"`
	Duplicated int64  `json:"bytes_duplicated"`
	Peers      int    `json:"peers"`
	Waiting    int    `json:"waiting"`

	TotalFetched int64 `json:"total_fetched"`
	PiecesHeld   int   `json:"pieces_held"`
	Borrowed     int   `json:"pieces_borrowed"`
}

func (m *mounted) counters(infohash string) counters {
	m.t.Helper()
	st := m.status()
	for _, c := range st.Torrents {
		if c.Infohash == infohash {
			return c
		}
	}
	m.t.Fatalf("status does not list %s: %+v", infohash, st)
	return counters{}
}

// connected waits until all peers are there and have had the time to say what
// they have: for figures that leave the start out.
func (m *mounted) connected(c *content, peers int) {
	m.t.Helper()
	eventually(m.t, 20*time.Second, "connections to all seeders", func() bool { return m.counters(c.hash).Peers >= peers })
	time.Sleep(time.Second)
}

// libtorrents are seeders of one content.
type libtorrents struct {
	sessions  []*libtorrent
	addresses []string // of them, or of the links before them
	underWay  int64    // bytes that may be on the links
}

// seedLibtorrents starts a seeder for each link; have is as in
// libtorrentOptions, for each of them, or nil.
func seedLibtorrents(b *testing.B, c *content, ways []link, have []string) libtorrents {
	b.Helper()
	var l libtorrents
	for i, way := range ways {
		var opts libtorrentOptions
		if have != nil {
			opts.have = have[i]
		}
		n := newNode(b)
		if way.rate > 0 {
			n.boundSendBuffers(b)
			// Two sockets, the delay, and what comes while the two ends are asked.
			l.underWay += 4 * linkBuffer
		}
		s := seedLibtorrentWith(b, n, c, opts)
		address := s.address
		if way != (link{}) {
			address = way.start(b, address)
		}
		l.sessions, l.addresses = append(l.sessions, s), append(l.addresses, address)
	}
	return l
}

// uploaded is the payload that all have sent.
func (l libtorrents) uploaded() (sum int64) {
	for _, s := range l.sessions {
		sum += s.uploaded()
	}
	return sum
}

// settled checks that what the mount has fetched is what the seeders have sent
// since they had sent before. Links are given what is on them; without, it
// waits until both stand still and wants them equal.
func (l libtorrents) settled(m *mounted, c *content, before int64) counters {
	m.t.Helper()
	var got counters
	var sent int64
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		last := got
		got, sent = m.counters(c.hash), l.uploaded()-before
		if (got == last || l.underWay > 0) && abs(sent-got.Fetched) <= l.underWay {
			return got
		}
	}
	m.t.Errorf("status counts %d bytes fetched, the seeders sent %d (%+d)", got.Fetched, sent, sent-got.Fetched)
	return got
}

func abs(n int64) int64 { return max(n, -n) }

// watched is the use of a process.
type watched struct {
	p    *process
	stop chan struct{}
	peak chan int64
}

// watch samples the memory of a process until its use is asked for.
func watch(p *process) *watched {
	w := &watched{p, make(chan struct{}), make(chan int64, 1)}
	go func() {
		var peak int64
		for {
			peak = max(peak, anonymous(p.cmd.Process.Pid))
			select {
			case <-w.stop:
				w.peak <- peak
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return w
}

// use is the CPU time since the process started, in seconds, and the most
// anonymous memory it had.
func (w *watched) use() (cpu float64, anon int64) {
	w.p.t.Helper()
	close(w.stop)
	return cpuSeconds(w.p.t, w.p.cmd.Process.Pid), <-w.peak
}

func anonymous(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), "RssAnon:")
	fields := strings.Fields(after)
	if len(fields) == 0 {
		return 0
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}

// cpuSeconds are those of all threads, in the kernel and outside.
func cpuSeconds(t testing.TB, pid int) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(after) // from the third on, see proc_pid_stat(5)
	if len(fields) < 13 {
		t.Fatalf("stat of process %d: %q", pid, b)
	}
	var ticks float64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return ticks / 100 // USER_HZ is 100 on every architecture that Go knows
}

// figures collects what the rounds of a benchmark measured.
type figures struct {
	b      *testing.B
	units  []string
	values map[string][]float64
	logged map[string]int // values that have been logged
}

func newFigures(b *testing.B) *figures {
	return &figures{b: b, values: map[string][]float64{}, logged: map[string]int{}}
}

// add notes a value; several of one round are taken together.
func (f *figures) add(unit string, v ...float64) {
	if _, there := f.values[unit]; !there {
		f.units = append(f.units, unit)
	}
	f.values[unit] = append(f.values[unit], v...)
}

// round logs what was added since the last one.
func (f *figures) round() {
	var line []string
	for _, unit := range f.units {
		for _, v := range f.values[unit][f.logged[unit]:] {
			line = append(line, fmt.Sprintf("%.4g %s", v, unit))
		}
		f.logged[unit] = len(f.values[unit])
	}
	f.b.Log(strings.Join(line, ", "))
}

// report gives the medians to the benchmark.
func (f *figures) report() {
	for _, unit := range f.units {
		f.b.ReportMetric(quantile(f.values[unit], 0.5), unit)
	}
	f.b.ReportMetric(0, "ns/op") // says nothing: a round includes its own setting up
}

// quantile is the smallest value that a share q of all do not exceed.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// touched counts the pieces of a single file in which reads at offsets lie.
func touched(c *content, offsets []int64) int64 {
	seen := map[int64]bool{}
	for _, off := range offsets {
		seen[off/c.pieceLength] = true
		seen[(off+probeLength-1)/c.pieceLength] = true
	}
	return int64(len(seen))
}

// list is offsets as an argument of a reader.
func list(offsets []int64) string {
	return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(offsets)), ","), "[]")
}

// sameBytes checks what a copy out of the mount would hold.
func (m *mounted) sameBytes(c *content, f fileSpec) {
	m.t.Helper()
	if r := run(m.t, copyLimit, exec.Command("cmp", m.path(c, f), c.original(f))); r.code != 0 {
		m.t.Errorf("cmp: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
}
