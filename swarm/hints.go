package swarm

import (
	"swarmfs/cache"
	"swarmfs/metainfo"
	"swarmfs/swarm/engine"
)

// advised is a Volume that evicts, and does it better when it is told of files and
// readers. It must not evict what a window holds while it has other pieces.
type advised interface {
	Protect(spans ...cache.Span)
	Window(reader uint32, window cache.Span)
	CloseWindows()
}

// Where in a file players and scanners look for what is in it, in bytes: ffprobe
// reads 2 MiB from the beginning to know a stream, and indexes at the end have
// mostly less than 1 MiB (swarm/testdata/traces).
const (
	headBytes = 2 << 20
	tailBytes = 1 << 20
)

// edges returns the pieces at both ends of each file.
func edges(info *metainfo.Info) []cache.Span {
	layout := info.Layout()
	var spans []cache.Span
	for _, f := range info.Files {
		if f.Pad || f.Length == 0 {
			continue
		}
		head, tail := min(f.Length, headBytes), min(f.Length, tailBytes)
		for _, part := range [...]struct{ off, n int64 }{{f.Offset, head}, {f.Offset + f.Length - tail, tail}} {
			first, end := layout.Pieces(part.off, part.n)
			spans = append(spans, cache.Span{First: first, End: end})
		}
	}
	return spans
}

// showWindow tells the volume what a reader is about to read at one of its places.
func (t *Torrent) showWindow(id engine.ReaderID, w engine.Window) {
	if v, ok := t.volume.(advised); ok {
		v.Window(uint32(id), cache.Span{First: w.Pos, End: w.End})
	}
}
