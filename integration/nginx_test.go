package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// nginx is a web server with the files of a folder.
type nginx struct {
	*process
	url  string // of the folder, with a slash at its end
	node *node
	log  string // path of a line for each request: its range, status and bytes sent
}

const nginxPort = 8080

// serveWeb serves the files below dir; more are directives of its server.
func serveWeb(t testing.TB, n *node, dir string, more ...string) *nginx {
	t.Helper()
	own := t.TempDir()
	w := &nginx{url: "http://" + n.addr(nginxPort) + "/", node: n, log: filepath.Join(own, "requests")}
	config := fmt.Sprintf(`daemon off;
user root;
worker_processes 1;
pid %[1]s/pid;
error_log stderr warn;
events {}
http {
	log_format range '$http_range $status $body_bytes_sent';
	access_log %[2]s range;
	sendfile on;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	server {
		listen %[3]s;
		root "%[4]s";
		%[5]s
	}
}
`, own, w.log, n.addr(nginxPort), dir, strings.Join(more, "\n\t\t"))
	path := filepath.Join(own, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	w.process = start(t, "nginx", n.command("nginx", "-c", path))
	eventually(t, 10*time.Second, "nginx to listen", func() bool {
		if !w.running() {
			t.Fatalf("nginx ended: %v", w.err)
		}
		conn, err := net.DialTimeout("tcp", n.addr(nginxPort), time.Second)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return w
}

// requests returns the lines of the log.
func (w *nginx) requests() []string {
	w.t.Helper()
	b, err := os.ReadFile(w.log)
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}
