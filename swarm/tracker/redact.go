package tracker

import (
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// redacted stands for each secret.
const redacted = "***"

// minSecretLen is how long a part of a path must be to pass for a passkey.
// Those in use have 16 to 64 characters.
const minSecretLen = 8

// Redact returns the URL of a tracker as it may be shown and logged: without
// user and password, without the values of its query, and without the parts of
// its path that may be a passkey. Only the words announce and announce.php and
// parts of less than eight characters are kept.
func Redact(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		return "(a URL that cannot be read)"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s://%s", printable(u.Scheme), printable(u.Host))
	for i, part := range strings.Split(u.EscapedPath(), "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		if isSecret(part) {
			part = redacted
		}
		b.WriteString(printable(part))
	}
	if u.RawQuery != "" {
		b.WriteString("?" + redacted)
	}
	return b.String()
}

func isSecret(part string) bool {
	return len(part) >= minSecretLen && part != "announce" && part != "announce.php"
}

// secrets returns the parts of u that Redact hides and that are long enough to
// be recognised in a text.
func secrets(u *url.URL) []string {
	var out []string
	add := func(s string) {
		for _, unescape := range [...]func(string) (string, error){url.PathUnescape, url.QueryUnescape} {
			if plain, err := unescape(s); err == nil && plain != s && len(plain) >= minSecretLen {
				out = append(out, plain)
			}
		}
		out = append(out, s)
	}
	for part := range strings.SplitSeq(u.EscapedPath(), "/") {
		if isSecret(part) {
			add(part)
		}
	}
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		_, value, found := strings.Cut(pair, "=")
		if !found {
			value = pair
		}
		if len(value) >= minSecretLen {
			add(value)
		}
	}
	if password, ok := u.User.Password(); ok && password != "" {
		out = append(out, password)
	}
	return out
}

// scrub returns text without the secrets of u: servers like to repeat what they
// were asked.
func scrub(text string, u *url.URL) string {
	for _, s := range secrets(u) {
		text = strings.ReplaceAll(text, s, redacted)
	}
	return text
}

// announceError is an error whose text holds no secret. What it wraps may.
type announceError struct {
	text string
	what string // the end of text: what went wrong
	err  error
}

func (e *announceError) Error() string { return e.text }
func (e *announceError) Unwrap() error { return e.err }

// wrap adds to err what was done, as in "announce to", and with which tracker.
func wrap(doing, rawURL string, err error) error {
	u, parseErr := url.Parse(rawURL)
	if parseErr != nil {
		u = &url.URL{}
	}
	text := cut(scrub(printable(err.Error()), u), 2*maxTextLen)
	return &announceError{text: fmt.Sprintf("%s %s: %s", doing, Redact(rawURL), text), what: text, err: err}
}

// maxTextLen is how much of a tracker's text is kept, in bytes.
const maxTextLen = 200

// clip returns at most maxTextLen bytes of what is printable in p, and no
// secret of u: p is what a tracker wrote, and ends up on terminals and in web
// pages.
func clip(p []byte, u *url.URL) string {
	// A megabyte need not be looked at; a secret is removed before the cut, or
	// half of it would be left.
	return cut(scrub(printable(string(p[:min(len(p), maxURLLen)])), u), maxTextLen)
}

// cut returns the start of s, at most limit bytes of whole characters.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// printable returns s without what is invalid, invisible or moves the cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}
