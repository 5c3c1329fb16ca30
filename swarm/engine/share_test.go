package engine

import (
	"testing"
	"time"
)

// TestCrewDone checks when peers are done together with a million bytes.
func TestCrewDone(t *testing.T) {
	for _, c := range []struct {
		name    string
		members []member
		want    time.Duration
	}{
		{"one", []member{{perSec: 1e6}}, time.Second},
		{"one that owes", []member{{perSec: 1e6, owed: 5e5}}, 1500 * time.Millisecond},
		{"two alike", []member{{perSec: 1e6}, {perSec: 1e6}}, 500 * time.Millisecond},
		{"one busy for longer", []member{{perSec: 1e6}, {perSec: 1e6, owed: 1e7}}, time.Second},
		{"one after the other busy for longer", []member{{perSec: 1e6}, {perSec: 1e6, owed: 11e5}, {perSec: 1e6, owed: 1e8}}, time.Second},
		{"all busy", []member{{perSec: 1e6, owed: 1e6}, {perSec: 1e6, owed: 1e6}}, 1500 * time.Millisecond},
	} {
		if got := (&crew{members: c.members}).done(1e6); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// TestSlowPeerAndTheWindow checks what a peer is asked for that is late for all of
// a reader's window.
func TestSlowPeerAndTheWindow(t *testing.T) {
	const ahead = 4 // pieces of 4 blocks
	for _, c := range []struct {
		name   string
		perSec float64
		alone  bool // it alone has the last piece
		want   int  // blocks
	}{
		{"the other is done sooner", 10e3, false, 0},
		{"the other is not", 100e3, false, 1},
		{"nobody else has it", 10e3, true, 1},
	} {
		f := newFlow(flowConfig{peers: 2, pieces: 8, blocks: 4, density: 1, batch: 1})
		quick, slow := f.e.peers[0], f.e.peers[1]
		for _, p := range f.e.peers {
			p.lat.floor, p.lat.samples, p.depth = 40*time.Millisecond, 2, 2
		}
		quick.rate.perSec, slow.rate.perSec = 1e6, c.perSec
		f.e.together = quick.rate.perSec + slow.rate.perSec
		if c.alone {
			f.e.DontHave(f.now, quick.id, ahead-1)
		}
		f.e.Want(f.now, 1, Window{Pos: 0, End: ahead})
		if got := slow.requests.len(); min(got, 1) != c.want {
			t.Errorf("%s: a peer of %v bytes/s is asked for %d blocks", c.name, c.perSec, got)
		}
	}
}
