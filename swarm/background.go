package swarm

import (
	"time"

	"swarmfs/swarm/engine"
)

// background follows what readers have shown they will use, and has it
// completed behind them.
type background struct {
	files  map[int64]bool // by offset in the torrent
	all    bool
	pinned engine.Bitmap // what the engine was told of Torrent.pins; nil: nothing yet
}

// A reader that has consumed so much of a file in sequence means to use it.
const backgroundAfter = 32 << 20

// read says that somebody reads the torrent. Nothing is fetched for one that
// nobody has read.
func (r *run) read(now time.Time) {
	if r.t.session.opts.Background == BackgroundAll && !r.background.all {
		r.background.all = true
		r.eng.Background(now, 0, r.t.layout.NumPieces(), true)
	}
}

// consumed says how much of its file a reader has read in sequence.
func (r *run) consumed(now time.Time, rd *Reader, sequence int64) {
	b := &r.background
	size := rd.end - rd.off
	if r.t.session.opts.Background != BackgroundOpened || b.files[rd.off] || sequence < min(backgroundAfter, size) {
		return
	}
	if b.files == nil {
		b.files = map[int64]bool{}
	}
	b.files[rd.off] = true
	first, end := r.t.layout.Pieces(rd.off, size)
	r.eng.Background(now, first, end, true)
}
