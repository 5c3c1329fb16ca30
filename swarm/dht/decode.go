package dht

import (
	"errors"

	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/torrent/bencode"
)

// methods are the queries that reach the server. "put" is not among them: it
// would have us store what strangers like (BEP 44).
var methods = map[string]bool{
	"ping": true, "find_node": true, "get_peers": true, "announce_peer": true,
	"get": true, "sample_infohashes": true,
}

const maxTransaction = 64 // bytes; honest ones have two to eight

// decode reads a message as the server will, and says whether it bears it. The
// library panics on short addresses, and on queries without arguments.
func decode(b []byte) (m krpc.Msg, ok bool) {
	if len(b) < 2 || b[0] != 'd' {
		return m, false
	}
	// The decoder passes on the panics of what it calls. No lock is held.
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	if err := bencode.Unmarshal(b, &m); err != nil {
		var rest bencode.ErrUnusedTrailingBytes
		if !errors.As(err, &rest) {
			return m, false
		}
	}
	if len(m.T) > maxTransaction {
		return m, false
	}
	switch m.Y {
	case "q":
		return m, m.A != nil && methods[m.Q]
	case "r":
		return m, m.R != nil
	case "e":
		return m, m.E != nil
	}
	return m, false
}
