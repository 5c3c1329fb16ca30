package api

import (
	"context"
	"time"
)

// Daemon is what the socket gives access to. Its methods are called
// concurrently and end soon after ctx does.
type Daemon interface {
	// Status describes everything, or with a target one torrent in detail.
	Status(ctx context.Context, of Target) (*Status, error)
	Add(ctx context.Context, r AddRequest) (AddReply, error)
	Remove(ctx context.Context, of Target) (Done, error)
	Pin(ctx context.Context, of Target) (Done, error)
	Unpin(ctx context.Context, of Target) (Done, error)
	Limit(ctx context.Context, r LimitRequest) (Limits, error)
	// Verify checks stored pieces of a torrent for a moment, at low priority.
	Verify(ctx context.Context, r VerifyRequest) (VerifyReply, error)
}

// Target names a torrent or a file of it. The zero Target names everything.
type Target struct {
	// Arg is what the user wrote: a name in the mount, an infohash, a path.
	Arg string `json:"arg"`
	// Path is the same as an absolute path, symbolic links followed.
	Path string `json:"path"`
}

// AddRequest adds one torrent.
type AddRequest struct {
	Label   string `json:"label"`             // what messages call it
	Torrent []byte `json:"torrent,omitempty"` // a .torrent, or
	Magnet  string `json:"magnet,omitempty"`
	URL     string `json:"url,omitempty"` // or the address of a .torrent, which the mount fetches over its own network
}

// AddReply says under which name a torrent is shown.
type AddReply struct {
	Name string `json:"name"`
	// Resolving: it is a magnet link of that name, and shown once peers have sent
	// what it is.
	Resolving bool `json:"resolving,omitempty"`
}

// Done says what something was done to, for a line on the terminal.
type Done struct {
	Name   string `json:"name"`
	Pieces int    `json:"pieces"` // that were pinned or unpinned
	Bytes  int64  `json:"bytes"`
}

// VerifyRequest has the stored pieces of a torrent checked, from a piece on.
type VerifyRequest struct {
	Target Target `json:"target"`
	Piece  int    `json:"piece"`
}

// VerifyReply says what was found, and where to go on.
type VerifyReply struct {
	Name    string `json:"name"`
	Pieces  int    `json:"pieces"` // of the torrent
	Next    int    `json:"next"`   // piece; Pieces: that was all
	Good    int    `json:"good"`   // of those looked at for this request
	Bad     int    `json:"bad"`    // dropped
	Missing int    `json:"missing"`
	Done    int64  `json:"done"`  // bytes of the torrent before Next
	Bytes   int64  `json:"bytes"` // of the torrent
}

// LimitRequest changes limits. What is nil stays.
type LimitRequest struct {
	// Torrent is whose limits are meant; the zero Target: those of all together.
	Torrent Target `json:"torrent,omitzero"`
	// Seed is as in --seed; "default" of a torrent: as all.
	Seed      *string `json:"seed,omitempty"`
	Upload    *int64  `json:"upload,omitempty"`   // bytes a second; 0: none
	Download  *int64  `json:"download,omitempty"` // the same
	CacheSize *int64  `json:"cache_size,omitempty"`
}

// Limits are those in force.
type Limits struct {
	Upload    int64 `json:"upload"`     // bytes a second; 0: none
	Download  int64 `json:"download"`   // the same
	CacheSize int64 `json:"cache_size"` // bytes on disk; 0: memory only
	// Seed is how long torrents are seeded, as in --seed.
	Seed string `json:"seed"`
}

// Status is what "status --json" prints: its keys are an interface. Sizes are
// bytes, times seconds.
type Status struct {
	Version  string    `json:"version"`
	PID      int       `json:"pid"`
	Mount    string    `json:"mount"`
	Uptime   float64   `json:"uptime"`
	Listen   []string  `json:"listen"`
	DHT      *DHT      `json:"dht,omitempty"` // nil: switched off
	Network  Network   `json:"network"`
	Cache    Cache     `json:"cache"`
	Limits   Limits    `json:"limits"`
	Torrents []Torrent `json:"torrents"`
	Links    []Link    `json:"links"`
}

// Network is what all traffic is confined to.
type Network struct {
	Bind string  `json:"bind,omitempty"` // the interface or address of --bind
	Down *string `json:"down"`           // why nothing can be sent now; null: it can
}

// Link is a magnet link whose torrent is not known yet.
type Link struct {
	Name     string    `json:"name"`
	Infohash string    `json:"infohash"`
	Since    time.Time `json:"since"`
	Waited   float64   `json:"waited"`
	Peers    int       `json:"peers"`    // connected
	Trackers []Tracker `json:"trackers"` // as of a torrent
	NoPeers  string    `json:"no_peers,omitempty"`
	Failed   string    `json:"failed,omitempty"` // what came cannot be used; nothing more is tried
}

// DHT is how our node of the distributed hash table is connected.
type DHT struct {
	State string `json:"state"` // offline, joining or good
	Nodes int    `json:"nodes"` // in the table
	Good  int    `json:"good"`  // of them, have answered within 15 minutes
}

// Cache is how full the cache is.
type Cache struct {
	Budget     int64   `json:"budget"` // on disk; 0: memory only
	Used       int64   `json:"used"`
	Pinned     int64   `json:"pinned"` // of all pins, fetched or not
	Memory     int64   `json:"memory"` // budget
	MemoryUsed int64   `json:"memory_used"`
	Damaged    int64   `json:"damaged"`  // pieces dropped since the start: they could not be read, or were not right
	Degraded   *string `json:"degraded"` // why pieces are not kept on disk; null: they are
}

// Torrent is one torrent.
type Torrent struct {
	Name       string `json:"name"`
	Infohash   string `json:"infohash"`
	Length     int64  `json:"length"`
	Pieces     int    `json:"pieces"`
	PiecesHeld int    `json:"pieces_held"`
	// PiecesBorrowed were copied from other torrents since the start.
	PiecesBorrowed int64 `json:"pieces_borrowed"`
	// Payload since the torrent was started: all that peers sent; of it what was
	// thrown away because it was bad or not asked for; what came twice.
	BytesFetched    int64 `json:"bytes_fetched"`
	BytesWasted     int64 `json:"bytes_wasted"`
	BytesDuplicated int64 `json:"bytes_duplicated"`
	BytesUploaded   int64 `json:"bytes_uploaded"`
	// Of all runs that are remembered, this one included. Wasted is what was of no
	// use: bad, not asked for, or twice.
	TotalFetched  int64 `json:"total_fetched"`
	TotalWasted   int64 `json:"total_wasted"`
	TotalUploaded int64 `json:"total_uploaded"`

	Peers    int       `json:"peers"`
	Trackers []Tracker `json:"trackers"` // in the order in which they are tried
	// NoPeers is what trackers have to do with it that nobody is connected.
	NoPeers    string `json:"no_peers,omitempty"`
	Waiting    int    `json:"waiting"` // reads
	Reads      []Read `json:"reads"`   // those that wait longest
	Pinned     []Span `json:"pinned"`  // pieces
	PinnedHeld int    `json:"pinned_held"`
	Background string `json:"background"`
	// Seed is how long it is seeded, as in --seed. The limits are of this torrent
	// alone, in bytes a second; 0: none.
	Seed          string `json:"seed"`
	UploadLimit   int64  `json:"upload_limit"`
	DownloadLimit int64  `json:"download_limit"`
	// Import is what --import found of it.
	Import *Import `json:"import,omitempty"`
	Failed string  `json:"failed,omitempty"` // why it stands still

	// Only of a torrent that was asked for.
	PeerList []Peer    `json:"peer_list,omitzero"`
	WebSeeds []WebSeed `json:"web_seeds,omitzero"`
	File     *File     `json:"file,omitempty"` // when a file or folder of it was
}

// Tracker is one of a torrent's trackers. Its URL is without what may be a passkey.
type Tracker struct {
	URL      string `json:"url"`
	Tier     int    `json:"tier"` // from 0
	State    string `json:"state"`
	Failures int    `json:"failures"`        // in a row
	Error    string `json:"error,omitempty"` // of the last
	Seeders  *int   `json:"seeders"`         // null: it never said
	Leechers *int   `json:"leechers"`
	// Next is in how many seconds it is announced to; null: not while others work.
	Next *float64 `json:"next"`
}

// Import is what the files of others hold of a torrent.
type Import struct {
	Files     int   `json:"files"`     // used in place
	Held      int   `json:"held"`      // pieces
	Unchecked int   `json:"unchecked"` // pieces that are still to be looked at
	Hashed    int64 `json:"bytes_hashed"`
	// Troubled files are not used, or not all that is in them; Troubles are some of
	// them.
	Troubled int       `json:"troubled"`
	Troubles []Trouble `json:"troubles"`
}

// Trouble is why an imported file is not used.
type Trouble struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

// Span is a range of pieces, End not included.
type Span struct {
	First int `json:"first"`
	End   int `json:"end"`
}

// File is one file of a torrent, or all files of a folder.
type File struct {
	Path       string `json:"path"` // below the mountpoint
	Length     int64  `json:"length"`
	Pieces     int    `json:"pieces"`
	PiecesHeld int    `json:"pieces_held"`
	Pinned     bool   `json:"pinned"` // all of it
}

// Read is a read that waits, and why.
type Read struct {
	File         string    `json:"file"` // below the mountpoint
	Offset       int64     `json:"offset"`
	Piece        int       `json:"piece"`
	Since        time.Time `json:"since"`
	Waited       float64   `json:"waited"`
	Quiet        float64   `json:"quiet"`        // since something of the piece came
	Availability int       `json:"availability"` // connected peers that have the piece
	Received     int       `json:"received"`     // blocks
	Blocks       int       `json:"blocks"`
	Verifying    bool      `json:"verifying"`
	Asked        []Asked   `json:"asked"`
}

// Asked is a peer that owes blocks of a piece.
type Asked struct {
	Address string    `json:"address"`
	Blocks  int       `json:"blocks"`
	Since   time.Time `json:"since"`
	Waited  float64   `json:"waited"`
}

// WebSeed is one that the torrent names. State is "used", "waiting" (for a place, or
// until its time has come) or "refused" (for good); Why is what it failed with last,
// and RetryIn how many seconds it is left alone.
type WebSeed struct {
	URL     string  `json:"url"`
	State   string  `json:"state"`
	Why     string  `json:"why,omitempty"`
	RetryIn float64 `json:"retry_in,omitempty"`
}

// Peer is one connection. Choked and Interested are the peer's view of us as it
// told it, and ours of it: we are choked by it, we are interested in it.
type Peer struct {
	Address     string  `json:"address"`
	Client      string  `json:"client"`
	Source      string  `json:"source"`      // user, tracker, lsd, dht, pex or incoming
	Encryption  string  `json:"encryption"`  // none, handshake or rc4
	Choked      bool    `json:"choked"`      // it chokes us
	Interested  bool    `json:"interested"`  // we are interested in it
	Choking     bool    `json:"choking"`     // we choke it
	Interesting bool    `json:"interesting"` // it is interested in us
	Snubbed     bool    `json:"snubbed"`     // silent for too long
	Rate        float64 `json:"rate"`        // bytes a second while it owes us something
	Outstanding int     `json:"outstanding"` // blocks it owes us
	Pieces      int     `json:"pieces"`      // it has
	Fetched     int64   `json:"bytes_fetched"`
	Uploaded    int64   `json:"bytes_uploaded"`
}

// Error is an error of the daemon, with the exit code that it means.
type Error struct {
	Message string `json:"error"`
	Code    int    `json:"code"`
}

// Error implements error.
func (e *Error) Error() string { return e.Message }
