package tracker

import (
	"context"
	"encoding/binary"
	"errors"
	"net/url"
	"strings"
)

// Scrape is how many peers a tracker knows of a torrent; -1 for what it does not
// say.
type Scrape struct{ Seeders, Leechers, Completed int }

// ErrNoScrape is returned by Scrape for a tracker whose URL has no place for it.
var ErrNoScrape = errors.New("tracker cannot be scraped")

// Scrape asks the tracker at rawURL, which is the URL of announces, how many peers
// it knows of a torrent, without joining them: BEP 48 over HTTP, BEP 15 over UDP.
// Time limits and errors are those of Announce.
func (c *Client) Scrape(ctx context.Context, rawURL string, infoHash [20]byte) (Scrape, error) {
	return request(ctx, c, "scrape", rawURL, func(ctx context.Context, u *url.URL) (Scrape, error) {
		if u.Scheme == "udp" {
			return c.scrapeUDP(ctx, u, infoHash)
		}
		return c.scrapeHTTP(ctx, u, infoHash)
	})
}

func (c *Client) scrapeHTTP(ctx context.Context, u *url.URL, infoHash [20]byte) (Scrape, error) {
	target, ok := scrapeURL(u, infoHash)
	if !ok {
		return Scrape{}, ErrNoScrape
	}
	body, status, err := c.get(ctx, u, target)
	if err != nil {
		return Scrape{}, err
	}
	s, err := parseScrape(body, u, infoHash)
	return s, statusError(status, err)
}

// scrapeURL returns where the torrent is scraped: the last part of the path has to
// begin with announce (BEP 48). A passkey behind it stays.
func scrapeURL(u *url.URL, infoHash [20]byte) (*url.URL, bool) {
	path := u.EscapedPath()
	at := strings.LastIndexByte(path, '/') + 1
	rest, ok := strings.CutPrefix(path[at:], "announce")
	if !ok {
		return nil, false
	}
	out := *u
	out.Fragment, out.RawFragment = "", ""
	out.RawPath = path[:at] + "scrape" + rest
	var err error
	if out.Path, err = url.PathUnescape(out.RawPath); err != nil {
		return nil, false
	}
	var b strings.Builder
	if u.RawQuery != "" {
		b.WriteString(strings.ReplaceAll(u.RawQuery, " ", "%20"))
		b.WriteByte('&')
	}
	b.WriteString("info_hash=")
	escape(&b, infoHash[:])
	out.RawQuery = b.String()
	return &out, true
}

// parseScrape reads an HTTP tracker's answer: one torrent of perhaps many.
func parseScrape(body []byte, u *url.URL, infoHash [20]byte) (Scrape, error) {
	d, err := parseDict(body)
	if err != nil {
		return Scrape{}, err
	}
	for _, key := range [...]string{"failure reason", "failure_reason"} { // the second is BEP 48's
		if reason, ok := d.bytes(key); ok {
			return Scrape{}, parseFailure(d, clip(reason, u))
		}
	}
	files, _, err := answerBounds.Dict(d["files"])
	if err != nil {
		return Scrape{}, errNotDict
	}
	file, _, err := answerBounds.Dict(files[string(infoHash[:])])
	if err != nil {
		return Scrape{}, &FailureError{Reason: "torrent is not known"}
	}
	one := dict(file)
	return Scrape{Seeders: one.count("complete"), Leechers: one.count("incomplete"), Completed: one.count("downloaded")}, nil
}

func (c *Client) scrapeUDP(ctx context.Context, u *url.URL, infoHash [20]byte) (Scrape, error) {
	ctx, cancel := c.udpContext(ctx)
	defer cancel()
	addrs, err := c.resolveUDP(ctx, u)
	if err != nil {
		return Scrape{}, err
	}
	p, _, err := c.udp.request(ctx, addrs, u, actionScrape, func(id uint64, transaction uint32) []byte {
		return appendScrape(nil, id, transaction, infoHash)
	})
	if err != nil {
		return Scrape{}, err
	}
	return parseUDPScrape(p)
}

// appendScrape appends a scrape request for one torrent (BEP 15).
func appendScrape(dst []byte, connection uint64, transaction uint32, infoHash [20]byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, connection)
	dst = binary.BigEndian.AppendUint32(dst, actionScrape)
	dst = binary.BigEndian.AppendUint32(dst, transaction)
	return append(dst, infoHash[:]...)
}

// parseUDPScrape reads the answer to a scrape request for one torrent.
func parseUDPScrape(p []byte) (Scrape, error) {
	if len(p) < udpScrapeLen {
		return Scrape{}, errShortPacket
	}
	number := func(at int) int { return max(-1, int(int32(binary.BigEndian.Uint32(p[at:])))) }
	return Scrape{Seeders: number(8), Completed: number(12), Leechers: number(16)}, nil
}
