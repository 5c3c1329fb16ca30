package main

import (
	"strings"
	"testing"
)

func TestSourcesAreToldApartByTheirText(t *testing.T) {
	const hex = "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"
	for in, want := range map[string]sourceKind{
		"-":                                sourceStdin,
		"movie.torrent":                    sourcePath,
		"./" + hex:                         sourcePath,
		"dir/":                             sourcePath,
		"magnet":                           sourcePath,
		"http:/one-slash":                  sourcePath,
		hex:                                sourceHash,
		strings.ToUpper(hex):               sourceHash,
		hex[:39]:                           sourcePath,
		"mfrggzdfmztwq2lknnwg23tpobyxe43u": sourceHash,
		"0frggzdfmztwq2lknnwg23tpobyxe43u": sourcePath, // base32 has no 0
		strings.Repeat("ab", 32):           sourceHash,
		"magnet:?xt=urn:btih:" + hex:       sourceMagnet,
		"MAGNET:?":                         sourceMagnet,
		"http://example.org/a.torrent":     sourceURL,
		"HTTPS://example.org/a.torrent":    sourceURL,
		"file:///etc/passwd":               sourceScheme,
		"ftp://example.org/a.torrent":      sourceScheme,
		"magnets://x":                      sourceScheme,
	} {
		if got := classify(in); got != want {
			t.Errorf("classify(%q): got %d, want %d", in, got, want)
		}
	}
}

func TestLabelsHideSecrets(t *testing.T) {
	for in, want := range map[string]string{
		"https://user:pw@t.example/dl/1.torrent?passkey=SECRET":                                   "https://t.example/dl/1.torrent?…",
		"http://%zz/?passkey=SECRET":                                                              "http://%zz/",
		"magnet:?xt=urn:btih:aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d&tr=http%3A%2F%2Ft%2FSECRET": "magnet link aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d",
		"magnet:?dn=SECRET": "magnet link",
		"-":                 "standard input",
		"a.torrent":         "a.torrent",
	} {
		if got := sourceLabel(in); got != want {
			t.Errorf("sourceLabel(%q): got %q, want %q", in, got, want)
		}
	}
}

func FuzzClassify(f *testing.F) {
	for _, s := range []string{"-", "a.torrent", "magnet:?xt=urn:btih:x", "http://h/?k=SECRET", "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		kind := classify(s)
		label := sourceLabel(s)
		if kind == sourceURL {
			if _, query, ok := strings.Cut(s, "?"); ok && len(query) > 8 && strings.HasSuffix(label, query) {
				t.Fatalf("label %q shows the query of %q", label, s)
			}
		}
		if kind == sourceHash && classify(hashMagnet(s)) != sourceMagnet {
			t.Fatalf("hashMagnet(%q) is no magnet link", s)
		}
	})
}
