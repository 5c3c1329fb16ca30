package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// ErrNoDaemon means that no mount answers on the socket of a data folder.
var ErrNoDaemon = errors.New("no mount uses this data folder")

// maxReply bounds what is read of an answer, in bytes.
const maxReply = 64 << 20

// Client talks to the mount that uses a data folder.
type Client struct{ http http.Client }

// NewClient returns a client for the data folder dir. Whether anybody answers
// only a call tells: its error is ErrNoDaemon, an *Error of the daemon, or says
// what went wrong on the way.
func NewClient(dir string) *Client {
	return &Client{http.Client{
		Timeout: requestTime + 10*time.Second,
		Transport: &http.Transport{
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, dir) },
			DisableKeepAlives: true, // a command ends after its answer
		},
	}}
}

// Status asks how everything is, or a torrent in detail.
func (c *Client) Status(ctx context.Context, of Target) (*Status, error) {
	q := url.Values{}
	if of != (Target{}) {
		q.Set("arg", of.Arg)
		q.Set("path", of.Path)
	}
	return call[*Status](ctx, c, http.MethodGet, "status?"+q.Encode(), nil)
}

// Add adds a torrent for as long as the mount runs.
func (c *Client) Add(ctx context.Context, r AddRequest) (AddReply, error) {
	return call[AddReply](ctx, c, http.MethodPost, "add", r)
}

// Remove takes a torrent out of the mount.
func (c *Client) Remove(ctx context.Context, of Target) (Done, error) {
	return call[Done](ctx, c, http.MethodPost, "remove", of)
}

// Pin completes and keeps a file, a folder or a torrent.
func (c *Client) Pin(ctx context.Context, of Target) (Done, error) {
	return call[Done](ctx, c, http.MethodPost, "pin", of)
}

// Unpin ends that.
func (c *Client) Unpin(ctx context.Context, of Target) (Done, error) {
	return call[Done](ctx, c, http.MethodPost, "unpin", of)
}

// Limit changes rate limits, and returns those in force.
func (c *Client) Limit(ctx context.Context, r LimitRequest) (Limits, error) {
	return call[Limits](ctx, c, http.MethodPost, "limit", r)
}

// Verify checks stored pieces of a torrent for a moment.
func (c *Client) Verify(ctx context.Context, r VerifyRequest) (VerifyReply, error) {
	return call[VerifyReply](ctx, c, http.MethodPost, "verify", r)
}

func call[A any](ctx context.Context, c *Client, method, path string, request any) (A, error) {
	var a A
	var body io.Reader
	if request != nil {
		data, err := json.Marshal(request)
		if err != nil {
			return a, fmt.Errorf("write request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://swarmfs/v1/"+path, body)
	if err != nil {
		return a, fmt.Errorf("write request: %w", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return a, unreachable(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxReply))
	if err != nil {
		return a, fmt.Errorf("read answer of the mount: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		e := &Error{}
		if json.Unmarshal(data, e) != nil || e.Message == "" {
			return a, fmt.Errorf("read answer of the mount: status %s", res.Status)
		}
		return a, e
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return a, fmt.Errorf("read answer of the mount: %w", err)
	}
	return a, nil
}

// unreachable takes HTTP's words off an error, and knows the usual ones.
func unreachable(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTDIR) {
		return ErrNoDaemon
	}
	return fmt.Errorf("talk to the mount: %w", err)
}
