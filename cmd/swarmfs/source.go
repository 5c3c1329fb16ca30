package main

import (
	"regexp"
	"strings"
)

// sourceKind is what a SOURCE argument is, judged by its text alone.
type sourceKind int

const (
	sourcePath   sourceKind = iota // a .torrent file, or a folder of them
	sourceStdin                    // "-"
	sourceURL                      // http or https
	sourceMagnet                   // a magnet link
	sourceHash                     // a bare infohash
	sourceScheme                   // a URL of a scheme that is not supported
)

var (
	// A v1 infohash in hexadecimal or base32, or a v2 one in hexadecimal.
	hashForm   = regexp.MustCompile(`^(?:[0-9a-fA-F]{40}|[2-7a-zA-Z]{32}|[0-9a-fA-F]{64})$`)
	schemeForm = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*://`)
)

// classify tells what kind of source s is. A file whose name looks like
// something else can be given as ./NAME.
func classify(s string) sourceKind {
	switch {
	case s == "-":
		return sourceStdin
	case hasPrefixFold(s, "magnet:"):
		return sourceMagnet
	case hasPrefixFold(s, "http://"), hasPrefixFold(s, "https://"):
		return sourceURL
	case hashForm.MatchString(s):
		return sourceHash
	case schemeForm.MatchString(s):
		return sourceScheme
	default:
		return sourcePath
	}
}

// hashMagnet is the magnet link of a bare infohash.
func hashMagnet(hash string) string {
	if len(hash) == 64 {
		return "magnet:?xt=urn:btmh:1220" + hash // a SHA-256 multihash
	}
	return "magnet:?xt=urn:btih:" + hash
}

// sourceLabel is how a source is called in messages: short, and without the
// secrets a URL or a magnet link may hold.
func sourceLabel(s string) string {
	switch classify(s) {
	case sourceStdin:
		return "standard input"
	case sourceURL:
		return redactURL(s)
	case sourceMagnet:
		if m := magnetHash.FindStringSubmatch(s); m != nil {
			return "magnet link " + m[1]
		}
		return "magnet link"
	default:
		return s
	}
}

var magnetHash = regexp.MustCompile(`(?i)xt(?:\.\d+)?=urn:bt[im]h:([0-9a-z]{32,68})(?:&|$)`)

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
