package swarm

import (
	"testing"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

// queued is a queue in which blocks of a torrent were asked for, by their number.
func queued(blocks ...int) *webQueue {
	q := newWebQueue(metainfo.Layout{PieceLength: 64 << 10, Length: 64 << 20})
	for _, b := range blocks {
		q.take(requestOf(wire.Request, b))
	}
	return &q
}

func requestOf(kind wire.Kind, b int) wire.Message {
	return wire.Message{Kind: kind, Index: uint32(b / 4), Begin: uint32(b%4) << 14, Length: 16 << 10}
}

func TestAWebQueueGoesOnInRuns(t *testing.T) {
	now := time.Unix(1e9, 0)
	q := queued(20, 21, 8, 22, 9, 7, 40)
	var got []int
	pos := int64(0)
	for {
		r, ok := q.next(now, pos)
		if !ok {
			break
		}
		got = append(got, int(r.off>>14))
		pos = r.end()
		if !q.pop(r) {
			t.Fatal("a request is gone")
		}
	}
	want := []int{20, 21, 22, 7, 8, 9, 40}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	if end := queued(4, 6, 5, 8).run(4 << 14); end != 7<<14 {
		t.Errorf("the run ends at block %d, want 7", end>>14)
	}
}

// What was asked for first is overtaken for a while, not for ever.
func TestNobodyIsOvertakenForEver(t *testing.T) {
	now := time.Unix(1e9, 0)
	q := queued(100, 0)
	pos := int64(0)
	for b := 1; ; b++ {
		q.take(requestOf(wire.Request, b)) // a run without an end
		r, _ := q.next(now, pos)
		if r.off == 100<<14 {
			break
		}
		if b > 50 {
			t.Fatalf("after %v the oldest still waits", time.Duration(b)*10*time.Millisecond)
		}
		pos = r.end()
		q.pop(r)
		now = now.Add(10 * time.Millisecond)
	}
	if waited := now.Sub(time.Unix(1e9, 0)); waited < maxOvertaking {
		t.Errorf("the run was left after %v", waited)
	}
}

func TestWhatIsTakenBackIsRejected(t *testing.T) {
	q := queued(1, 2, 3)
	r, _ := q.next(time.Time{}, 2<<14)
	q.take(requestOf(wire.Cancel, 2))
	q.take(requestOf(wire.Cancel, 9)) // delivered before, or never asked for
	if q.pop(r) {
		t.Error("what was taken back is still there")
	}
	list := q.rejects()
	if len(list) != 1 || list[0].Index != 0 || list[0].Begin != 2<<14 || len(q.rejects()) != 0 {
		t.Errorf("to be rejected: %+v", list)
	}
}
