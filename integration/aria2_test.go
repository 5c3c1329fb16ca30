package integration

import (
	"os/exec"
	"strconv"
	"testing"
	"time"
)

const aria2Port = 6882

func aria2(t testing.TB, n *node, c *content, dir string, more ...string) *exec.Cmd {
	t.Helper()
	args := []string{
		"--no-conf", "--dir=" + dir, "--listen-port=" + strconv.Itoa(aria2Port),
		// aria2 speaks to UDP trackers by the socket of its DHT node, so that has to be there.
		"--enable-dht=true", "--dht-listen-port=" + strconv.Itoa(aria2Port), "--dht-file-path=" + t.TempDir() + "/dht.dat",
		"--enable-dht6=false", "--bt-enable-lpd=false", "--disable-ipv6",
		"--file-allocation=none", "--console-log-level=info", "--show-console-readout=false",
	}
	return n.command("aria2c", append(append(args, more...), c.torrent)...)
}

// seedAria2 seeds c from its original files.
func seedAria2(t testing.TB, n *node, c *content, more ...string) {
	t.Helper()
	more = append(more, "--bt-seed-unverified", "--seed-ratio=0.0", "--allow-overwrite")
	start(t, "aria2c seed", aria2(t, n, c, c.dir, more...))
}

// leechAria2 downloads c into dir and returns when it has all of it.
func leechAria2(t testing.TB, n *node, c *content, dir string, more ...string) {
	t.Helper()
	p := start(t, "aria2c leech", aria2(t, n, c, dir, append(more, "--seed-time=0")...))
	if code := p.wait(leechLimit); code != 0 {
		t.Errorf("aria2c ended with exit code %d", code)
	}
}

// leechLimit is generous: clients wait for their own timers (aria2 and
// Transmission choose whom to serve every ten seconds), and machines differ.
const (
	leechLimit = 120 * time.Second
	copyLimit  = 120 * time.Second
)
