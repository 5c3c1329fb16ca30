package engine

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// bidders are torrents of one pool whose rounds come one after the other.
type bidders struct {
	pool  *Pool
	seats []*Seat
	bids  []Bids
	now   time.Time
	taken []int // beyond what a bid got, as an engine does at once
}

func newBidders(size int, bids ...Bids) *bidders {
	b := &bidders{pool: NewPool(size), bids: bids, now: time.Unix(1e9, 0)}
	for range bids {
		b.seats = append(b.seats, b.pool.Join())
	}
	return b
}

// round lets all bid once, and returns what each got.
func (b *bidders) round() (regular, turn []int) {
	for i, s := range b.seats {
		r, t := s.Bid(b.now, b.bids[i])
		regular, turn = append(regular, r), append(turn, t)
		if b.taken != nil {
			b.taken[i] = 0
			for r+t+b.taken[i] < len(b.bids[i].List)+b.bids[i].Others && s.Take() {
				b.taken[i]++
			}
		}
	}
	b.now = b.now.Add(chokeRound)
	return regular, turn
}

func worth(bytes ...int64) (list []Bid) {
	for _, n := range bytes {
		list = append(list, Bid{Worth: n})
	}
	return list
}

func TestPlacesGoToTheBestBidsOfAllTorrents(t *testing.T) {
	for _, tc := range []struct {
		name    string
		size    int
		bids    []Bids
		regular []int
		turn    []int
	}{
		{"the best of two torrents", 8, []Bids{
			{List: worth(90, 80, 70, 10), Giving: true},
			{List: worth(60, 50, 40, 30, 20), Giving: true},
		}, []int{3, 4}, []int{1, 0}},
		{"what readers wait for comes first", 4, []Bids{
			{List: worth(90, 80, 70, 60), Giving: true},
			{List: []Bid{{Reads: 1, Worth: 1}}, Giving: true},
		}, []int{2, 1}, []int{1, 0}},
		{"most for who gives, some for who takes", 11, []Bids{
			{List: worth(9, 8, 7, 6, 5, 4, 3, 2, 1), Giving: true},
			{List: worth(900, 800, 700, 600, 500, 400)},
		}, []int{7, 3}, []int{1, 0}},
		{"what the givers leave", 8, []Bids{
			{List: worth(9), Giving: true},
			{List: worth(900, 800, 700, 600, 500, 400, 300, 200, 100)},
		}, []int{1, 6}, []int{0, 1}},
		{"newcomers share what is left", 8, []Bids{
			{List: worth(9), Giving: true, Others: 9}, {Others: 9}, {Others: 1},
		}, []int{1, 0, 0}, []int{3, 3, 1}},
		{"nobody has more than he can use", 8, []Bids{{Others: 2}, {}, {List: worth(1, 1, 1)}}, []int{0, 0, 3}, []int{2, 0, 0}},
		{"one place goes round", 1, []Bids{{List: worth(5, 4), Giving: true}}, []int{0}, []int{1}},
	} {
		b := newBidders(tc.size, tc.bids...)
		b.round()
		b.round()
		if regular, turn := b.round(); !slices.Equal(regular, tc.regular) || !slices.Equal(turn, tc.turn) {
			t.Errorf("%s: got %v and %v in turn, want %v and %v", tc.name, regular, turn, tc.regular, tc.turn)
		}
	}
}

// However many torrents there are, each has a place in time, and places are
// neither invented nor lost.
func TestPoolIsFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size, n := rapid.IntRange(1, 20).Draw(t, "size"), rapid.IntRange(1, 12).Draw(t, "torrents")
		bids := make([]Bids, n)
		wanted := 0
		for i := range bids {
			list := rapid.SliceOfN(rapid.Int64Range(1, 100), 0, 5).Draw(t, "worth")
			slices.SortFunc(list, func(a, b int64) int { return int(b - a) })
			bids[i] = Bids{List: worth(list...), Others: rapid.IntRange(0, 3).Draw(t, "others"), Giving: rapid.Bool().Draw(t, "giving")}
			wanted += len(list) + bids[i].Others
		}
		b := newBidders(size, bids...)
		served := make([]int, n)
		b.taken = make([]int, n)
		for i := range 3 * (n + 3) * optimisticEvery {
			regular, turn := b.round()
			sum := 0
			for j := range bids {
				sum += regular[j] + turn[j] + b.taken[j]
				served[j] += regular[j] + turn[j] + b.taken[j]
				if regular[j] > len(bids[j].List) || regular[j]+turn[j] > len(bids[j].List)+bids[j].Others {
					t.Fatalf("torrent %d has %d and %d places for %d and %d peers", j, regular[j], turn[j], len(bids[j].List), bids[j].Others)
				}
			}
			if sum > size {
				t.Fatalf("%d of %d places taken", sum, size)
			}
			if idle := min(size, wanted) - sum; i > 2*n && idle > n {
				t.Fatalf("round %d: %d of %d places are idle", i, idle, size)
			}
			if got := b.pool.free(nil); got != size-sum {
				t.Fatalf("%d places free, want %d", got, size-sum)
			}
		}
		for j := range bids {
			if len(bids[j].List)+bids[j].Others > 0 && served[j] == 0 {
				t.Errorf("torrent %d never had a place", j)
			}
		}
	})
}
