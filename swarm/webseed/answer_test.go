package webseed

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func answer(status int, length int64, body string, header ...string) *http.Response {
	r := &http.Response{StatusCode: status, ContentLength: length, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func TestAnswersThatAreTaken(t *testing.T) {
	part := Part{URL: "http://h/x", From: 100, To: 200, Size: 1000}
	first := Part{URL: "http://h/x", From: 0, To: 200, Size: 1000}
	whole := Part{URL: "http://h/x", From: 0, To: 1000, Size: 1000}
	script := Part{URL: "http://h/x?", From: 100, To: 200, Size: 1000, File: -1}
	for _, tc := range []struct {
		name string
		p    Part
		r    *http.Response
		want int64
	}{
		{"what was asked for", part, answer(206, 100, "", "Content-Range", "bytes 100-199/1000"), 100},
		{"without its length", part, answer(206, -1, "", "Content-Range", "bytes 100-199/*"), 100},
		{"odd spelling", part, answer(206, 100, "", "Content-Range", " Bytes  100-199/1000 "), 100},
		{"less of it", part, answer(206, 10, "", "Content-Range", "bytes 100-109/1000"), 10},
		{"a whole file, of which the beginning was asked for", first, answer(200, 1000, ""), 200},
		{"a whole file", whole, answer(200, -1, ""), 1000},
		{"identity", part, answer(206, 100, "", "Content-Range", "bytes 100-199/1000", "Content-Encoding", "identity"), 100},
		{"a script's", script, answer(200, 100, ""), 100},
		{"a script's, partial", script, answer(206, -1, ""), 100},
	} {
		if n, err := Accept(tc.p, tc.r, time.Time{}); err != nil || n != tc.want {
			t.Errorf("%s: got %d, %v, want %d", tc.name, n, err, tc.want)
		}
	}
}

func TestAnswersThatAreNot(t *testing.T) {
	part := Part{URL: "http://h/x", From: 100, To: 200, Size: 1000}
	script := Part{URL: "http://h/x?", From: 100, To: 200, Size: 1000, File: -1}
	ranged := func(length int64, s string) *http.Response { return answer(206, length, "", "Content-Range", s) }
	type kind int
	const (
		fault kind = iota
		missing
		refusal
	)
	for _, tc := range []struct {
		name string
		p    Part
		r    *http.Response
		want kind
	}{
		{"200 for a later part", part, answer(200, 1000, ""), fault},
		{"200 without a length", part, answer(200, -1, ""), fault},
		{"200 of another file", part, answer(200, 999, ""), missing},
		{"no Content-Range", part, answer(206, 100, ""), fault},
		{"another range", part, ranged(100, "bytes 0-99/1000"), fault},
		{"an earlier range", part, ranged(101, "bytes 99-199/1000"), fault},
		{"a longer range", part, ranged(101, "bytes 100-200/1000"), fault},
		{"another unit", part, ranged(100, "items 100-199/1000"), fault},
		{"backwards", part, ranged(100, "bytes 199-100/1000"), fault},
		{"beyond the end", part, ranged(100, "bytes 100-199/150"), fault},
		{"not a number", part, ranged(100, "bytes 100-1x9/1000"), fault},
		{"signed", part, ranged(100, "bytes +100-199/1000"), fault},
		{"huge", part, ranged(100, "bytes 100-99999999999999999999/1000"), fault},
		{"unsatisfied", part, ranged(100, "bytes */1000"), fault},
		{"a longer body", part, ranged(500, "bytes 100-199/1000"), fault},
		{"a shorter body", part, ranged(50, "bytes 100-199/1000"), fault},
		{"compressed", part, answer(206, 100, "", "Content-Range", "bytes 100-199/1000", "Content-Encoding", "gzip"), fault},
		{"a range of another file", part, ranged(100, "bytes 100-199/2000"), missing},
		{"404", part, answer(404, 0, ""), missing},
		{"410", part, answer(410, 0, ""), missing},
		{"403", part, answer(403, 0, ""), missing},
		{"416", part, answer(416, 0, "", "Content-Range", "bytes */50"), missing},
		{"204", part, answer(204, 0, ""), refusal},
		{"302 that leads nowhere", part, answer(302, 0, ""), refusal},
		{"500", part, answer(500, 0, ""), refusal},
		{"401", part, answer(401, 0, ""), refusal},
		{"a script's of another length", script, answer(200, 1000, ""), fault},
		{"a script's 404", script, answer(404, 0, ""), refusal},
	} {
		n, err := Accept(tc.p, tc.r, time.Time{})
		var f *Fault
		var m *MissingFile
		var r *Refusal
		ok := [...]bool{fault: errors.As(err, &f), missing: errors.As(err, &m), refusal: errors.As(err, &r)}[tc.want]
		if !ok || n != 0 {
			t.Errorf("%s: got %d bytes, %v", tc.name, n, err)
		}
	}
}

func TestRetryAfterIsBounded(t *testing.T) {
	now := time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		header string
		want   time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"120", 2 * time.Minute},
		{" 7 ", 7 * time.Second},
		{"1000000000", time.Hour},
		{"99999999999999999999999", time.Hour},
		{"9223372036", time.Hour}, // times a second it would wrap
		{"-5", 0},
		{"soon", 0},
		{"Sat, 28 Nov 2026 03:01:00 GMT", time.Minute},
		{"Sat, 28 Nov 2026 02:00:00 GMT", 0},
		{"Fri, 31 Dec 9999 23:59:59 GMT", time.Hour},
	} {
		for _, status := range []int{429, 503} {
			_, err := Accept(Part{To: 1, Size: 1}, answer(status, 0, "9", "Retry-After", tc.header), now)
			var r *Refusal
			if !errors.As(err, &r) || r.Status != status || r.Retry != tc.want {
				t.Errorf("%d with Retry-After %q: got %v, want %v", status, tc.header, err, tc.want)
			}
		}
	}
	// BEP 17 has the seconds in the body.
	for body, want := range map[string]time.Duration{"30": 30 * time.Second, "1e9": 0, "": 0, strings.Repeat("9", 1<<20): time.Hour} {
		_, err := Accept(Part{To: 1, Size: 1, File: -1}, answer(503, -1, body), now)
		var r *Refusal
		if !errors.As(err, &r) || r.Retry != want {
			t.Errorf("503 with a body of %d bytes: got %+v, want %v", len(body), r, want)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-99/1000")
	f.Add("bytes */5")
	f.Fuzz(func(t *testing.T, s string) {
		first, last, size, ok := parseContentRange(s)
		if ok && (first < 0 || last < first || size != -1 && size <= last) {
			t.Fatalf("%q: %d-%d/%d", s, first, last, size)
		}
	})
}
