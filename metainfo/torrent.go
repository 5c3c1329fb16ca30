package metainfo

import (
	"bytes"
	"net"
	"strconv"
	"time"

	"github.com/anacrolix/torrent/bencode"
)

// A Torrent is a .torrent file: an info dictionary and where to find peers.
type Torrent struct {
	Info *Info

	// Trackers are tiers of announce URLs, none of them empty (BEP 12): http,
	// https, and udp with a port. Others are dropped when read.
	Trackers  [][]string
	WebSeeds  []string // url-list, http and https (BEP 19)
	HTTPSeeds []string // httpseeds, http and https (BEP 17)
	Nodes     []string // DHT nodes as "host:port" (BEP 5)

	CreationDate time.Time // UTC, whole seconds; zero if not given
	Comment      string
	CreatedBy    string

	layers value // the "piece layers" of a hybrid as they stood
}

var rootKeys = []string{
	"info", "announce", "announce-list", "url-list", "httpseeds", "nodes",
	"creation date", "comment", "comment.utf-8", "created by", "piece layers",
}

const (
	keyInfo = iota
	keyAnnounce
	keyAnnounceList
	keyURLList
	keyHTTPSeeds
	keyNodes
	keyCreationDate
	keyComment
	keyCommentUTF8
	keyCreatedBy
	keyLayers
	numRootKeys
)

// Parse reads a .torrent file. What is optional and malformed in it, such as a
// tracker of a strange scheme, is left out; anything else that is malformed
// refuses it. It keeps no reference to data. The error is an *InputError.
func Parse(data []byte) (*Torrent, error) {
	t, err := parse(data)
	if err != nil {
		return nil, inputError(opTorrent, err)
	}
	return t, nil
}

func parse(data []byte) (*Torrent, error) {
	data = bytes.TrimRight(data, "\r\n") // as left by editors and shells
	if len(data) > 0 && data[0] != 'd' {
		if bytes.HasPrefix(bytes.TrimLeft(data[:min(len(data), 512)], " \t\r\n\ufeff"), []byte("<")) {
			return nil, bad("it is a web page or XML, not a torrent: check the address it came from")
		}
		return nil, bad("it is not a torrent: it does not start with a bencoded dictionary")
	}
	if err := scan(data); err != nil {
		return nil, err
	}
	var f [numRootKeys]value
	if err := value(data).fields(rootKeys, f[:]); err != nil {
		return nil, err
	}
	info, err := parseInfo(f[keyInfo], f[keyLayers])
	if err != nil {
		return nil, err
	}
	t := &Torrent{
		Info:      info,
		Trackers:  trackers(f[keyAnnounce], f[keyAnnounceList]),
		WebSeeds:  urls(f[keyURLList], webSchemes),
		HTTPSeeds: urls(f[keyHTTPSeeds], webSchemes),
		Nodes:     nodes(f[keyNodes]),
		Comment:   text(preferUTF8(f[keyComment], f[keyCommentUTF8])),
		CreatedBy: text(f[keyCreatedBy]),
	}
	// Years up to 9999, which every reader of a date can hold.
	if n, ok := decode[int64](f[keyCreationDate], 1); ok && n > 0 && n < 253402300800 {
		t.CreationDate = time.Unix(n, 0).UTC()
	}
	if info.HasV2 && f[keyLayers] != nil {
		t.layers = bytes.Clone(f[keyLayers])
	}
	return t, nil
}

// text reads an optional string.
func text(v value) string {
	s, _ := decode[string](v, 1)
	return s
}

// Marshal returns the torrent as a .torrent file. The info dictionary goes in
// as it stood, so the infohash stays; keys that Parse does not read are lost.
// Parsing the result gives an equal Torrent.
func (t *Torrent) Marshal() ([]byte, error) {
	root := map[string]any{"info": bencode.Bytes(t.Info.Raw)}
	if len(t.Trackers) > 0 && len(t.Trackers[0]) > 0 {
		root["announce"] = t.Trackers[0][0]
		if len(t.Trackers) > 1 || len(t.Trackers[0]) > 1 {
			root["announce-list"] = t.Trackers
		}
	}
	setList(root, "url-list", t.WebSeeds)
	setList(root, "httpseeds", t.HTTPSeeds)
	var pairs []any
	for _, node := range t.Nodes {
		host, port, err := net.SplitHostPort(node)
		if err != nil {
			continue
		}
		if n, err := strconv.Atoi(port); err == nil {
			pairs = append(pairs, []any{host, n})
		}
	}
	setList(root, "nodes", pairs)
	if !t.CreationDate.IsZero() {
		root["creation date"] = t.CreationDate.Unix()
	}
	setText(root, "comment", t.Comment)
	setText(root, "created by", t.CreatedBy)
	if len(t.layers) > 0 {
		root["piece layers"] = bencode.Bytes(t.layers)
	}
	return encode(root)
}

func setList[T any](root map[string]any, key string, list []T) {
	if len(list) > 0 {
		root[key] = list
	}
}

func setText(root map[string]any, key, s string) {
	if s != "" {
		root[key] = s
	}
}
