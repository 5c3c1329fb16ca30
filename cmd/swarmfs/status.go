package main

import (
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"swarmfs/fs"
)

// statusFiles are the files of .swarmfs: the version, the state of everything,
// and of each torrent.
func (m *mounter) makeStatusFiles() {
	m.status = append(m.status,
		fs.VirtualFile{Name: "version", Content: func() []byte { return []byte(version() + "\n") }},
		fs.VirtualFile{Name: "status", Content: m.statusText},
	)
	for _, t := range m.shown {
		m.status = append(m.status, fs.VirtualFile{
			Name:    "torrents/" + t.torrent.Info.Hash.String() + "/status",
			Content: t.statusText,
		})
	}
}

func (m *mounter) statusFiles() []fs.VirtualFile { return m.status }

// statusText is one "key: value" a line, as is that of each torrent.
func (m *mounter) statusText() []byte {
	var b strings.Builder
	st := m.store.Stats()
	disk := "none: memory only"
	if err := m.store.Degraded(); err != nil {
		disk = "none: " + printable(err.Error())
	} else if st.Budget > 0 {
		disk = fmt.Sprintf("%s of %s", humanize.IBytes(uint64(max(st.DiskLive, 0))), humanize.IBytes(uint64(st.Budget)))
	}
	fmt.Fprintf(&b, "version: %s\n", version())
	fmt.Fprintf(&b, "torrents: %d\n", len(m.shown))
	for _, a := range m.session.Addrs() {
		fmt.Fprintf(&b, "listening: %s\n", a)
	}
	fmt.Fprintf(&b, "cache on disk: %s\n", disk)
	fmt.Fprintf(&b, "cache in memory: %s of %s\n", humanize.IBytes(uint64(st.MemoryUsed)), humanize.IBytes(uint64(st.Memory)))
	for _, t := range m.shown {
		s := t.run.Stats()
		fmt.Fprintf(&b, "torrent: %s %s %s\n", t.torrent.Info.Hash, heldText(s.Held, s.Pieces), printable(t.name))
	}
	return []byte(b.String())
}

func (t *shownTorrent) statusText() []byte {
	s := t.run.Stats()
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\n", printable(t.name))
	fmt.Fprintf(&b, "infohash: %s\n", t.torrent.Info.Hash)
	fmt.Fprintf(&b, "size: %d\n", t.torrent.Info.Length)
	fmt.Fprintf(&b, "pieces: %d of %d\n", s.Held, s.Pieces)
	fmt.Fprintf(&b, "peers: %d\n", s.Peers)
	fmt.Fprintf(&b, "downloaded: %d\n", s.Downloaded)
	fmt.Fprintf(&b, "uploaded: %d\n", s.Uploaded)
	fmt.Fprintf(&b, "duplicate: %d\n", s.Duplicate)
	fmt.Fprintf(&b, "failed: %d\n", s.Failed)
	return []byte(b.String())
}
