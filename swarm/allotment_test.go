package swarm

import "testing"

func TestWhatWasOpenedLastIsCompletedFirst(t *testing.T) {
	var a allotment
	old, middle := a.take(40, 100), a.take(50, 100)
	if old.revoked.Load() || middle.revoked.Load() || a.revoked.Load() != 0 {
		t.Fatal("90 of 100 bytes were granted, and something was revoked")
	}
	young := a.take(30, 100)
	if !old.revoked.Load() || middle.revoked.Load() || young.revoked.Load() || a.revoked.Load() != 1 {
		t.Errorf("120 bytes of 100: revoked are %v, %v, %v, want the oldest", old.revoked.Load(), middle.revoked.Load(), young.revoked.Load())
	}
	a.release(middle)
	if g := a.take(70, 100); g.bytes != 70 || young.revoked.Load() {
		t.Errorf("after a release: granted %d, the other revoked %v", g.bytes, young.revoked.Load())
	}
	if g := a.take(1000, 100); g.bytes != 100 || !young.revoked.Load() || g.revoked.Load() {
		t.Errorf("of 1000 bytes %d were granted, want the 100 that are kept; another is left: %v", g.bytes, !young.revoked.Load())
	}
	if a.fit(99); len(a.grants) != 0 {
		t.Errorf("%d grants are left of which the cache does not keep all", len(a.grants))
	}
}
