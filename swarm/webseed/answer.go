package webseed

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Fault is an answer that no honest server gives: it does not know ranges, or says
// one thing and does another.
type Fault struct{ What string }

// Error implements error.
func (e *Fault) Error() string { return "web seed " + e.What }

// Refusal is an HTTP status that is none of success.
type Refusal struct {
	Status int
	// Retry is how long the server wants to be left alone; 0: it did not say.
	Retry time.Duration
}

// Error implements error.
func (e *Refusal) Error() string { return fmt.Sprintf("web seed answers with status %d", e.Status) }

// MissingFile says that the server does not have a file of the torrent, or another
// one in its place.
type MissingFile struct {
	File int // index in Info.Files
	Why  string
}

// Error implements error.
func (e *MissingFile) Error() string { return fmt.Sprintf("web seed lacks file %d: %s", e.File, e.Why) }

// MaxRetry is the longest that a server can make us wait.
const MaxRetry = time.Hour

// Accept checks the head of an answer to the request for a part, and returns how
// many bytes of the body are that part: from its beginning on, maybe fewer than
// were asked for.
func Accept(p Part, r *http.Response, now time.Time) (int64, error) {
	if r.StatusCode != http.StatusOK && r.StatusCode != http.StatusPartialContent {
		return 0, refused(p, r, now)
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return 0, &Fault{"sends another encoding than was asked for"}
	}
	switch {
	case p.File < 0: // BEP 17: the body is what was asked for, whatever the status
		if r.ContentLength >= 0 && r.ContentLength != p.Len() {
			return 0, &Fault{"sends another number of bytes than was asked for"}
		}
		return p.Len(), nil
	case r.StatusCode == http.StatusPartialContent:
		return acceptRange(p, r)
	case r.ContentLength >= 0 && r.ContentLength != p.Size:
		return 0, &MissingFile{p.File, fmt.Sprintf("it has %d bytes there, not %d", r.ContentLength, p.Size)}
	case p.From > 0:
		return 0, &Fault{"sends a file from its beginning when asked for a later part"}
	}
	return p.Len(), nil
}

func acceptRange(p Part, r *http.Response) (int64, error) {
	first, last, size, ok := parseContentRange(r.Header.Get("Content-Range"))
	switch {
	case !ok:
		return 0, &Fault{"does not say which range it sends"}
	case size >= 0 && size != p.Size:
		return 0, &MissingFile{p.File, fmt.Sprintf("it has %d bytes there, not %d", size, p.Size)}
	case first != p.From || last >= p.To:
		return 0, &Fault{"sends another range than was asked for"}
	case r.ContentLength >= 0 && r.ContentLength != last-first+1:
		return 0, &Fault{"sends another number of bytes than its range has"}
	}
	return last - first + 1, nil
}

// parseContentRange reads "bytes 0-99/1000" (RFC 9110 section 14.4); a size of "*"
// is -1.
func parseContentRange(s string) (first, last, size int64, ok bool) {
	unit, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
	span, total, ok1 := strings.Cut(strings.TrimSpace(rest), "/")
	from, to, ok2 := strings.Cut(span, "-")
	if !strings.EqualFold(unit, "bytes") || !ok1 || !ok2 {
		return 0, 0, 0, false
	}
	first, err1 := parseNumber(from)
	last, err2 := parseNumber(to)
	size = -1
	if total != "*" {
		var err error
		if size, err = parseNumber(total); err != nil || last >= size {
			return 0, 0, 0, false
		}
	}
	return first, last, size, err1 == nil && err2 == nil && first <= last
}

// parseNumber takes digits alone.
func parseNumber(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

func refused(p Part, r *http.Response, now time.Time) error {
	switch r.StatusCode {
	case http.StatusNotFound, http.StatusGone, http.StatusForbidden:
		if p.File >= 0 {
			return &MissingFile{p.File, fmt.Sprintf("status %d", r.StatusCode)}
		}
	case http.StatusRequestedRangeNotSatisfiable:
		if p.File >= 0 {
			return &MissingFile{p.File, "it is shorter there"}
		}
	}
	retry := parseRetry(r.Header.Get("Retry-After"), now)
	if retry == 0 && p.File < 0 && r.StatusCode == http.StatusServiceUnavailable {
		// BEP 17: the body is the number of seconds to wait.
		body, _ := io.ReadAll(io.LimitReader(r.Body, 32))
		retry = parseRetry(string(body), now)
	}
	return &Refusal{Status: r.StatusCode, Retry: retry}
}

// parseRetry reads Retry-After (RFC 9110 section 10.2.3): seconds or a date.
func parseRetry(s string, now time.Time) time.Duration {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0
	}
	if strings.Trim(s, "0123456789") == "" {
		n, err := parseNumber(s)
		if err != nil || n > int64(MaxRetry/time.Second) {
			return MaxRetry
		}
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), MaxRetry)
}
