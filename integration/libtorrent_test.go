package integration

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// python is Debian's interpreter: python3-libtorrent is built for it, and
// another one may come first in the path.
const python = "/usr/bin/python3"

// libtorrent is a session of libtorrent-rasterbar, driven by its Python
// binding.
type libtorrent struct {
	*process
	address string // where it listens
	stdin   io.Writer
	stdout  chan string
}

const libtorrentPort = 6881

// startLibtorrent runs a session on node; mode is "seed" or "leech". Uploads
// are limited to limit bytes/s unless it is 0.
func startLibtorrent(t *testing.T, n *node, mode string, c *content, dir string, limit int) *libtorrent {
	t.Helper()
	script, err := filepath.Abs("testdata/libtorrent_client.py")
	if err != nil {
		t.Fatal(err)
	}
	l := &libtorrent{address: n.addr(libtorrentPort), stdout: make(chan string, 16)}
	cmd := n.command(python, script, mode, l.address, c.torrent, dir, strconv.Itoa(limit))
	stdinRead, stdinWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdoutRead, stdoutWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout = stdinRead, stdoutWrite
	t.Cleanup(func() { stdinWrite.Close() })
	l.stdin = stdinWrite
	l.process = start(t, "libtorrent "+mode, cmd)
	stdinRead.Close()
	stdoutWrite.Close()
	go func() {
		defer stdoutRead.Close()
		defer close(l.stdout)
		lines := bufio.NewScanner(stdoutRead)
		for lines.Scan() {
			l.stdout <- lines.Text()
		}
	}()
	return l
}

// seedLibtorrent seeds c from its original files and waits until it does.
func seedLibtorrent(t *testing.T, n *node, c *content) *libtorrent {
	t.Helper()
	return seedLibtorrentLimited(t, n, c, 0)
}

func seedLibtorrentLimited(t *testing.T, n *node, c *content, limit int) *libtorrent {
	t.Helper()
	l := startLibtorrent(t, n, "seed", c, c.dir, limit)
	l.expect("ready", 30*time.Second)
	return l
}

// expect reads one line.
func (l *libtorrent) expect(prefix string, limit time.Duration) string {
	l.t.Helper()
	select {
	case line, ok := <-l.stdout:
		rest, found := strings.CutPrefix(line, prefix)
		if !ok || !found {
			l.t.Fatalf("libtorrent said %q, want %q", line, prefix)
		}
		return strings.TrimSpace(rest)
	case <-time.After(limit):
		l.t.Fatalf("libtorrent did not say %q within %v", prefix, limit)
		return ""
	}
}

// uploaded is how many bytes of payload it has sent.
func (l *libtorrent) uploaded() int64 {
	l.t.Helper()
	if _, err := fmt.Fprintln(l.stdin, "uploaded"); err != nil {
		l.t.Fatal(err)
	}
	n, err := strconv.ParseInt(l.expect("uploaded ", 10*time.Second), 10, 64)
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}
