package swarm

import (
	"math"
	"slices"
	"time"

	"swarmfs/swarm/engine"
)

// background is what a run completes beyond what readers ask for: what is
// pinned, and what readers have shown they will use, behind them.
type background struct {
	pinned engine.Bitmap // what the engine was told of Torrent.pins; nil: nothing yet
	all    bool          // the whole torrent was begun, with BackgroundAll
	begun  []begun
	heard  int64 // of Session.allotment.revoked
}

// begun is a file, or the torrent, that is completed as far as the cache keeps it.
type begun struct {
	file       int // index in Info.Files; wholeTorrent
	first, end int // pieces
	grant      *grant
}

const wholeTorrent = -1

// A reader that has consumed so much of a file in sequence means to use it.
const backgroundAfter = 32 << 20

// read says that somebody reads the torrent, at a piece. Nothing is fetched for
// one that nobody has read.
func (r *run) read(now time.Time, piece int) {
	if r.t.session.opts.Background == BackgroundAll && !r.background.all {
		r.background.all = true
		if r.t.opts.Select == nil {
			r.complete(now, wholeTorrent, 0, r.t.layout.NumPieces(), piece)
		}
		for _, file := range r.selected() {
			f := &r.t.info.Files[file]
			if first, end := r.t.layout.Pieces(f.Offset, f.Length); first < end {
				r.complete(now, file, first, end, first)
			}
		}
	}
}

// selected are the files that are wanted, if not all are.
func (r *run) selected() (files []int) {
	for _, s := range r.t.opts.Select {
		for file := s.First; file <= min(s.Last, len(r.t.info.Files)-1); file++ {
			files = append(files, file)
		}
	}
	return files
}

// consumed says how much of its file a reader has read in sequence, up to a
// piece. A reader has its file completed once: when that gave way to what was
// opened later, the two must not take turns.
func (r *run) consumed(now time.Time, rd *Reader, sequence int64, piece int) {
	size := rd.end - rd.off
	if r.t.session.opts.Background != BackgroundOpened || rd.completing == r || sequence < min(backgroundAfter, size) {
		return
	}
	rd.completing = r
	first, end := r.t.layout.Pieces(rd.off, size)
	r.complete(now, rd.file, first, end, piece)
}

// complete has the missing ones of pieces [first, end) fetched, from one of them
// on if the cache does not keep them all.
func (r *run) complete(now time.Time, file, first, end, from int) {
	b := &r.background
	if slices.ContainsFunc(b.begun, func(o begun) bool { return o.file == file }) {
		return
	}
	missing := 0
	for piece := first; piece < end; piece++ {
		if !r.eng.Have(piece) && !b.pinned.Has(piece) {
			missing++
		}
	}
	length := r.t.layout.PieceLength
	g := r.t.session.allotment.take(int64(missing)*length, r.t.session.keeps())
	if n := int(g.bytes / length); n < missing {
		first = max(first, min(from, end-n))
		end = first + n
	}
	if first == end || missing == 0 {
		r.t.session.allotment.release(g)
		return
	}
	b.begun = append(b.begun, begun{file, first, end, g})
	r.begin(now, first, end)
}

// yield ends what had to give way to something opened later, here or in another
// torrent.
func (r *run) yield(now time.Time) {
	b := &r.background
	revoked := r.t.session.allotment.revoked.Load()
	if revoked == b.heard {
		return
	}
	b.heard = revoked
	before := len(b.begun)
	b.begun = slices.DeleteFunc(b.begun, func(o begun) bool {
		if o.grant.revoked.Load() {
			r.leave(now, o.first, o.end)
			return true
		}
		return false
	})
	if len(b.begun) < before {
		r.restoreBackground(now)
	}
}

// restoreBackground asks again for all that is to be completed, after a part of
// it was taken back that something else may have wanted besides.
func (r *run) restoreBackground(now time.Time) {
	for _, s := range spansOf(r.background.pinned, r.t.layout.NumPieces()) {
		r.begin(now, s.First, s.End)
	}
	for _, o := range r.background.begun {
		r.begin(now, o.first, o.end)
	}
}

// leaveBackground gives back what the run was granted. Its loop is over.
func (r *run) leaveBackground() {
	for _, o := range r.background.begun {
		r.t.session.allotment.release(o.grant)
	}
}

// keeps is how many bytes of pieces the cache keeps that are not pinned.
func (s *Session) keeps() int64 {
	if s.opts.Store == nil {
		return math.MaxInt64 // files in place
	}
	return s.opts.Store.Keeps()
}
