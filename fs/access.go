package fs

import "time"

// An Access is one request of a program for a file of a torrent.
type Access struct {
	Op     AccessOp
	Caller uint32 // the thread that asked; 0: the kernel itself, or hidden from us
	Handle uint64 // the open file; a number is not given out twice
	Path   string // of the file in the mount
	// Offset and Length are what is read, in bytes. Length of an open is the
	// file's size.
	Offset, Length int64
	Came           time.Time
	Took           time.Duration // until there was an answer
}

// An AccessOp is a kind of request.
type AccessOp uint8

const (
	OpOpen AccessOp = iota
	OpRead
	OpRelease // by the last process that had it; a moment after its close
)

// came is when a request came, if anybody observes them.
func (h *handles) came() (t time.Time) {
	if h.observe != nil {
		t = time.Now()
	}
	return t
}

// tell tells the observer, if there is one, of a request that is answered next.
func (h *handles) tell(a Access) {
	if h.observe == nil {
		return
	}
	a.Took = time.Since(a.Came)
	h.observe(a)
}
