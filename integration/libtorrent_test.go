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

// libtorrentOptions are what most sessions do without.
type libtorrentOptions struct {
	limit int      // bytes a second it uploads; 0: no limit
	have  string   // of a seeder: a 0 or 1 for each piece; "": all of them
	peers []string // to connect to, by TCP
	// settings are NAME=NUMBER, as libtorrent calls them.
	settings []string
	dht      string // a node to ask for others; "": no DHT
}

// startLibtorrent runs a session on node; mode is "seed" or "leech".
func startLibtorrent(t testing.TB, n *node, mode string, c *content, dir string, opts libtorrentOptions) *libtorrent {
	t.Helper()
	script, err := filepath.Abs("testdata/libtorrent_client.py")
	if err != nil {
		t.Fatal(err)
	}
	l := &libtorrent{address: n.addr(libtorrentPort), stdout: make(chan string, 16)}
	args := []string{script, mode, l.address, c.torrent, dir, "--limit", strconv.Itoa(opts.limit), "--have", opts.have}
	if len(opts.peers) > 0 {
		args = append(args, "--no-utp")
	}
	for _, peer := range opts.peers {
		args = append(args, "--peer", peer)
	}
	if opts.dht != "" {
		args = append(args, "--dht", opts.dht)
	}
	for _, set := range opts.settings {
		args = append(args, "--set", set)
	}
	cmd := n.command(python, args...)
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
func seedLibtorrent(t testing.TB, n *node, c *content) *libtorrent {
	t.Helper()
	return seedLibtorrentWith(t, n, c, libtorrentOptions{})
}

func seedLibtorrentWith(t testing.TB, n *node, c *content, opts libtorrentOptions) *libtorrent {
	t.Helper()
	l := startLibtorrent(t, n, "seed", c, c.dir, opts)
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
