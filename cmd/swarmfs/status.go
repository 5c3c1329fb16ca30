package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"swarmfs/cmd/swarmfs/internal/api"
	"swarmfs/fs"
)

// makeStatusFiles makes the files of .swarmfs: the version, the state of
// everything, and of each torrent. They are what "swarmfs status" knows.
func (m *mounter) makeStatusFiles() {
	torrents := m.torrents()
	files := append(make([]fs.VirtualFile, 0, 2+len(torrents)),
		fs.VirtualFile{Name: "version", Content: func() []byte { return []byte(version() + "\n") }},
		fs.VirtualFile{Name: "status", Content: m.statusText},
	)
	for _, t := range torrents {
		files = append(files, fs.VirtualFile{
			Name:    "torrents/" + t.torrent.Info.Hash.String() + "/status",
			Content: t.statusText,
		})
	}
	m.mu.Lock()
	m.status = files
	m.mu.Unlock()
}

func (m *mounter) statusFiles() []fs.VirtualFile {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status
}

// fileTime is how long a status file may take to be opened.
const fileTime = 500 * time.Millisecond

// statusText is one "key: value" a line, as is that of each torrent.
func (m *mounter) statusText() []byte {
	ctx, cancel := context.WithTimeout(context.Background(), fileTime)
	defer cancel()
	st := m.report(ctx, m.torrents())
	var b strings.Builder
	fmt.Fprintf(&b, "version: %s\n", st.Version)
	fmt.Fprintf(&b, "torrents: %d\n", len(st.Torrents))
	for _, a := range st.Listen {
		fmt.Fprintf(&b, "listening: %s\n", a)
	}
	if st.DHT != nil {
		fmt.Fprintf(&b, "dht: %s\n", dhtText(st.DHT))
	}
	if text := networkText(&st.Network); text != "" {
		fmt.Fprintf(&b, "network: %s\n", text)
	}
	fmt.Fprintf(&b, "cache on disk: %s\n", diskText(&st.Cache))
	fmt.Fprintf(&b, "cache in memory: %s of %s\n", bytesText(st.Cache.MemoryUsed), bytesText(st.Cache.Memory))
	fmt.Fprintf(&b, "limits: %s\n", ratesText(st.Limits))
	for _, t := range st.Torrents {
		fmt.Fprintf(&b, "torrent: %s %s %s\n", t.Infohash, heldText(t.PiecesHeld, t.Pieces), printable(t.Name))
	}
	for i := range st.Links {
		fmt.Fprintf(&b, "link: %s %s\n", st.Links[i].Infohash, linkText(&st.Links[i]))
	}
	return []byte(b.String())
}

func (t *shownTorrent) statusText() []byte {
	ctx, cancel := context.WithTimeout(context.Background(), fileTime)
	defer cancel()
	r := t.report(ctx, false)
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\n", printable(r.Name))
	fmt.Fprintf(&b, "infohash: %s\n", r.Infohash)
	fmt.Fprintf(&b, "size: %d\n", r.Length)
	fmt.Fprintf(&b, "pieces: %d of %d\n", r.PiecesHeld, r.Pieces)
	fmt.Fprintf(&b, "pieces copied from other torrents: %d\n", r.PiecesBorrowed)
	fmt.Fprintf(&b, "peers: %d\n", r.Peers)
	for i := range r.Trackers {
		fmt.Fprintf(&b, "tracker: %s\n", trackerText(&r.Trackers[i]))
	}
	fmt.Fprintf(&b, "fetched: %d\n", r.BytesFetched)
	fmt.Fprintf(&b, "wasted: %d\n", r.BytesWasted)
	fmt.Fprintf(&b, "duplicated: %d\n", r.BytesDuplicated)
	fmt.Fprintf(&b, "uploaded: %d\n", r.BytesUploaded)
	fmt.Fprintf(&b, "fetched in all runs: %d\n", r.TotalFetched)
	fmt.Fprintf(&b, "wasted in all runs: %d\n", r.TotalWasted)
	fmt.Fprintf(&b, "uploaded in all runs: %d\n", r.TotalUploaded)
	fmt.Fprintf(&b, "pinned pieces: %d of %d\n", r.PinnedHeld, pinnedPieces(&r))
	if r.Import != nil {
		fmt.Fprintf(&b, "imported: %s\n", importText(r.Import))
		for _, f := range r.Import.Troubles {
			fmt.Fprintf(&b, "not imported: %s: %s\n", printable(f.Path), printable(f.Why))
		}
	}
	fmt.Fprintf(&b, "waiting reads: %d\n", r.Waiting)
	for i := range r.Reads {
		fmt.Fprintf(&b, "waiting: %s\n", readText(&r.Reads[i], &r))
	}
	return []byte(b.String())
}

// diskText says how full the cache on disk is, or why there is none.
func diskText(c *api.Cache) string {
	switch {
	case c.Degraded != nil:
		return "none: " + printable(*c.Degraded)
	case c.Budget == 0:
		return "none: memory only"
	}
	text := fmt.Sprintf("%s of %s", bytesText(c.Used), bytesText(c.Budget))
	if c.Pinned > 0 {
		text += fmt.Sprintf(" (%s pinned)", bytesText(c.Pinned))
	}
	if c.Damaged > 0 {
		text += fmt.Sprintf(" (%s damaged, dropped)", plural(int(c.Damaged), "piece"))
	}
	return text
}

// importText is "3 files, which hold 120 pieces, 10 not looked at yet".
func importText(i *api.Import) string {
	text := fmt.Sprintf("%s, which hold %s", plural(i.Files, "file"), plural(i.Held, "piece"))
	if i.Files == 1 {
		text = fmt.Sprintf("1 file, which holds %s", plural(i.Held, "piece"))
	}
	if i.Unchecked > 0 {
		text += fmt.Sprintf(", %d not looked at yet", i.Unchecked)
	}
	if i.Troubled > 0 {
		text += fmt.Sprintf("; %s cannot be used, or not all of it", plural(i.Troubled, "file"))
	}
	return text
}

// ratesText is about what goes over the network.
func ratesText(l api.Limits) string {
	if l.Upload == 0 && l.Download == 0 {
		return "none"
	}
	one := func(perSec int64) string {
		if perSec == 0 {
			return "no limit"
		}
		return formatSize(perSec) + "/s"
	}
	return fmt.Sprintf("upload %s, download %s", one(l.Upload), one(l.Download))
}

func bytesText(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func pinnedPieces(t *api.Torrent) int {
	n := 0
	for _, s := range t.Pinned {
		n += s.End - s.First
	}
	return n
}

// readText says what a read of a torrent waits for, in one line.
func readText(r *api.Read, t *api.Torrent) string {
	s := fmt.Sprintf("%s at %d: piece %d, %s", printable(r.File), r.Offset, r.Piece, secondsText(r.Waited))
	switch {
	case r.Verifying:
		return s + ", being verified"
	case t.Peers == 0 && r.Availability == 0:
		return withNoPeers(s+", no peers", t.NoPeers)
	case r.Availability == 0:
		return s + fmt.Sprintf(", none of %s has it", plural(t.Peers, "peer"))
	}
	s += fmt.Sprintf(", %s has it", plural(r.Availability, "peer"))
	if r.Availability > 1 {
		s = strings.TrimSuffix(s, "has it") + "have it"
	}
	if r.Received > 0 {
		s += fmt.Sprintf(", %d of %s in", r.Received, plural(r.Blocks, "block"))
	}
	if len(r.Asked) == 0 {
		return s + ", nobody asked"
	}
	s += ", asked "
	for i, a := range r.Asked {
		switch {
		case i == 3:
			return s + fmt.Sprintf(" and %d more", len(r.Asked)-i)
		case i > 0:
			s += ", "
		}
		s += fmt.Sprintf("%s %s ago", printable(a.Address), secondsText(a.Waited))
	}
	return s
}

// secondsText is short: 0.4s, 12s, 3m20s.
func secondsText(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
