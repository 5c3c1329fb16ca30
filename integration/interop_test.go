package integration

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var interop = flag.String("interop", "some", "all: every cell of the matrix of clients, and write docs/interop.md")

// ways are how peers find each other: one alone in each column.
var ways = []string{"HTTP tracker", "UDP tracker", "DHT", "PEX", "LSD", "magnet"}

// cell is one field of the matrix.
type cell struct {
	client    foreign
	way       string
	encrypted bool // by MSE throughout; else plain
	toUs      bool // it seeds and we read; else we seed
}

func (k cell) String() string {
	return fmt.Sprintf("%s, %s, %s", k.client.name, k.row(), k.way)
}

// slug is String for programs that stumble over commas and spaces.
func (k cell) slug() string {
	return strings.ReplaceAll(strings.ReplaceAll(k.String(), ",", ""), " ", "-")
}

func (k cell) row() string {
	s := "plain"
	if k.encrypted {
		s = "MSE"
	}
	if k.toUs {
		return s + ", to us"
	}
	return s + ", from us"
}

// cannot is why a cell is not to be had, "" if it is.
func (k cell) cannot() string {
	if k.client.name == "rtorrent" && k.way == "LSD" {
		return "rtorrent has no LSD"
	}
	if k.way == "DHT" {
		switch k.client.name {
		case "Transmission":
			return "Transmission does not find its way in a DHT of two or three nodes within 100 s, told of one by dht.bootstrap; why is not known"
		case "qBittorrent":
			return "qBittorrent cannot be told of a node but by the torrent, and neither found us nor was found within 100 s; its libtorrent takes all nodes of one network for one, and it has no setting for that. The libtorrent row has it off"
		}
	}
	return ""
}

// interopLimit is how long a cell may take: some clients look round once a minute.
const interopLimit = 100 * time.Second

// Every client gives us a file and gets one, with one way of finding each other
// and one kind of connection. Without -interop=all each client shows each way
// once.
func TestInterop(t *testing.T) {
	requireNamespaces(t)
	m := &matrix{took: map[string]time.Duration{}}
	began := time.Now()
	t.Run("cells", func(t *testing.T) {
		for i, client := range foreigns {
			for j, way := range ways {
				for n := range 4 {
					k := cell{client, way, n&1 == 0, n&2 == 0}
					if k.cannot() != "" || *interop != "all" && n != (i+j)%4 {
						continue
					}
					t.Run(k.slug(), func(t *testing.T) {
						t.Parallel()
						t.Cleanup(func() {
							if !t.Failed() {
								return
							}
							m.fails(k)
						})
						m.works(k, k.run(t))
					})
				}
			}
		}
	})
	if *interop == "all" {
		if err := os.WriteFile("../docs/interop.md", []byte(m.text(time.Since(began))), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// run does the transfer and returns how long it took from when the second of the
// two was started.
func (k cell) run(t *testing.T) time.Duration {
	c := single(t, k.slug(), 3<<20+777, 64<<10)
	s := scene{t: t, cell: k, c: c, ours: newNode(t), theirs: newNode(t)}
	s.set()
	if k.toUs {
		return s.toUs()
	}
	return s.fromUs()
}

// scene is one cell being played.
type scene struct {
	cell
	t            *testing.T
	c            *content
	ours, theirs *node
	tracker      *opentracker // nil: none
	dht          string
	flags        []string // of ours
	hub          bool     // somebody between both, who has nothing
}

// set prepares what the way needs.
func (s *scene) set() {
	s.flags = []string{"--no-pex=true", "--encryption", "off"}
	if s.encrypted {
		s.flags[2] = "require"
	}
	switch s.way {
	case "HTTP tracker", "UDP tracker", "magnet":
		s.tracker = newTracker(s.t)
		scheme := "http"
		if s.way == "UDP tracker" {
			scheme = "udp"
		}
		s.c.describe(s.t, s.tracker.url(scheme))
		s.tracker.serve(s.c)
	case "DHT":
		hub := newNode(s.t)
		seed(s.t, hub, single(s.t, "hub", 1<<20, 64<<10), "--no-dht=false")
		s.dht = hub.addr(swarmfsPort)
		s.c.dhtNodes = []string{s.dht}
		s.c.describe(s.t)
		s.flags = append(s.flags, inDHT(s.dht)...)
	case "PEX":
		s.hub = true
		// rtorrent does not take a torrent without a tracker when it has no DHT.
		s.c.describe(s.t, "http://"+s.ours.addr(1)+"/announce")
		s.flags[0] = "--no-pex=false"
	case "LSD":
		s.flags = append(s.flags, "--no-lsd=false")
	}
}

// toUs has the client seed and a mount read.
func (s *scene) toUs() time.Duration {
	s.client.start(s.t, s.task(true, s.c.dir, s.c.torrent))
	s.waitSeeder()
	flags := s.flags
	if s.hub {
		flags = append(flags, "--peer", s.between(s.theirs.addr(s.client.port)))
	}
	source := s.c.torrent
	if s.way == "magnet" {
		source = s.c.magnet(s.tracker.url("http"))
	}
	began := time.Now()
	m := mount(s.t, s.ours, mountOptions{flags: append(flags, "--read-timeout", interopLimit.String())}, source)
	m.shown(s.c, interopLimit)
	s.c.copyOut(s.t, m.point)
	took := time.Since(began)
	m.unmount()
	return took
}

// fromUs has us seed and the client download.
func (s *scene) fromUs() time.Duration {
	p := seed(s.t, s.ours, s.c, s.flags...)
	s.waitSeeder()
	source, dir := s.c.torrent, s.t.TempDir()
	if s.way == "magnet" {
		source = s.c.magnet(s.tracker.url("http"))
	}
	began := time.Now()
	s.client.start(s.t, s.task(false, dir, source))
	if s.hub {
		s.between(s.ours.addr(swarmfsPort), s.theirs.addr(s.client.port))
	}
	want, err := os.ReadFile(s.c.original(s.c.files[0]))
	if err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, interopLimit, s.client.name+" to have all", func() bool {
		got, err := os.ReadFile(filepath.Join(dir, s.c.name))
		return err == nil && bytes.Equal(got, want)
	})
	took := time.Since(began)
	stopSeed(s.t, p)
	return took
}

func (s *scene) task(seed bool, dir, source string) task {
	return task{node: s.theirs, source: source, dir: dir, seed: seed, encrypted: s.encrypted, dht: s.dht, lsd: s.way == "LSD"}
}

func (s *scene) waitSeeder() {
	if s.tracker != nil {
		s.tracker.waitSeeder(s.c)
	}
}

// between runs a mount that reads nothing and knows these peers, and returns its
// address.
func (s *scene) between(peers ...string) string {
	n := newNode(s.t)
	var flags []string
	for _, p := range peers {
		flags = append(flags, "--peer", p)
	}
	m := mount(s.t, n, mountOptions{flags: flags}, s.c.torrent)
	eventually(s.t, interopLimit, "the one between to know both", func() bool { return len(m.peers(s.c)) >= len(peers) })
	return m.address
}

// matrix is what came of the cells.
type matrix struct {
	mu     sync.Mutex
	took   map[string]time.Duration
	failed []string
}

func (m *matrix) works(k cell, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.took[k.String()] = took
}

func (m *matrix) fails(k cell) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.took, k.String())
	m.failed = append(m.failed, k.String())
}

func (m *matrix) text(took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Other clients

Written by the test itself (%s):

    go test ./integration -run 'TestInterop$' -interop=all -parallel 16

Each cell is one file of 3 MiB, in namespaces of their own, with one way of
finding each other and nothing else, and checked byte by byte. "To us": the
client seeds, a mount is read. "From us": %s seeds, the client
downloads. "Plain": swarmfs refuses encryption (`+"`--encryption off`"+`). "MSE": both
insist on it. PEX: all that both know is a third, a swarmfs that has nothing.
(The torrent's only tracker is dead then.) Magnet: a link with an HTTP tracker, and metadata from the other side.
A cell shows the seconds from the start of the second of the two to the last
byte, many cells at a time; they say whether it works, not how fast. Clients look
round at their own pace, some only once a minute.

`, took.Round(time.Second), "`swarmfs seed`")
	fmt.Fprintf(&b, "| client | | %s |\n|---|---|%s\n", strings.Join(ways, " | "), strings.Repeat("---|", len(ways)))
	for _, client := range foreigns {
		name := client.name + " " + version(client.pkg)
		for n := range 4 {
			k := cell{client: client, encrypted: n&1 == 1, toUs: n&2 == 0}
			fmt.Fprintf(&b, "| %s | %s |", name, k.row())
			name = ""
			for _, k.way = range ways {
				fmt.Fprintf(&b, " %s |", m.field(k))
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("\n")
	told := map[string]bool{}
	for _, client := range foreigns {
		for _, way := range ways {
			if why := (cell{client: client, way: way}).cannot(); why != "" && !told[why] {
				told[why] = true
				fmt.Fprintf(&b, "- –: %s.\n", why)
			}
		}
	}
	for _, k := range m.failed {
		fmt.Fprintf(&b, "- **fails**: %s\n", k)
	}
	return b.String()
}

func (m *matrix) field(k cell) string {
	if k.cannot() != "" {
		return "–"
	}
	if took, ok := m.took[k.String()]; ok {
		return fmt.Sprintf("%.1f", took.Seconds())
	}
	return "**fails**"
}
