package cache

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func pieceSpot(n int) spot { return spot{piece: uint32(n)} }

func noHold(spot) hold { return unheld }

// TestPolicyNeverLosesAPiece compares a policy with the set of pieces it was given.
func TestPolicyNeverLosesAPiece(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const target = 300
		p := newPolicy(target, tuned)
		sizes := map[spot]int64{}
		holds := map[spot]hold{}
		junked := map[spot]bool{}
		var now time.Duration
		anyPiece := rapid.Custom(func(t *rapid.T) spot { return pieceSpot(rapid.IntRange(0, 60).Draw(t, "piece")) })
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				at := anyPiece.Draw(t, "at")
				sizes[at] = int64(rapid.IntRange(1, 100).Draw(t, "size"))
				delete(junked, at)
				p.add(now, at, uint32(sizes[at]), rapid.Bool().Draw(t, "edge"))
			},
			"read": func(t *rapid.T) {
				now += time.Duration(rapid.IntRange(0, 20).Draw(t, "minutes")) * time.Minute
				p.read(now, anyPiece.Draw(t, "at"))
			},
			"remove": func(t *rapid.T) {
				at := anyPiece.Draw(t, "at")
				p.remove(at)
				delete(sizes, at)
				delete(junked, at)
			},
			"spoil": func(t *rapid.T) {
				at := anyPiece.Draw(t, "at")
				p.spoil(at)
				if _, ok := sizes[at]; ok {
					junked[at] = true
				}
			},
			"edge":    func(t *rapid.T) { p.setEdge(anyPiece.Draw(t, "at"), rapid.Bool().Draw(t, "edge")) },
			"hold":    func(t *rapid.T) { holds[anyPiece.Draw(t, "at")] = hold(rapid.IntRange(0, 2).Draw(t, "hold")) },
			"release": func(*rapid.T) { p.release() },
			"victims": func(t *rapid.T) {
				want := int64(rapid.IntRange(1, 500).Draw(t, "bytes"))
				p.release() // as the store does when a pin ends
				var got, junk, may int64
				for at, n := range sizes {
					if holds[at] == unheld && !junked[at] {
						may += n
					}
				}
				for _, at := range p.victims(want, func(at spot) hold { return holds[at] }) {
					n, ok := sizes[at]
					switch {
					case !ok:
						t.Fatalf("piece %d is not there", at.piece)
					case junked[at]:
						junk += n
					case holds[at] == pinned:
						t.Fatalf("piece %d is pinned", at.piece)
					default:
						got += n
					}
					delete(sizes, at)
					delete(junked, at)
				}
				if got < min(want, may) {
					t.Fatalf("%d bytes given up, wanted %d of %d", got, want, may)
				}
			},
			"": func(t *rapid.T) {
				var bytes [numClasses]int64
				if len(p.index) != len(sizes) {
					t.Fatalf("%d pieces, want %d", len(p.index), len(sizes))
				}
				for at, e := range p.index {
					if int64(e.size) != sizes[at] || (e.class == junk) != junked[at] {
						t.Fatalf("piece %d: %+v, want %d bytes, junk %v", at.piece, e, sizes[at], junked[at])
					}
					bytes[e.class] += int64(e.size)
				}
				for c, n := range bytes {
					if p.queues[c].bytes != n {
						t.Fatalf("queue %d: %d bytes, want %d", c, p.queues[c].bytes, n)
					}
				}
				if p.queues[edge].bytes > target/10 {
					t.Fatalf("%d bytes of edges", p.queues[edge].bytes)
				}
				if p.gone.bytes > target {
					t.Fatalf("%d bytes of ghosts", p.gone.bytes)
				}
			},
		})
	})
}

// fillPolicy adds pieces of one byte, evicting what is beyond the target as a store
// does, and returns what went.
func fillPolicy(p *policy, now time.Duration, first, end int) map[spot]bool {
	gone := map[spot]bool{}
	for i := first; i < end; i++ {
		if len(p.index) >= int(p.target) {
			for _, at := range p.victims(1, noHold) {
				gone[at] = true
			}
		}
		p.add(now, pieceSpot(i), 1, false)
	}
	return gone
}

func TestOnePassThroughAFilmLeavesWhatIsReadDaily(t *testing.T) {
	p := newPolicy(100, tuned)
	fillPolicy(p, 0, 0, 40)
	for i := range 40 {
		p.read(time.Hour, pieceSpot(i))
	}
	gone := fillPolicy(p, 2*time.Hour, 1000, 3000)
	for i := range 40 {
		if gone[pieceSpot(i)] {
			t.Errorf("piece %d, which was read again, was evicted by a film", i)
		}
	}
}

func TestReadsWithinAWhileAreOne(t *testing.T) {
	p := newPolicy(10, tuned)
	fillPolicy(p, 0, 0, 10)
	p.read(tuned.patience-1, pieceSpot(0))
	p.read(tuned.patience, pieceSpot(1))
	if got := p.victims(1, noHold); got[0] != pieceSpot(0) {
		t.Errorf("the first to go is %v, want piece 0, whose second read was a part of the first", got)
	}
	if got := p.victims(1, noHold); got[0] != pieceSpot(2) {
		t.Errorf("the next to go is %v, want piece 2, as piece 1 was read again", got)
	}
}

func TestWhatComesBackSoonStays(t *testing.T) {
	p := newPolicy(100, tuned)
	fillPolicy(p, 0, 0, 150) // 0 to 49 are gone, and remembered
	fillPolicy(p, 0, 0, 10)
	gone := fillPolicy(p, 0, 1000, 3000)
	for i := range 10 {
		if gone[pieceSpot(i)] {
			t.Errorf("piece %d, which was wanted again soon after it had gone, went again", i)
		}
	}
}

func TestEdgesOutliveTheirFilms(t *testing.T) {
	p := newPolicy(100, tuned)
	for i := range 12 { // two more than a tenth
		p.add(0, pieceSpot(i), 1, true)
	}
	gone := fillPolicy(p, 0, 100, 3000)
	for i := range 12 {
		if got, want := gone[pieceSpot(i)], i < 2; got != want {
			t.Errorf("edge %d is gone: %v, want %v", i, got, want)
		}
	}
}

func TestWindowsProtectHalfAtMost(t *testing.T) {
	p := newPolicy(100, tuned)
	fillPolicy(p, 0, 0, 100)
	window := func(at spot) hold {
		if at.piece < 70 {
			return windowed
		}
		return unheld
	}
	for _, at := range p.victims(30, window) {
		if at.piece < 50 {
			t.Errorf("piece %d is in a window and went before others", at.piece)
		}
	}
	if got := p.victims(1, func(spot) hold { return windowed }); len(got) != 1 {
		t.Error("windows over everything let nothing go")
	}
}

// A queue of nothing but windows lets another give way.
func TestWindowsAreSparedOnce(t *testing.T) {
	p := newPolicy(100, tuned)
	fillPolicy(p, 0, 0, 70)
	for i := range 70 {
		p.read(time.Hour, pieceSpot(i))
	}
	fillPolicy(p, time.Hour, 100, 130)
	p.victims(1, noHold) // 0 to 69 are in main, 100 is gone
	got := p.victims(20, func(at spot) hold {
		if at.piece >= 100 {
			return windowed
		}
		return unheld
	})
	for _, at := range got {
		if at.piece >= 100 {
			t.Errorf("piece %d is in a window and went before others", at.piece)
		}
	}
}

func TestPinnedPiecesGoWhenReleased(t *testing.T) {
	p := newPolicy(10, tuned)
	fillPolicy(p, 0, 0, 10)
	if got := p.victims(10, func(spot) hold { return pinned }); len(got) != 0 {
		t.Errorf("pinned pieces go: %v", got)
	}
	p.release()
	if got := p.victims(10, noHold); len(got) != 10 {
		t.Errorf("%d pieces go after their pins ended, want 10", len(got))
	}
}
