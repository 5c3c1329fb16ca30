package swarm

import (
	"net/netip"
	"sync"

	"swarmfs/swarm/engine"
	"swarmfs/swarm/wire"
)

// event is what can enter a run's loop. The order of one sender is kept, so a
// peer's last block is seen before its departure.
type event interface{}

type (
	// joined: the handshakes with a peer are done.
	joined struct{ p *peer }
	// left: a peer's goroutines have ended.
	left struct {
		p   *peer
		err error
	}
	// webLeft: a web seed's goroutine has ended.
	webLeft struct {
		p   *webPeer
		err error
	}
	// received: a peer sent a message that is neither piece nor extended. Data
	// is the event's own copy.
	received struct {
		id engine.PeerID
		m  wire.Message
	}
	// extended: a peer's extended handshake.
	extended struct {
		id engine.PeerID
		h  wire.ExtHandshake
	}
	// dontHave: a peer let a piece go (BEP 54).
	dontHave struct {
		id    engine.PeerID
		piece uint32
	}
	// arrived: blocks are in their drafts. Pooled.
	arrived struct {
		id  engine.PeerID
		got []engine.Got
	}
	// uploaded: a writer is done with blocks of Upload actions.
	uploaded struct {
		id            engine.PeerID
		blocks, bytes int
		unreadable    []wire.Message
	}
	// verified: a draft was hashed, and committed when ok.
	verified struct {
		piece   int
		ok      bool
		digests []engine.BlockDigest
		err     error // the cache could not take it
	}
	// acquired: the volume holds a piece that no draft of ours led to.
	acquired struct{ piece int }
	// evicted: the cache let a piece go.
	evicted struct{ piece int }
	// recounted: the volume holds other pieces than it did, more than one.
	recounted struct{}
	// room: the cache has memory for drafts again.
	room struct{}
	// wants: a read waits for its first missing piece.
	wants struct{ w *waiter }
	// gone: a read waits no more.
	gone struct{ id engine.ReaderID }
	// closed: a reader was closed.
	closed struct{ r *Reader }
	// stalled: a read gave up on its piece.
	stalled struct{ w *waiter }
	// looks: a reader moved on; its newest window is in the reader.
	looks struct{ r *Reader }
	// reshared: what may be uploaded has changed.
	reshared struct{}
	// repinned: other pieces are pinned now.
	repinned struct{}
	// inspect: somebody asks how the torrent is. There is room for the answer.
	inspect struct {
		connections bool
		reply       chan<- Status
	}
	// found: addresses of peers, from a tracker or from the user.
	found struct {
		addrs  []netip.AddrPort
		source source
	}
	// dialled: an attempt to connect has ended, well when p is set.
	dialled struct {
		addr netip.AddrPort
		p    *peer
		err  error
	}
)

var arrivals = sync.Pool{New: func() any { return &arrived{got: make([]engine.Got, 0, 32)} }}
