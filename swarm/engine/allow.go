package engine

import (
	"math"
	"time"
)

// AllowUploads bounds the payload that peers may get of us: most bytes since New,
// as Stats counts them; 0 or less is none, math.MaxInt64 no bound. When the bound
// is reached everybody is choked. What the driver has been given already is still
// sent, and counts. The last block may go beyond the bound.
func (e *Engine) AllowUploads(now time.Time, most int64) {
	e.allowed = most
	if e.uploading == e.mayUpload() {
		return
	}
	e.uploading = !e.uploading
	if e.uploading {
		e.choker.fillSlots(e, e.since(now))
		return
	}
	e.closeUploads()
}

// noBound is AllowUploads' for everything.
const noBound = math.MaxInt64

func (e *Engine) mayUpload() bool { return e.allowed-e.handed > e.stats.Uploaded }

func (e *Engine) closeUploads() {
	e.uploading = false
	for _, p := range e.peers {
		p.optimist = false
		e.setChoking(p, true)
	}
}
