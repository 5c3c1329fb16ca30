package integration

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// tunnel is a second network: a node's interface tun0, and everything at its
// other end: a name server, a web server, and room for a tracker and a seeder.
// The node's other interface, eth0, has the default route.
type tunnel struct {
	t    testing.TB
	node *node // who has tun0
	end  *node // the other side, by its address in the tunnel
}

// The tunnel's addresses are those of documentation (RFC 5737): to us the world.
const (
	tunNear = "203.0.113.2"
	tunFar  = "203.0.113.1"
)

func newTunnel(t testing.TB) *tunnel {
	t.Helper()
	near, far := newNode(t), newNode(t)
	tn := &tunnel{t: t, node: &node{near.name, tunNear}, end: &node{far.name, tunFar}}
	tn.plug()
	for _, n := range []*node{near, far} {
		// Only what somebody sends is to be counted, not what IPv6 says by itself.
		mustRun(t, 5*time.Second, "nsenter", "--net=/run/netns/"+n.name, "--", "sh", "-c",
			"echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6")
	}
	// The tests talk to the tracker, too.
	if err := ipBatch("", "route add "+tunFar+" via "+far.ip); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ipBatch("", "route del "+tunFar) }) // the namespace may have taken it along
	tn.serveNames()
	return tn
}

// plug makes the tunnel.
func (tn *tunnel) plug() {
	tn.t.Helper()
	if err := ipBatch(tn.node.name, "link add tun0 type veth peer name tun0 netns "+tn.end.name,
		"addr add "+tunNear+"/24 dev tun0", "link set tun0 up"); err != nil {
		tn.t.Fatal(err)
	}
	if err := ipBatch(tn.end.name, "addr add "+tunFar+"/24 dev tun0", "link set tun0 up"); err != nil {
		tn.t.Fatal(err)
	}
}

// do runs commands of ip at the near end.
func (tn *tunnel) do(lines ...string) {
	tn.t.Helper()
	if err := ipBatch(tn.node.name, lines...); err != nil {
		tn.t.Fatal(err)
	}
}

// sent returns how many packets an interface of the node has sent.
func (tn *tunnel) sent(dev string) int {
	tn.t.Helper()
	r := run(tn.t, 5*time.Second, tn.node.command("cat", "/proc/net/dev"))
	for line := range strings.SplitSeq(r.stdout, "\n") {
		name, rest, _ := strings.Cut(line, ":")
		if f := strings.Fields(rest); strings.TrimSpace(name) == dev && len(f) > 9 {
			n, err := strconv.Atoi(f[9])
			if err != nil {
				tn.t.Fatal(err)
			}
			return n
		}
	}
	tn.t.Fatalf("no interface %s in %s", dev, r.stdout)
	return 0
}

// inside calls f on a thread that is in the far end's network: the sockets that
// it opens stay there.
func (tn *tunnel) inside(f func() error) {
	tn.t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with us
		ns, err := os.Open("/run/netns/" + tn.end.name)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		tn.t.Fatal(err)
	}
}

// serveNames answers every question for an IPv4 address with the far end's, and
// makes that the name server of whoever runs beside these tests.
func (tn *tunnel) serveNames() {
	var conn net.PacketConn
	tn.inside(func() (err error) {
		conn, err = net.ListenPacket("udp4", tunFar+":53")
		return err
	})
	var server sync.WaitGroup
	server.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := nameAnswer(buf[:n]); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	})
	tn.t.Cleanup(func() { conn.Close(); server.Wait() })
	conf := filepath.Join(tn.t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+tunFar+"\noptions timeout:1\n"), 0o644); err != nil {
		tn.t.Fatal(err)
	}
	if err := unix.Mount(conf, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		tn.t.Fatal(err)
	}
	tn.t.Cleanup(func() { _ = unix.Unmount("/etc/resolv.conf", unix.MNT_DETACH) })
}

func nameAnswer(question []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.RecursionAvailable = true, true
	m.Additionals = nil
	if q.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr(tunFar).As4()},
		}}
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	return reply
}

// serveFile serves a file over HTTP at the far end, and returns its URL, by name.
func (tn *tunnel) serveFile(path string) string {
	var l net.Listener
	tn.inside(func() (err error) {
		l, err = net.Listen("tcp4", tunFar+":80")
		return err
	})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	tn.t.Cleanup(func() { server.Close(); serving.Wait() })
	return "http://files.example/" + filepath.Base(path)
}

// Bound to an interface, by its name or by its address, nothing is sent by the
// other one, whatever happens: name look-ups, trackers, peers, URLs, at the start,
// while reading, and with the interface down, up, and made anew.
func TestNothingLeavesByTheOtherInterface(t *testing.T) {
	for _, bind := range []string{"tun0", tunNear} {
		t.Run(bind, func(t *testing.T) { testBound(t, bind) })
	}
}

func testBound(t *testing.T, bind string) {
	tn := newTunnel(t)
	tracker := &opentracker{t, tn.end}
	names := []string{fmt.Sprintf("http://tracker.example:%d/announce", trackerPort), fmt.Sprintf("udp://tracker.example:%d/announce", trackerPort)}
	first := single(t, "first", 3<<20, 64<<10, names...)
	second := single(t, "second", 3<<20, 64<<10, names...)
	tracker.serve(first, second)
	seedLibtorrent(t, tn.end, first)
	seedLibtorrent(t, tn.end, second)
	tracker.waitSeeder(first)
	tracker.waitSeeder(second)
	url := tn.serveFile(second.torrent)
	before := tn.sent("eth0")
	quiet := func(when string) {
		t.Helper()
		if n := tn.sent("eth0") - before; n != 0 {
			t.Fatalf("%s: %d packets left by the other interface", when, n)
		}
	}

	m := mount(t, tn.node, mountOptions{flags: []string{"--bind", bind, "--no-dht=false", "--no-lsd=false", "--dht-bootstrap", "node.example:6889", "--listen", ":6885", "--peer", "peer.example:6881"}}, first.torrent)
	first.copyOut(t, m.point)
	quiet("reading")

	tn.do("link set tun0 down")
	waitNetwork(m, true)
	if r := run(t, 50*time.Second, swarmfs("add", "--data", m.data, url)); r.code == exitOK {
		t.Error("a URL was fetched while the interface was down")
	}
	time.Sleep(3 * time.Second) // whoever looks for peers does so meanwhile
	quiet("while the interface is down")

	tn.do("link set tun0 up")
	waitNetwork(m, false)
	if r := run(t, 50*time.Second, swarmfs("add", "--data", m.data, url)); r.code != exitOK {
		t.Fatalf("add %s: %+v", url, r)
	}
	part := start(t, "cp", tn.node.command("cp", filepath.Join(m.point, second.name), t.TempDir()))
	if code := part.wait(30 * time.Second); code != 0 {
		t.Errorf("cp: exit code %d", code)
	}
	quiet("after the interface has come back")

	// It comes again as another interface.
	tn.do("link del tun0")
	waitNetwork(m, true)
	tn.plug()
	waitNetwork(m, false)
	for _, port := range []int{swarmfsPort, 6885} {
		eventually(t, 15*time.Second, "somebody to connect through the new interface", func() bool {
			var c net.Conn
			tn.inside(func() error {
				c, _ = net.DialTimeout("tcp", tn.node.addr(port), time.Second) // refused, at first
				return nil
			})
			if c != nil {
				c.Close()
			}
			return c != nil
		})
	}
	quiet("after the interface was made anew")
	m.unmount()
	quiet("at the end")
}

// waitNetwork waits until the status says that the network is down, or up.
func waitNetwork(m *mounted, down bool) {
	m.t.Helper()
	eventually(m.t, 10*time.Second, fmt.Sprintf("the status to say down: %v", down), func() bool {
		return (m.status().Network.Down != nil) == down
	})
}
