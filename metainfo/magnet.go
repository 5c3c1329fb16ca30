package metainfo

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxMagnet and maxMagnetParams bound a magnet link, in bytes and parameters.
const (
	maxMagnet       = 64 << 10
	maxMagnetParams = 2000
)

// A Magnet is a magnet link to a torrent (BEP 9). It has at least one hash.
type Magnet struct {
	Hash  Hash // v1, if HasV1
	HasV1 bool
	Hash2 Hash2 // v2, if HasV2
	HasV2 bool

	Name     string   // dn: for display only, never for a file's name
	Length   int64    // xl: bytes; 0 if not given
	Trackers []string // tr: http, https and udp; each is a tier of its own
	WebSeeds []string // ws: http and https (BEP 19)
	Sources  []string // xs: http and https URLs of the .torrent itself
	Peers    []string // x.pe: "host:port"

	// Private asks only the trackers that are named for peers, as the torrent's own
	// word for that (BEP 27) is in the metadata and comes too late: "private=1",
	// which no BEP names, or x.private=1.
	Private bool

	// Select is which files are wanted (so, BEP 53); nil means all.
	Select FileRanges
}

// ParseMagnet reads a magnet link. Parameters that are unknown, or optional
// and malformed, are left out; hashes must be right. The error is an
// *InputError.
func ParseMagnet(s string) (*Magnet, error) {
	m, err := parseMagnet(s)
	if err != nil {
		return nil, inputError(opMagnet, err)
	}
	return m, nil
}

func parseMagnet(s string) (*Magnet, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxMagnet {
		return nil, badf("it is longer than %d KiB", maxMagnet>>10)
	}
	const scheme = "magnet:?"
	if len(s) < len(scheme) || !strings.EqualFold(s[:len(scheme)], scheme) {
		return nil, badf("%s does not start with %s", quote(s), scheme)
	}
	m := &Magnet{}
	n := 0
	for param := range strings.SplitSeq(s[len(scheme):], "&") {
		if n++; n > maxMagnetParams {
			return nil, badf("it has more than %d parameters", maxMagnetParams)
		}
		key, escaped, _ := strings.Cut(param, "=")
		val, err := url.QueryUnescape(escaped)
		key = magnetKey(key)
		if err != nil && key != "xt" {
			continue
		}
		if err != nil {
			val = escaped
		}
		if err := m.set(key, val); err != nil {
			return nil, err
		}
	}
	if !m.HasV1 && !m.HasV2 {
		return nil, bad("it names no torrent: xt=urn:btih: or xt=urn:btmh: is missing")
	}
	return m, nil
}

// magnetKey strips the number of a repeated parameter: xt.1, tr.2.
func magnetKey(key string) string {
	key = strings.ToLower(key)
	if base, n, ok := strings.Cut(key, "."); ok {
		if _, err := strconv.ParseUint(n, 10, 16); err == nil {
			return base
		}
	}
	return key
}

func (m *Magnet) set(key, val string) error {
	switch key {
	case "xt":
		return m.setTopic(val)
	case "dn":
		if m.Name == "" {
			m.Name = val
		}
	case "xl":
		if n, err := strconv.ParseInt(val, 10, 64); err == nil && n > 0 {
			m.Length = n
		}
	case "tr":
		m.Trackers = appendURL(m.Trackers, val, trackerSchemes)
	case "ws":
		m.WebSeeds = appendURL(m.WebSeeds, val, webSchemes)
	case "xs":
		m.Sources = appendURL(m.Sources, val, webSchemes)
	case "x.pe":
		if p, ok := cleanHostPort(val); ok && len(m.Peers) < maxURLs && !slices.Contains(m.Peers, p) {
			m.Peers = append(m.Peers, p)
		}
	case "private", "x.private":
		m.Private = val == "1"
	case "so":
		// A selection that cannot be read selects everything.
		if r, err := ParseFileRanges(val); err == nil && m.Select == nil {
			m.Select = r
		}
	}
	return nil
}

// setTopic reads an exact topic. Those of other networks are none of ours; two
// different torrents in one link are refused.
func (m *Magnet) setTopic(urn string) error {
	const v1, v2 = "urn:btih:", "urn:btmh:"
	switch {
	case len(urn) >= len(v1) && strings.EqualFold(urn[:len(v1)], v1):
		h, err := parseHash(urn[len(v1):])
		if err != nil {
			return err
		}
		if m.HasV1 && m.Hash != h {
			return bad("it names two different torrents")
		}
		m.Hash, m.HasV1 = h, true
	case len(urn) >= len(v2) && strings.EqualFold(urn[:len(v2)], v2):
		h, err := parseHash2(urn[len(v2):])
		if err != nil {
			return err
		}
		if m.HasV2 && m.Hash2 != h {
			return bad("it names two different torrents")
		}
		m.Hash2, m.HasV2 = h, true
	}
	return nil
}

// String returns the link in one form: hashes in lower-case hex, parameters in
// a fixed order, everything escaped. Parsing it gives an equal Magnet.
func (m *Magnet) String() string {
	var b strings.Builder
	b.WriteString("magnet:?")
	sep := ""
	param := func(key, val string) {
		b.WriteString(sep + key + "=" + val)
		sep = "&"
	}
	escaped := func(key string, vals ...string) {
		for _, v := range vals {
			// Not every client reads "+" as a space.
			param(key, strings.ReplaceAll(url.QueryEscape(v), "+", "%20"))
		}
	}
	if m.HasV1 {
		param("xt", "urn:btih:"+m.Hash.String())
	}
	if m.HasV2 {
		param("xt", "urn:btmh:1220"+m.Hash2.String())
	}
	if m.Name != "" {
		escaped("dn", m.Name)
	}
	if m.Length > 0 {
		param("xl", strconv.FormatInt(m.Length, 10))
	}
	escaped("tr", m.Trackers...)
	escaped("ws", m.WebSeeds...)
	escaped("xs", m.Sources...)
	escaped("x.pe", m.Peers...)
	if m.Private {
		param("private", "1")
	}
	if m.Select != nil {
		param("so", m.Select.String())
	}
	return b.String()
}
