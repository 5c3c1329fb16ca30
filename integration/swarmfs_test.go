package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The exit codes are an interface: scripts use them (README.md lists them).
const (
	exitOK       = 0
	exitUsage    = 2
	exitBadInput = 3
	exitMount    = 4
	exitNetwork  = 5
	exitData     = 6
	exitMismatch = 7
)

const (
	swarmfsPort = 6880
	readyLimit  = 20 * time.Second // a tenth of a second is usual
	stopLimit   = 20 * time.Second // as above
)

// swarmfs is the command, on no node in particular.
func swarmfs(args ...string) *exec.Cmd {
	return atHome(exec.Command(os.Getenv(binaryVar), args...))
}

// swarmfsOn is the command on a node.
func swarmfsOn(n *node, args ...string) *exec.Cmd {
	return atHome(n.command(os.Getenv(binaryVar), args...))
}

// atHome keeps the command away from the user's own data and configuration.
func atHome(cmd *exec.Cmd) *exec.Cmd {
	cmd.Env = append(os.Environ(), "HOME=/nonexistent", "XDG_DATA_HOME=", "XDG_CONFIG_HOME=")
	return cmd
}

// onlyGivenPeers are the flags that leave trackers and --peer as the ways to
// find peers.
var onlyGivenPeers = []string{"--no-dht", "--no-lsd", "--no-port-mapping"}

// mounted is a running `swarmfs mount`.
type mounted struct {
	*process
	point, data string
	address     string // where it listens
}

// mountOptions are where to mount, where to keep data (both: a new folder
// unless given), and further flags.
type mountOptions struct {
	point, data string
	flags       []string
	binary      string   // the one that was built, unless given
	env         []string // NAME=VALUE, besides the usual
}

// startMount runs `swarmfs mount` on n and does not wait.
func startMount(t testing.TB, n *node, opts mountOptions, sources ...string) *mounted {
	t.Helper()
	m := &mounted{point: opts.point, data: opts.data, address: n.addr(swarmfsPort)}
	if m.point == "" {
		m.point = t.TempDir()
	}
	if m.data == "" {
		m.data = t.TempDir()
	}
	// Runs after the daemon was killed by its own clean-up.
	t.Cleanup(func() { detach(t, m.point) })
	args := slices.Concat([]string{"mount", "--listen", m.address, "--data", m.data, "--log-level", "debug"},
		onlyGivenPeers, opts.flags, sources, []string{m.point})
	cmd := swarmfsOn(n, args...)
	if opts.binary != "" {
		cmd = atHome(n.command(opts.binary, args...))
	}
	cmd.Env = append(cmd.Env, opts.env...)
	m.process = start(t, "swarmfs mount", cmd)
	return m
}

// mount runs `swarmfs mount` and waits for its line.
func mount(t testing.TB, n *node, opts mountOptions, sources ...string) *mounted {
	t.Helper()
	m := startMount(t, n, opts, sources...)
	m.waitLine("^ready: .*$", readyLimit)
	if !isMounted(t, m.point) {
		t.Fatalf("ready, but nothing is mounted at %s", m.point)
	}
	return m
}

// unmount stops the daemon as a user would, and checks what it promises.
func (m *mounted) unmount() {
	m.t.Helper()
	m.signal(syscall.SIGTERM)
	if code := m.wait(stopLimit); code != exitOK {
		m.t.Errorf("exit code after SIGTERM: got %d, want %d", code, exitOK)
	}
	if isMounted(m.t, m.point) {
		m.t.Errorf("%s is still mounted after SIGTERM", m.point)
	}
	checkNothingStuck(m.t, m.point)
}

// path is a file of a content in the mount.
func (m *mounted) path(c *content, f fileSpec) string { return filepath.Join(m.point, c.name, f.path) }

// statusOutput is what the tests need of `swarmfs status --json`.
type statusOutput struct {
	Cache struct {
		Used     int64   `json:"used"`
		Degraded *string `json:"degraded"`
	} `json:"cache"`
	Network struct {
		Down *string `json:"down"`
	} `json:"network"`
	Torrents []counters `json:"torrents"`
	Links    []struct {
		Name     string `json:"name"`
		Infohash string `json:"infohash"`
	} `json:"links"`
}

// status asks the mount how it is.
func (m *mounted) status() (st statusOutput) {
	m.t.Helper()
	r := run(m.t, readyLimit, swarmfs("status", "--json", "--data", m.data))
	if err := json.Unmarshal([]byte(r.stdout), &st); err != nil || r.code != exitOK {
		m.t.Fatalf("status: exit code %d, %v: %s", r.code, err, r.stderr)
	}
	return st
}

// seed runs `swarmfs seed` of c's original files and waits for its line.
func seed(t testing.TB, n *node, c *content, flags ...string) *process {
	t.Helper()
	p := startSeed(t, n, c, flags...)
	p.waitLine("^ready: .*$", readyLimit)
	return p
}

// startSeed runs `swarmfs seed` of c's original files and does not wait.
func startSeed(t testing.TB, n *node, c *content, flags ...string) *process {
	t.Helper()
	args := slices.Concat([]string{"seed", "--listen", n.addr(swarmfsPort), "--log-level", "debug"}, onlyGivenPeers, flags,
		[]string{c.torrent, filepath.Join(c.dir, c.name)})
	return start(t, "swarmfs seed", swarmfsOn(n, args...))
}

// stopSeed stops a seed as a user would.
func stopSeed(t testing.TB, p *process) {
	t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.wait(stopLimit); code != exitOK {
		t.Errorf("exit code after SIGTERM: got %d, want %d", code, exitOK)
	}
}

// isMounted reads the kernel's list: a stat could hang.
func isMounted(t testing.TB, point string) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == point {
			return true
		}
	}
	return false
}

// detach takes away whatever is mounted at point, alive or dead.
func detach(t testing.TB, point string) {
	t.Helper()
	for range 5 {
		if !isMounted(t, point) {
			return
		}
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			t.Errorf("detach %s: %v", point, err)
			return
		}
	}
}

// oneLine checks that a failed command said one line with a cause, ended with
// the documented exit code, and left nothing mounted.
func oneLine(t testing.TB, r result, code int) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code: got %d, want %d", r.code, code)
	}
	line := strings.TrimSuffix(r.stderr, "\n")
	if line == "" || strings.Contains(line, "\n") {
		t.Errorf("standard error: got %s, want one line", strconv.Quote(tail(r.stderr, 1000)))
	}
	if r.stdout != "" {
		t.Errorf("standard output: got %q, want nothing", tail(r.stdout, 1000))
	}
	if strings.Contains(r.stderr, "goroutine ") {
		t.Errorf("it panicked")
	}
}
