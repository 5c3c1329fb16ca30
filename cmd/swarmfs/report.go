package main

import (
	"context"
	"os"
	"strings"
	"time"

	"swarmfs/cache"
	"swarmfs/cmd/swarmfs/internal/api"
	"swarmfs/metainfo"
	"swarmfs/swarm"
	"swarmfs/swarm/engine"
)

// Status implements api.Daemon. A torrent that does not answer in time is
// described by its counters.
func (c *controller) Status(ctx context.Context, of api.Target) (*api.Status, error) {
	if dir, inside := c.below(of.Path); of == (api.Target{}) || inside && dir == "" {
		return c.report(ctx, c.torrents()), nil
	}
	p, err := c.find("status", of)
	if err != nil {
		return nil, err
	}
	st := c.report(ctx, nil)
	t := p.torrent.report(ctx, true)
	if tree := p.torrent.torrent.Info.Tree(); p.node != metainfo.Root || !tree.IsDir(p.node) {
		t.File = p.fileReport()
	}
	st.Torrents = append(st.Torrents, t)
	return st, nil
}

// answerTime is how long all torrents together may take to say how they are.
const answerTime = 2 * time.Second

// report describes everything.
func (m *mounter) report(ctx context.Context, torrents []*shownTorrent) *api.Status {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	stats := m.store.Stats()
	st := &api.Status{
		Version: version(), PID: os.Getpid(), Mount: m.dir, Uptime: seconds(time.Since(m.started)), Listen: []string{},
		Cache: api.Cache{
			Budget: stats.Budget, Used: max(stats.DiskLive, 0), Pinned: stats.Pinned,
			Memory: stats.Memory, MemoryUsed: stats.MemoryUsed, Damaged: stats.Lost,
		},
		Network:  m.networkReport(),
		Limits:   m.limits(),
		Torrents: make([]api.Torrent, 0, len(torrents)),
		Links:    m.linksReport(),
	}
	if err := m.store.Degraded(); err != nil {
		st.Cache.Degraded = new(err.Error())
	}
	if d, on := m.session.DHT(); on {
		st.DHT = &api.DHT{State: d.State.String(), Nodes: d.Nodes, Good: d.Good}
	}
	for _, a := range m.session.Addrs() {
		st.Listen = append(st.Listen, a.String())
	}
	for _, t := range torrents {
		st.Torrents = append(st.Torrents, t.report(ctx, false))
	}
	return st
}

// report describes one torrent.
func (t *shownTorrent) report(ctx context.Context, connections bool) api.Torrent {
	now := time.Now()
	s, err := t.run.Status(ctx, connections)
	info := t.torrent.Info
	r := api.Torrent{
		Name: t.name, Infohash: info.Hash.String(), Length: info.Length,
		Pieces: s.Pieces, PiecesHeld: s.Held, PiecesBorrowed: s.Borrowed, Peers: s.Peers,
		BytesFetched: s.Downloaded + s.Duplicate + s.Unasked, BytesWasted: s.Failed + s.Discarded + s.Unasked,
		BytesDuplicated: s.Duplicate, BytesUploaded: s.Uploaded,
		Waiting: s.Waiting, Reads: []api.Read{}, Pinned: pinSpans(t.run.Pinned()), Background: s.Background.String(),
		Seed: t.run.Seeding().String(),
	}
	r.Trackers, r.NoPeers = trackersReport(now, s.Trackers, s.Peers)
	own := t.run.Limits()
	r.UploadLimit, r.DownloadLimit = own.Upload, own.Download
	total := t.remembered()
	r.TotalFetched, r.TotalWasted, r.TotalUploaded = total.Downloaded, total.Wasted, total.Uploaded
	r.PinnedHeld = t.pinnedHeld(r.Pinned)
	r.Import = t.importReport()
	switch {
	case s.Failure != nil:
		r.Failed = s.Failure.Error()
	case err != nil:
		r.Failed = "it does not answer"
	}
	for _, read := range s.Reads {
		r.Reads = append(r.Reads, t.readReport(now, read))
	}
	if connections {
		r.PeerList = make([]api.Peer, 0, len(s.Connections))
		for _, p := range s.Connections {
			r.PeerList = append(r.PeerList, peerReport(p))
		}
		for _, w := range s.WebSeeds {
			r.WebSeeds = append(r.WebSeeds, webSeedReport(now, w))
		}
	}
	return r
}

// importReport is nil without --import.
func (t *shownTorrent) importReport() *api.Import {
	if t.imported == nil {
		return nil
	}
	st := t.imported.Status()
	r := &api.Import{Files: st.Files, Held: st.Held, Unchecked: st.Undecided, Hashed: st.Hashed, Troubled: st.Troubled, Troubles: []api.Trouble{}}
	for _, f := range st.Troubles {
		r.Troubles = append(r.Troubles, api.Trouble{Path: f.Path, Why: f.Why.Error()})
	}
	return r
}

func webSeedReport(now time.Time, w swarm.WebSeedStatus) api.WebSeed {
	r := api.WebSeed{URL: w.URL, State: "waiting", Why: w.Why}
	switch {
	case w.Joined:
		r.State = "used"
	case w.Refused:
		r.State = "refused"
	default:
		r.RetryIn = max(0, seconds(w.Next.Sub(now)))
	}
	return r
}

func (t *shownTorrent) readReport(now time.Time, s swarm.ReadStatus) api.Read {
	r := api.Read{
		File: t.filePath(s.File), Offset: s.Offset, Piece: s.Piece,
		Since: s.Since.UTC(), Waited: seconds(now.Sub(s.Since)), Quiet: seconds(now.Sub(s.Progress)),
		Availability: s.Availability, Received: s.Received, Blocks: s.Blocks, Verifying: s.Verifying, Asked: []api.Asked{},
	}
	for _, a := range s.Asked {
		r.Asked = append(r.Asked, api.Asked{Address: a.Name(), Blocks: a.Blocks, Since: a.Since.UTC(), Waited: seconds(now.Sub(a.Since))})
	}
	return r
}

func peerReport(p swarm.PeerStatus) api.Peer {
	client := p.Client
	if p.URL != "" {
		client = "web seed"
	}
	return api.Peer{
		Address: p.Name(), Client: client, Source: p.Source, Encryption: p.Protection.String(),
		Choked: p.Choked, Interested: p.Interested, Choking: p.Choking, Interesting: p.Interesting, Snubbed: p.Snubbed,
		Rate: p.Rate, Outstanding: p.Outstanding, Pieces: p.Pieces, Fetched: p.Received, Uploaded: p.Sent,
	}
}

// fileReport describes a file of the torrent, or the files of a folder.
func (p place) fileReport() *api.File {
	t := p.torrent
	pinned := make(map[int]bool)
	for _, i := range swarm.Expand(t.run.PinnedFiles(), len(t.torrent.Info.Files)) {
		pinned[i] = true
	}
	r := &api.File{Path: t.nodePath(p.node), Pinned: true}
	for _, i := range p.files() {
		r.Pinned = r.Pinned && pinned[i]
	}
	held := engine.Bitmap(t.run.Pieces())
	pieces, length := p.extent()
	r.Pieces, r.Length = len(pieces), length
	for piece := range pieces {
		if held.Has(piece) {
			r.PiecesHeld++
		}
	}
	return r
}

// pinnedHeld counts the pieces in spans that are held.
func (t *shownTorrent) pinnedHeld(spans []api.Span) int {
	if len(spans) == 0 {
		return 0
	}
	n, held := 0, engine.Bitmap(t.run.Pieces())
	for _, s := range spans {
		for piece := s.First; piece < s.End; piece++ {
			if held.Has(piece) {
				n++
			}
		}
	}
	return n
}

func pinSpans(spans []cache.Span) []api.Span {
	out := make([]api.Span, len(spans))
	for i, s := range spans {
		out[i] = api.Span{First: s.First, End: s.End}
	}
	return out
}

// nodePath is where an entry of the tree is below the mountpoint.
func (t *shownTorrent) nodePath(n metainfo.Node) string {
	if n == metainfo.Root {
		return t.name
	}
	return t.name + "/" + t.torrent.Info.Tree().Path(n)
}

// filePath is where a file is below the mountpoint. Its name in the tree may
// differ; finding that takes a search, which is not worth it here.
func (t *shownTorrent) filePath(file int) string {
	return strings.Join(append([]string{t.name}, t.torrent.Info.Files[file].Path...), "/")
}

// seconds cuts to milliseconds: more digits only look precise.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }
