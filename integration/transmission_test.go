package integration

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// transmission is a transmission-daemon, driven by its RPC. It is the strict
// one of the clients: it refuses peers in 127/8, and it tries to encrypt
// before it speaks plainly.
type transmission struct {
	*process
	url, session string
}

const (
	transmissionPort    = 6883
	transmissionRPCPort = 9091
)

// startTransmission runs one with these settings besides ours, or instead of them.
func startTransmission(t testing.TB, n *node, more map[string]any) *transmission {
	t.Helper()
	return startTransmissionIn(t, n, t.TempDir(), more)
}

// startTransmissionIn runs one whose configuration is in dir.
func startTransmissionIn(t testing.TB, n *node, dir string, more map[string]any) *transmission {
	t.Helper()
	all := map[string]any{
		"bind-address-ipv4":       n.ip,
		"dht-enabled":             false,
		"lpd-enabled":             false,
		"utp-enabled":             false,
		"port-forwarding-enabled": false,
		"peer-port":               transmissionPort,
		"rpc-port":                transmissionRPCPort,
		"rpc-bind-address":        n.ip,
		"rpc-whitelist-enabled":   false,
		"watch-dir-enabled":       false,
	}
	maps.Copy(all, more)
	settings, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "settings.json"), settings, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "transmission-daemon", n.command("transmission-daemon", "-f", "-g", dir, "--log-debug"))
	d := &transmission{process: p, url: fmt.Sprintf("http://%s/transmission/rpc", n.addr(transmissionRPCPort))}
	eventually(t, 20*time.Second, "transmission to answer", func() bool {
		return d.call("session-get", map[string]any{}, nil) == nil
	})
	t.Cleanup(func() {
		if t.Failed() && d.running() {
			t.Logf("does transmission still answer? error: %v", d.call("session-get", map[string]any{}, nil))
		}
	})
	return d
}

// call makes one RPC; the first one is answered by the token to send with it.
func (d *transmission) call(method string, arguments, answer any) error {
	body, err := json.Marshal(map[string]any{"method": method, "arguments": arguments})
	if err != nil {
		return err
	}
	for range 2 {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, d.url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("X-Transmission-Session-Id", d.session)
		resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusConflict {
			d.session = resp.Header.Get("X-Transmission-Session-Id")
			continue
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", method, resp.Status)
		}
		reply := struct {
			Result    string
			Arguments any
		}{Arguments: answer}
		if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
			return err
		}
		if reply.Result != "success" {
			return fmt.Errorf("%s: %s", method, reply.Result)
		}
		return nil
	}
	return fmt.Errorf("%s: the token was refused", method)
}

// add starts c with its files below dir, and checks that the daemon still
// answers.
func (d *transmission) add(c *content, dir string) error {
	torrent, err := os.ReadFile(c.torrent)
	if err != nil {
		return err
	}
	err = d.call("torrent-add", map[string]any{
		"metainfo":     base64.StdEncoding.EncodeToString(torrent),
		"download-dir": dir, "paused": false,
	}, nil)
	if err != nil {
		return err
	}
	return d.call("session-get", map[string]any{}, nil)
}

// waitComplete waits until everything is there and verified.
func (d *transmission) waitComplete(limit time.Duration) {
	d.t.Helper()
	eventually(d.t, limit, "transmission to have all", func() bool {
		var answer struct {
			Torrents []struct {
				LeftUntilDone   int64
				PercentDone     float64
				ErrorString     string
				MetadataPercent float64 `json:"metadataPercentComplete"`
			}
		}
		err := d.call("torrent-get", map[string]any{
			"fields": []string{"leftUntilDone", "percentDone", "errorString", "metadataPercentComplete"},
		}, &answer)
		if err != nil || len(answer.Torrents) != 1 {
			return false
		}
		got := answer.Torrents[0]
		return got.LeftUntilDone == 0 && got.PercentDone == 1
	})
}

// transmissionWith starts c with its files below dir. Transmission 3.00
// sometimes answers nothing any more after a torrent was added to it (one
// start of forty on a busy machine): then it is started again.
func transmissionWith(t testing.TB, n *node, c *content, dir string, more map[string]any) *transmission {
	t.Helper()
	for try := 1; ; try++ {
		d := startTransmission(t, n, more)
		err := d.add(c, dir)
		if err == nil {
			return d
		}
		if try == 3 {
			t.Fatalf("add %s to transmission, try %d: %v", c.name, try, err)
		}
		t.Logf("transmission hangs: %v", err)
		d.kill()
	}
}

// seedTransmission seeds c from its original files.
func seedTransmission(t testing.TB, n *node, c *content) {
	t.Helper()
	transmissionWith(t, n, c, c.dir, nil).waitComplete(30 * time.Second)
}

// leechTransmission downloads c into dir and returns when it has all of it.
func leechTransmission(t testing.TB, n *node, c *content, dir string) {
	t.Helper()
	transmissionWith(t, n, c, dir, nil).waitComplete(leechLimit)
}
