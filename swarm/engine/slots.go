package engine

import (
	"cmp"
	"slices"
	"time"
)

// Slots gives a torrent its part of the places for peers that may download from
// us. It must not call the Engine.
type Slots interface {
	// Bid asks anew for all places, in each round of unchoking. It returns how many
	// of the bids have one, from the best on, and how many places are to be taken in
	// turn by the rest.
	Bid(now time.Time, b Bids) (regular, turn int)
	// Take asks for one place more, between two rounds.
	Take() bool
	// Free gives places back, between two rounds.
	Free(n int)
}

// Bids are what the peers of a torrent are worth that want something of us.
type Bids struct {
	List   []Bid // best first
	Others int   // peers that are worth nothing
	Giving bool  // they give us something; otherwise they only take
}

// Bid is what a peer is worth, in bytes; a larger one comes first.
type Bid struct {
	// Reads is what it sent lately for readers.
	Reads int64
	// Worth is what it sent lately, or when we need nothing, what it took.
	Worth int64
}

func (b Bid) compare(o Bid) int {
	return cmp.Or(cmp.Compare(o.Reads, b.Reads), cmp.Compare(o.Worth, b.Worth))
}

// Pool divides the upload places of a session among its torrents, as if all
// peers were of one: places go to the best bids, and some in turn, so that who
// has nothing yet can show what it gives. Never more than there are are taken.
// It is not safe for concurrent use.
type Pool struct {
	size   int
	joined int // ever
	seats  []*Seat
}

// Of each so many places one is taken in turn.
const turnShare = 8

// Peers that give us something get so much of the regular places, peers of
// torrents that need nothing the rest; what one side leaves the other has.
// (etorrent's rule.)
const giversShare = 0.7

// A torrent has a place in turn for as long as one of its peers has.
const turnFor = optimisticEvery * chokeRound

// NewPool returns a Pool of so many places.
func NewPool(size int) *Pool { return &Pool{size: size} }

// Resize changes how many places there are. Who has one too many keeps it until
// his next round.
func (p *Pool) Resize(size int) { p.size = size }

// Size returns how many places there are.
func (p *Pool) Size() int { return p.size }

// Seat is a torrent's part of a Pool.
type Seat struct {
	pool    *Pool
	number  int // in the order of joining
	bids    Bids
	regular int       // places of the bids
	turn    int       // places in turn
	short   int       // places that it should have got, and others still had
	held    int       // those, and what was taken or given back since
	since   time.Time // of the turn
}

var _ Slots = (*Seat)(nil)

// Join makes room for another torrent.
func (p *Pool) Join() *Seat {
	p.joined++
	s := &Seat{pool: p, number: p.joined}
	p.seats = append(p.seats, s)
	return s
}

// Leave gives everything back, for good.
func (s *Seat) Leave() {
	s.held = 0
	s.pool.seats = slices.DeleteFunc(s.pool.seats, func(o *Seat) bool { return o == s })
}

// Take implements Slots.
func (s *Seat) Take() bool {
	n := s.pool.free(nil)
	for _, o := range s.pool.seats {
		if o == s {
			continue
		}
		n -= o.short
		if o.short == 0 && o.held == 0 && o.waiting() > 0 {
			n-- // it is its turn soon
		}
	}
	if n <= 0 {
		return false
	}
	s.held++
	return true
}

// Free implements Slots.
func (s *Seat) Free(n int) { s.held = max(0, s.held-n) }

// free is how many places nobody has, not counting one seat's.
func (p *Pool) free(but *Seat) int {
	n := p.size
	for _, s := range p.seats {
		if s != but {
			n -= s.held
		}
	}
	return n
}

// Bid implements Slots. Of the others the newest bids count, and what they hold
// they keep until their own round: a torrent may have to wait that long.
func (s *Seat) Bid(now time.Time, b Bids) (regular, turn int) {
	p := s.pool
	s.bids = Bids{append(s.bids.List[:0], b.List...), b.Others, b.Giving}
	room := max(0, p.free(s))
	own, all := p.best(s)
	s.regular = min(own, room)
	due := p.turns(now, s, p.size-all)
	turn = min(due, room-s.regular)
	s.short = own + due - s.regular - turn
	if turn > 0 && (s.turn == 0 || now.Sub(s.since) >= turnFor) {
		s.since = now
	}
	s.turn = turn
	s.held = s.regular + turn
	return s.regular, turn
}

// best returns how many of a seat's bids are among the best, and how many places
// all bids together have.
func (p *Pool) best(s *Seat) (own, all int) {
	give, take := 0, 0
	for _, o := range p.seats {
		if o.bids.Giving {
			give += len(o.bids.List)
		} else {
			take += len(o.bids.List)
		}
	}
	places := p.size - max(1, p.size/turnShare)
	give = min(give, max(int(giversShare*float64(places)+0.5), places-take))
	take = min(take, places-give)
	mine := take
	if s.bids.Giving {
		mine = give
	}
	for ; own < len(s.bids.List); own++ {
		better := own
		for _, o := range p.seats {
			if o != s && o.bids.Giving == s.bids.Giving {
				better += betterThan(o.bids.List, s.bids.List[own], o.number < s.number)
			}
		}
		if better >= mine {
			break
		}
	}
	return own, give + take
}

// betterThan counts the bids that come before one; equal ones do if first.
func betterThan(bids []Bid, b Bid, first bool) int {
	i, _ := slices.BinarySearchFunc(bids, b, func(o, b Bid) int {
		if c := o.compare(b); c != 0 || !first {
			return cmp.Or(c, 1)
		}
		return -1
	})
	return i
}

// turns returns how many of so many places in turn a seat gets now: one each, who
// waits longest first, then another each.
func (p *Pool) turns(now time.Time, s *Seat, places int) int {
	queue := make([]*Seat, 0, len(p.seats))
	for _, o := range p.seats {
		if o.waiting() > 0 {
			queue = append(queue, o)
		}
	}
	has := func(o *Seat) bool { return o.turn > 0 && now.Sub(o.since) < turnFor }
	slices.SortStableFunc(queue, func(a, b *Seat) int {
		switch ha, hb := has(a), has(b); {
		case ha && !hb:
			return -1
		case hb && !ha:
			return 1
		}
		return a.since.Compare(b.since)
	})
	got := 0
	for round := 0; places > 0 && len(queue) > 0; round++ {
		queue = slices.DeleteFunc(queue, func(o *Seat) bool { return o.waiting() <= round })
		for _, o := range queue {
			if places == 0 {
				break
			}
			places--
			if o == s {
				got++
			}
		}
	}
	return got
}

// waiting is how many peers could use a place in turn.
func (s *Seat) waiting() int { return s.bids.Others + len(s.bids.List) - s.regular }
