package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// task is what a foreign client is to do, and by which means.
type task struct {
	node      *node
	source    string // the path of a .torrent, or a magnet link
	dir       string // holds the files, or will
	seed      bool
	encrypted bool   // insist on it; else take plain connections
	dht       string // a node to ask for others; "": no DHT
	lsd       bool
}

// foreign is a client that is told all by its configuration. Whether it has
// finished is seen by its files.
type foreign struct {
	name, pkg string // pkg: Debian's
	port      int
	start     func(t testing.TB, k task)
}

var foreigns = []foreign{
	{"Transmission", "transmission-daemon", transmissionPort, taskTransmission},
	{"aria2", "aria2", aria2Port, taskAria2},
	{"libtorrent", "python3-libtorrent", libtorrentPort, taskLibtorrent},
	{"rtorrent", "rtorrent", rtorrentPort, taskRtorrent},
	{"qBittorrent", "qbittorrent-nox", qbittorrentPort, taskQBittorrent},
}

const (
	rtorrentPort    = 6885
	qbittorrentPort = 6886
)

func taskTransmission(t testing.TB, k task) {
	t.Helper()
	dir := t.TempDir()
	if k.dht != "" {
		mustWrite(t, filepath.Join(dir, "dht.bootstrap"), strings.ReplaceAll(k.dht, ":", " ")+"\n")
	}
	d := startTransmissionIn(t, k.node, dir, map[string]any{
		"encryption": map[bool]int{true: 2}[k.encrypted], "dht-enabled": k.dht != "", "lpd-enabled": k.lsd,
		"download-dir": k.dir,
	})
	if err := d.call("torrent-add", map[string]any{"filename": k.source, "download-dir": k.dir, "paused": false}, nil); err != nil {
		t.Fatal(err)
	}
}

func taskAria2(t testing.TB, k task) {
	t.Helper()
	var more []string
	if k.encrypted {
		more = append(more, aria2Strict...)
	}
	if k.dht != "" {
		more = append(more, "--dht-entry-point="+k.dht)
	}
	if k.lsd {
		more = append(more, "--bt-enable-lpd=true", "--bt-lpd-interface="+k.node.ip)
	}
	if k.seed {
		more = append(more, "--bt-seed-unverified", "--seed-ratio=0.0", "--allow-overwrite")
	}
	start(t, "aria2c", aria2(t, k.node, &content{torrent: k.source}, k.dir, more...))
}

func taskLibtorrent(t testing.TB, k task) {
	t.Helper()
	opts := libtorrentOptions{settings: libtorrentPlain, dht: k.dht}
	if k.encrypted {
		opts.settings = libtorrentStrict
	}
	if k.lsd {
		opts.settings = append([]string{"enable_lsd=1"}, opts.settings...)
	}
	mode := "leech"
	if k.seed {
		mode = "seed"
	}
	startLibtorrent(t, k.node, mode, &content{torrent: k.source}, k.dir, opts)
}

// rtorrent looks for its commands in a file, and needs no terminal as a daemon.
func taskRtorrent(t testing.TB, k task) {
	t.Helper()
	dir := t.TempDir()
	lines := []string{
		"system.daemon.set = true",
		"session.path.set = " + dir,
		"directory.default.set = " + k.dir,
		fmt.Sprintf("network.port_range.set = %d-%d", rtorrentPort, rtorrentPort),
		"network.port_random.set = no",
		"network.bind_address.set = " + k.node.ip,
		"protocol.pex.set = yes",
		"trackers.use_udp.set = yes",
	}
	if k.encrypted {
		lines = append(lines, "protocol.encryption.set = require,require_RC4,allow_incoming,try_outgoing")
	} else {
		lines = append(lines, "protocol.encryption.set = none")
	}
	if k.dht != "" {
		lines = append(lines, "dht.mode.set = on", fmt.Sprintf("dht.port.set = %d", rtorrentPort),
			`schedule2 = node, 1, 0, "dht.add_node=`+k.dht+`"`)
	} else {
		lines = append(lines, "dht.mode.set = disable")
	}
	lines = append(lines, `schedule2 = load, 2, 0, "load.start=\"`+k.source+`\""`)
	rc := filepath.Join(dir, "rc")
	mustWrite(t, rc, strings.Join(lines, "\n")+"\n")
	start(t, "rtorrent", atHome(k.node.command("rtorrent", "-n", "-o", "import="+rc)))
}

// qBittorrent takes torrents as arguments. Its bootstrap nodes are built in; it
// learns others from the torrent.
func taskQBittorrent(t testing.TB, k task) {
	t.Helper()
	dir := t.TempDir()
	encryption := 2 // off
	if k.encrypted {
		encryption = 1
	}
	config := filepath.Join(dir, "qBittorrent", "config", "qBittorrent.conf")
	if err := os.MkdirAll(filepath.Dir(config), 0o755); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, config, fmt.Sprintf(`[LegalNotice]
Accepted=true

[BitTorrent]
Session\BTProtocol=TCP
Session\DHTEnabled=%v
Session\DefaultSavePath=%s
Session\Encryption=%d
Session\LSDEnabled=%v
Session\PeXEnabled=true
Session\Port=%d
Session\QueueingSystemEnabled=false

[Network]
PortForwardingEnabled=false
`, k.dht != "", k.dir, encryption, k.lsd, qbittorrentPort))
	start(t, "qbittorrent-nox", k.node.command("qbittorrent-nox", "--profile="+dir, "--webui-port=8080",
		"--save-path="+k.dir, "--add-paused=false", k.source))
}

func mustWrite(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// version is that of a Debian package.
func version(pkg string) string {
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", pkg).Output()
	if err != nil {
		return "?"
	}
	v, _, _ := strings.Cut(string(out), "-")
	if _, after, ok := strings.Cut(v, ":"); ok {
		v = after
	}
	return strconv.QuoteToASCII(v)[1 : len(strconv.QuoteToASCII(v))-1]
}
