package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// opentracker is a real tracker on a node of its own, by HTTP and by UDP.
type opentracker struct {
	t    testing.TB
	node *node
}

const trackerPort = 6969

func newTracker(t testing.TB) *opentracker {
	t.Helper()
	return &opentracker{t, newNode(t)}
}

// url is the announce URL for "http" or "udp".
func (o *opentracker) url(scheme string) string {
	return fmt.Sprintf("%s://%s/announce", scheme, o.node.addr(trackerPort))
}

// serve starts the tracker for the given contents. Debian's build answers
// only for infohashes on a white list, so they have to be known.
func (o *opentracker) serve(contents ...*content) {
	o.t.Helper()
	dir := o.t.TempDir()
	var list string
	for _, c := range contents {
		list += c.hash + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "whitelist"), []byte(list), 0o644); err != nil {
		o.t.Fatal(err)
	}
	port := strconv.Itoa(trackerPort)
	// It refuses to run as root, and who runs the tests may be the only user
	// of their namespace. In a user namespace without names it is nobody.
	start(o.t, "opentracker", o.node.command("unshare", "--user", "--", "opentracker",
		"-i", o.node.ip, "-p", port, "-P", port, "-d", dir, "-w", filepath.Join(dir, "whitelist")))
	eventually(o.t, 10*time.Second, "opentracker to answer", func() bool {
		_, err := o.scrape(contents[0])
		return err == nil
	})
}

// waitSeeder waits until the tracker knows a seeder.
func (o *opentracker) waitSeeder(c *content) {
	o.t.Helper()
	o.waitSeeders(c, 1)
}

func (o *opentracker) waitSeeders(c *content, want int) {
	o.t.Helper()
	eventually(o.t, 60*time.Second, fmt.Sprintf("%d seeders of %s at the tracker", want, c.name), func() bool {
		seeders, err := o.scrape(c)
		return err == nil && seeders >= want
	})
}

var completeKey = regexp.MustCompile(`8:completei(\d+)e`)

// scrape asks how many seeders the tracker knows (BEP 48).
func (o *opentracker) scrape(c *content) (int, error) {
	ctx, cancel := context.WithTimeout(o.t.Context(), 2*time.Second)
	defer cancel()
	address := fmt.Sprintf("http://%s/scrape?info_hash=%s", o.node.addr(trackerPort), strings.ReplaceAll(url.QueryEscape(string(c.rawHash[:])), "+", "%20"))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("scrape: %s", resp.Status)
	}
	if m := completeKey.FindSubmatch(body); m != nil {
		return strconv.Atoi(string(m[1]))
	}
	return 0, nil
}
