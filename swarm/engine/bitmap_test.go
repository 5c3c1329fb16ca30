package engine

import (
	"testing"

	"pgregory.net/rapid"
)

func drawBitmap(t *rapid.T, n int, label string) (Bitmap, []bool) {
	b, model := NewBitmap(n), make([]bool, n)
	sparse := rapid.IntRange(0, 40).Draw(t, label+" density")
	for i := range model {
		if rapid.IntRange(0, sparse).Draw(t, label) == 0 {
			b.Set(i)
			model[i] = true
		}
	}
	return b, model
}

// The searches by words find what a look at each piece finds.
func TestBitmapSearchesAgreeWithNaiveOnes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "pieces")
		a, am := drawBitmap(t, n, "a")
		b, bm := drawBitmap(t, n, "b")
		from, end := rapid.IntRange(0, n).Draw(t, "from"), rapid.IntRange(0, n).Draw(t, "end")
		both, missing := -1, -1
		for i := end - 1; i >= from; i-- {
			if am[i] && bm[i] {
				both = i
			}
			if am[i] && !bm[i] {
				missing = i
			}
		}
		if got := nextBoth(a, b, from, end); got != both {
			t.Errorf("nextBoth from %d to %d: got %d, want %d", from, end, got, both)
		}
		if got := nextMissing(a, b, from, end); got != missing {
			t.Errorf("nextMissing from %d to %d: got %d, want %d", from, end, got, missing)
		}
	})
}

// A set of pieces is what was put in and not taken out, and nothing beyond.
func TestBitmapIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "pieces")
		b, model := drawBitmap(t, n, "set")
		if rapid.Bool().Draw(t, "fill") {
			b.Fill(n)
			for i := range model {
				model[i] = true
			}
		}
		i := rapid.IntRange(0, n-1).Draw(t, "cleared")
		b.Clear(i)
		model[i] = false
		count := 0
		for i, want := range model {
			if b.Has(i) != want {
				t.Errorf("piece %d: got %v, want %v", i, b.Has(i), want)
			}
			if want {
				count++
			}
		}
		if b.Count() != count {
			t.Errorf("got %d pieces, want %d", b.Count(), count)
		}
	})
}
