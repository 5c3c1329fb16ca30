package tracker

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
)

func TestRedactedURLsHoldNoPasskey(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"http://t.example/announce", "http://t.example/announce"},
		{"udp://t.example:6969/announce", "udp://t.example:6969/announce"},
		{"udp://t.example:6969", "udp://t.example:6969"},
		{"https://t.example/0123456789abcdef0123456789abcdef/announce", "https://t.example/***/announce"},
		{"https://t.example/announce/0123456789abcdef", "https://t.example/announce/***"},
		{"https://t.example/announce.php?passkey=0123456789abcdef&x", "https://t.example/announce.php?***"},
		{"https://user:secret@t.example/announce", "https://t.example/announce"},
		{"https://t.example/a/b.c/announce#0123456789", "https://t.example/a/b.c/announce"},
		{"https://t.example/pass%6bey0123/announce", "https://t.example/***/announce"},
		{"http://t.example/\x1b[31m", "(a URL that cannot be read)"},
		{"", "(a URL that cannot be read)"},
		{"magnet:?xt=urn:btih:0123456789", "(a URL that cannot be read)"},
	} {
		if got := Redact(c.url); got != c.want {
			t.Errorf("%q: got %q, want %q", c.url, got, c.want)
		}
	}
}

func TestErrorsHoldNoPasskeyEvenIfTheTrackerRepeatsIt(t *testing.T) {
	const secret = "s3cret-passkey"
	for _, raw := range []string{
		"https://t.example/" + secret + "/announce",
		"https://t.example/announce?passkey=" + secret,
		"https://t.example/announce?" + secret,
		"https://me:" + secret + "@t.example/announce",
		"https://t.example/announce?k=" + strings.ReplaceAll(secret, "-", "%2D"),
		"https://t.example/" + strings.ReplaceAll(secret, "-", "%2d") + "/announce",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		long := strings.Repeat("x", maxTextLen-5) + secret // half of it survives a cut
		for _, text := range []string{"unknown passkey " + secret, long} {
			if got := clip([]byte(text), u); strings.Contains(got, secret[:5]) {
				t.Errorf("%s: a tracker's text is %q", raw, got)
			}
			err := wrap("announce to", raw, fmt.Errorf("%s: %w", text, io.EOF))
			if strings.Contains(err.Error(), secret[:5]) {
				t.Errorf("%s: an error is %q", raw, err)
			}
			if !errors.Is(err, io.EOF) {
				t.Errorf("%s: the cause is lost", raw)
			}
		}
	}
}

func TestTextsOfTrackersAreCutAndCleaned(t *testing.T) {
	none := &url.URL{}
	for _, c := range []struct{ name, text, want string }{
		{"plain", "not registered", "not registered"},
		{"colours", "\x1b[31mred\x1b[0m\r\n\a", "[31mred[0m"},
		{"right-to-left override", "a\u202eb", "ab"},
		{"invalid UTF-8", "a\xff\xfeb", "ab"},
		{"accents", "né", "né"},
		{"long", strings.Repeat("é", 150), strings.Repeat("é", 100)},
		{"a cut inside of a character", "x" + strings.Repeat("é", 150), "x" + strings.Repeat("é", 99)},
		{"a megabyte", strings.Repeat("a", 1<<20), strings.Repeat("a", 200)},
	} {
		if got := clip([]byte(c.text), none); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("https://t.example/0123456789abcdef/announce?a=b#c")
	f.Add("http://[::1]:80/%2f%2e%00/announce.php?x=%zz")
	f.Fuzz(func(t *testing.T, raw string) {
		got := Redact(raw)
		if printable(got) != got {
			t.Fatalf("got unprintable %q", got)
		}
		for part := range strings.SplitSeq(got, "/") {
			if _, query, _ := strings.Cut(part, "?"); query != "" && query != redacted {
				t.Fatalf("got a query in %q", got)
			}
		}
		u, err := url.Parse(raw)
		if err == nil {
			scrub(raw, u) // must not hang nor panic
		}
	})
}
