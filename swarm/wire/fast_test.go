package wire

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestAllowedFastSetIsTheExampleOfBEP6(t *testing.T) {
	hash := [20]byte(bytes.Repeat([]byte{0xaa}, 20))
	want := []uint32{1059, 431, 808, 1217, 287, 376, 1188, 353, 508}
	for _, k := range []int{7, 9} {
		if got := AllowedFastSet([4]byte{80, 4, 4, 200}, hash, 1313, k); !slices.Equal(got, want[:k]) {
			t.Errorf("k=%d: got %v, want %v", k, got, want[:k])
		}
	}
}

func TestAllowedFastSetIsDistinctAndEndsForSmallTorrents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, k := rapid.IntRange(0, 40).Draw(t, "pieces"), rapid.IntRange(-1, 50).Draw(t, "k")
		ip := [4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "ip"))
		set := AllowedFastSet(ip, [20]byte{1}, n, k)
		if want := max(0, min(n, k)); len(set) != want {
			t.Fatalf("got %d pieces, want %d", len(set), want)
		}
		seen := map[uint32]bool{}
		for _, p := range set {
			if int(p) >= n || seen[p] {
				t.Fatalf("piece %d of %d is out of range or double in %v", p, n, set)
			}
			seen[p] = true
		}
		ip[3]++
		if again := AllowedFastSet(ip, [20]byte{1}, n, k); !slices.Equal(set, again) {
			t.Fatalf("a neighbour's set differs: %v, %v", set, again)
		}
	})
}
