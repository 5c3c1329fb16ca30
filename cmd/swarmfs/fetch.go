package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"swarmfs/swarm/network"
)

// Bounds of fetching a .torrent. They are generous for the slowest honest
// server, and small enough that a hostile one costs little.
const (
	fetchConnect   = 10 * time.Second
	fetchTotal     = 30 * time.Second
	fetchRedirects = 5
)

// fetcher gets what is at a URL.
type fetcher struct {
	net *network.Network
	// given: the URL is the user's own, so that the proxy of the environment
	// holds for it.
	given bool
}

// fetch gets a .torrent from an http or https URL. At most maxTorrent bytes
// are read. Errors do not repeat the URL's query, which may be a passkey.
func (f fetcher) fetch(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTotal, errors.New("no complete answer within 30 s"))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil || req.URL.Host == "" {
		return nil, errors.New("not a valid http or https URL")
	}
	req.Header.Set("User-Agent", "swarmfs/"+release)
	req.Header.Set("Accept", "application/x-bittorrent, */*;q=0.5")

	resp, err := f.client().Do(req)
	if err != nil {
		return nil, fetchCause(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxTorrent+1))
	if err != nil {
		return nil, fetchCause(ctx, err)
	}
	if len(data) > maxTorrent {
		return nil, errTooLarge
	}
	return data, nil
}

// client follows at most fetchRedirects redirects, and those only to http
// and https, which the transport sees to: it knows no other scheme.
func (f fetcher) client() *http.Client {
	var proxy func(*http.Request) (*url.URL, error)
	if f.given {
		proxy = http.ProxyFromEnvironment
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: proxy,
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				ctx, cancel := context.WithTimeout(ctx, fetchConnect)
				defer cancel()
				return network.DialName(ctx, f.net, address, nil)
			},
			TLSHandshakeTimeout:   fetchConnect,
			ResponseHeaderTimeout: fetchTotal,
			DisableKeepAlives:     true,
			ForceAttemptHTTP2:     true,
		},
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > fetchRedirects {
				return fmt.Errorf("more than %d redirects", fetchRedirects)
			}
			return nil
		},
	}
}

// fetchCause is why a request ended, without the URL that net/http puts in.
func fetchCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		return urlErr.Err
	}
	return err
}

// redactURL is a URL as it may be shown: passkeys live in the query, and in
// user information.
func redactURL(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		base, _, _ := strings.Cut(address, "?")
		return base
	}
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	u.User = nil
	u.Fragment = ""
	s := u.String()
	return strings.ReplaceAll(s, "%E2%80%A6", "…")
}
