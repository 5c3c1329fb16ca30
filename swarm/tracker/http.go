package tracker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"swarmfs/swarm/network"
)

// Bounds on an HTTP answer.
const (
	maxBody      = 2 << 20  // after decompression; 2000 peers take 12 to 120 KB
	maxHeader    = 64 << 10 // bytes
	maxRedirects = 5
)

// announceHTTP announces over http or https.
func (c *Client) announceHTTP(ctx context.Context, u *url.URL, r Request) (Response, error) {
	body, status, err := c.get(ctx, u, announceURL(u, r))
	if err != nil {
		return Response{}, err
	}
	resp, err := parseAnswer(body, u)
	return resp, statusError(status, err)
}

// statusError is why an answer with this HTTP status and this failure to read it
// is none. Some trackers say in words what is wrong, and in the status too: the
// words are worth more.
func statusError(status int, err error) error {
	if failure := (*FailureError)(nil); status != http.StatusOK && !errors.As(err, &failure) {
		return fmt.Errorf("HTTP status %d", status)
	}
	return err
}

// get fetches target, a URL of the tracker that announces go to at u. Each request
// has a transport of its own and keeps no connection: the next one is half an hour
// away, and a shared connection would carry one torrent's announce over an address
// that was checked for another.
func (c *Client) get(ctx context.Context, u, target *url.URL) (body []byte, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.httpTimeout)
	defer cancel()
	h := &hops{classify: c.classify, allow: c.opts.Allow, path: u.Path}
	transport := c.transport(ctx, h)
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		// The referer would hand our passkey to whom we are sent to.
		next.Header.Del("Referer")
		return checkRedirect(h, next.URL, via)
	}}
	req := &http.Request{
		Method: http.MethodGet,
		URL:    target,
		Host:   u.Host,
		Header: http.Header{"User-Agent": {c.opts.UserAgent}},
	}
	res, err := client.Do(req.WithContext(ctx))
	if err != nil {
		if ue := (*url.Error)(nil); errors.As(err, &ue) {
			err = ue.Err // without its URL, which holds the passkey
		}
		return nil, 0, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err != nil {
		return nil, 0, fmt.Errorf("read answer: %w", err)
	}
	if len(body) > maxBody {
		return nil, 0, fmt.Errorf("answer of more than %d bytes", maxBody)
	}
	return body, res.StatusCode, nil
}

func checkRedirect(h *hops, next *url.URL, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	if err := checkURL(next); err != nil {
		return fmt.Errorf("redirect: %w", err)
	}
	if last := via[len(via)-1].URL.Scheme; next.Scheme != last && next.Scheme != "https" {
		// From https to http our passkey would go in the clear.
		return fmt.Errorf("redirect from %s to %s", last, next.Scheme)
	}
	h.redirect(next)
	return nil
}

func (c *Client) transport(ctx context.Context, h *hops) *http.Transport {
	return &http.Transport{
		// No Proxy: one from the environment would connect where hops does
		// not look.
		DialContext: func(dialCtx context.Context, _, address string) (net.Conn, error) {
			// The transport may go on dialling after the request has ended;
			// Close has to wait for that too.
			if !c.begin() {
				return nil, ErrClosed
			}
			dialCtx, cancel := context.WithTimeout(dialCtx, c.headerTimeout)
			defer context.AfterFunc(ctx, cancel)()
			defer cancel()
			conn, err := network.DialName(dialCtx, c.opts.Network, address, h.check)
			if err != nil {
				c.work.Done()
				return nil, err
			}
			return &trackedConn{Conn: conn, closed: sync.OnceFunc(c.work.Done)}, nil
		},
		TLSClientConfig:        &tls.Config{RootCAs: c.opts.RootCAs},
		TLSHandshakeTimeout:    c.headerTimeout,
		ResponseHeaderTimeout:  c.headerTimeout,
		MaxResponseHeaderBytes: maxHeader,
		DisableKeepAlives:      true,
	}
}

// trackedConn tells when it is closed.
type trackedConn struct {
	net.Conn
	closed func()
}

func (c *trackedConn) Close() error {
	err := c.Conn.Close()
	c.closed()
	return err
}

// announceURL returns u with our query behind its own, byte by byte as it was:
// passkeys are compared so.
func announceURL(u *url.URL, r Request) *url.URL {
	out := *u
	out.Fragment, out.RawFragment = "", ""
	var b strings.Builder
	if u.RawQuery != "" {
		b.WriteString(strings.ReplaceAll(u.RawQuery, " ", "%20"))
		b.WriteByte('&')
	}
	b.WriteString("info_hash=")
	escape(&b, r.InfoHash[:])
	b.WriteString("&peer_id=")
	escape(&b, r.PeerID[:])
	fmt.Fprintf(&b, "&port=%d&uploaded=%d&downloaded=%d&left=%d", r.Port, max(0, r.Uploaded), max(0, r.Downloaded), max(0, r.Left))
	fmt.Fprintf(&b, "&key=%08x&numwant=%d&compact=1&no_peer_id=1&supportcrypto=1", r.Key, r.numWant())
	switch {
	case r.Event != None:
		b.WriteString("&event=" + r.Event.String())
	case r.Paused:
		b.WriteString("&event=paused")
	}
	if r.TrackerID != "" {
		b.WriteString("&trackerid=")
		escape(&b, []byte(r.TrackerID))
	}
	for _, a := range [...]netip.Addr{r.IPv4, r.IPv6} {
		switch {
		case !a.IsValid():
			continue
		case a.Is4():
			b.WriteString("&ipv4=")
		default:
			b.WriteString("&ipv6=")
		}
		escape(&b, []byte(a.String()))
	}
	out.RawQuery = b.String()
	return &out
}

// escape writes p percent-encoded: one way for each byte, which trackers that
// compare text rely on (RFC 3986 section 2.3; url.QueryEscape writes + for a
// space).
func escape(b *strings.Builder, p []byte) {
	for _, c := range p {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteString(strings.ToUpper(strconv.FormatUint(uint64(c)|0x100, 16)[1:]))
		}
	}
}
