package engine

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The queue of requests is a list from which any can be taken.
func TestRequestsAreAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q requests
		var model []request
		next := 0
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "n") {
					r := request{piece: next / 3, block: next % 3}
					next++
					q.push(r)
					model = append(model, r)
				}
			},
			"remove": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip("empty")
				}
				i := rapid.IntRange(0, len(model)-1).Draw(t, "which")
				if got := q.find(model[i].piece, model[i].block); got != i {
					t.Fatalf("found at %d, want %d", got, i)
				}
				q.remove(i)
				model = slices.Delete(model, i, i+1)
			},
			"clear": func(*rapid.T) { q.clear(); model = nil },
			"": func(t *rapid.T) {
				if q.len() != len(model) {
					t.Fatalf("got %d requests, want %d", q.len(), len(model))
				}
				for i, want := range model {
					if *q.at(i) != want {
						t.Fatalf("request %d: got %v, want %v", i, *q.at(i), want)
					}
				}
				if q.find(next, 0) >= 0 {
					t.Fatal("found what was never asked for")
				}
			},
		})
	})
}

// What is pushed and taken from the head for ever needs no more memory.
func TestAQueueInUseDoesNotGrow(t *testing.T) {
	var q requests
	for i := range 100 {
		q.push(request{block: i})
	}
	before := cap(q.buf)
	for i := range 10_000 {
		q.remove(0)
		q.push(request{block: i})
	}
	if cap(q.buf) > 2*before {
		t.Errorf("got room for %d, was %d", cap(q.buf), before)
	}
}
