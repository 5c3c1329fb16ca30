package engine

import (
	"math/rand/v2"
	"testing"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

// What waits at a place that its reader has left gives way to where the reader
// is now, and is a blocked read again some seconds later.
func TestADeferredReadGivesWayForAWhile(t *testing.T) {
	now := time.Unix(1e9, 0)
	layout := metainfo.Layout{PieceLength: 4 * blockSize, Length: 400 * blockSize}
	e := New(Config{Drafts: &endless{}}, layout, nil, rand.New(rand.NewPCG(1, 1)), now)
	e.first = 4
	e.PeerJoined(now, 1, Caps{Fast: true})
	e.Message(now, 1, wire.Message{Kind: wire.HaveAll})
	e.Message(now, 1, wire.Message{Kind: wire.Unchoke})
	e.Want(now, 1, Window{Need: 10, NeedEnd: 20})
	e.Defer(now, 1)
	if got := e.tier(15); got != tierBackground {
		t.Errorf("a deferred piece is of tier %d, want %d", got, tierBackground)
	}
	e.Drain(nil)
	e.Want(now, 2, Window{Need: 60, NeedEnd: 61})
	cancelled, asked := 0, 0
	for _, a := range e.Drain(nil) {
		switch {
		case a.Msg.Kind == wire.Cancel && a.Msg.Index >= 10 && a.Msg.Index < 20:
			cancelled++
		case a.Msg.Kind == wire.Request && a.Msg.Index == 60:
			asked++
		}
	}
	if cancelled == 0 || asked != 3 {
		t.Errorf("%d blocks of the old place cancelled, %d of the new one asked for, want some and as many as there is room for beside the oldest: 3", cancelled, asked)
	}
	e.Tick(now.Add(deferFor - time.Millisecond))
	if got := e.tier(15); got != tierBackground {
		t.Errorf("just before the end the piece is of tier %d", got)
	}
	e.Tick(now.Add(deferFor))
	if got := e.tier(15); got != tierBlocked {
		t.Errorf("after it the piece is of tier %d, want %d: somebody may wait in earnest", got, tierBlocked)
	}
}

// READs of one read-ahead window overtake each other on their way here; the
// nearest is served first all the same. Who has waited longer comes before both.
func TestReadsOfOneBurstAreServedInOrder(t *testing.T) {
	now := time.Unix(1e9, 0)
	layout := metainfo.Layout{PieceLength: 4 * blockSize, Length: 400 * blockSize}
	e := New(Config{Drafts: &endless{}}, layout, nil, rand.New(rand.NewPCG(1, 1)), now)
	e.Want(now, 1, Window{Need: 80, NeedEnd: 81})
	now = now.Add(sameTime)
	for i, piece := range []int{15, 14, 13} {
		now = now.Add(time.Millisecond)
		e.Want(now, ReaderID(i+2), Window{Need: piece, NeedEnd: piece + 1})
	}
	for i, want := range []int{80, 13, 14, 15} {
		if got := e.readers[i].win.Need; got != want {
			t.Errorf("place %d: got a read of piece %d, want %d", i, got, want)
		}
	}
}
