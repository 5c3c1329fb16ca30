package metadata

import (
	"crypto/sha1"
	"slices"
	"time"

	"swarmfs/swarm/wire"
)

// PeerID is a connection, chosen by the caller; never used twice.
type PeerID uint32

const (
	// depth is how many pieces are asked of a peer at a time. A dictionary of
	// 64 KiB, larger than most, comes in one round trip.
	depth = 4
	// hedgeAfter is how long a piece may be outstanding before a peer that has
	// nothing else to do is asked for it too. More waits for the slow, less asks
	// twice what is on its way.
	hedgeAfter = time.Second
	// lostAfter is when a request counts as ignored.
	lostAfter = 10 * time.Second
	// A peer that ignored so many requests is asked no more.
	maxIgnored = 8
	// A peer is dropped after more messages than this that make no sense.
	maxOdd = 3
	// maxLengths is how many claimed lengths are followed at a time.
	maxLengths = 8
	// maxHeld bounds what all of them hold, in bytes: two of the longest.
	maxHeld = 2 * wire.MaxMetadataSize
)

// Action is what the caller is to do: send a request, or drop the peer.
type Action struct {
	Peer   PeerID
	Piece  int
	Drop   bool
	Reason string // of a drop
}

// Fetch is one dictionary being fetched. It belongs to one goroutine.
type Fetch struct {
	hash     [sha1.Size]byte
	peers    []*peer // in the order of joining
	attempts []*attempt
	actions  []Action
	result   []byte
}

// peer is one that says that it has the dictionary.
type peer struct {
	id      PeerID
	attempt *attempt
	asked   []asked // at most depth
	ignored int
	odd     int
	refused bool // it said that it has nothing after all
}

type asked struct {
	piece int
	at    time.Time
	lost  bool // counted as ignored; an answer is still welcome
}

// attempt is the dictionary of one claimed length.
type attempt struct {
	length int
	pieces [][]byte
	from   []PeerID
	have   int
	// alone is the one peer that is asked, after a set from several did not
	// verify: so that what comes next tells who is to blame.
	alone  *peer
	single bool
}

// New returns a Fetch of the dictionary with an infohash (v1).
func New(hash [sha1.Size]byte) *Fetch { return &Fetch{hash: hash} }

// Joined says that a peer has the dictionary and that it is length bytes long.
// A length that no dictionary has is ignored: 0 is what many say who have none.
func (f *Fetch) Joined(now time.Time, id PeerID, length int) {
	if f.result != nil || length <= 0 || length > wire.MaxMetadataSize || f.find(id) != nil {
		return
	}
	a := f.attempt(length)
	if a == nil {
		return
	}
	f.peers = append(f.peers, &peer{id: id, attempt: a})
	f.Tick(now)
}

func (f *Fetch) attempt(length int) *attempt {
	for _, a := range f.attempts {
		if a.length == length {
			return a
		}
	}
	if len(f.attempts) >= maxLengths && !f.forgetOne() {
		return nil
	}
	n := (length + wire.MetadataPieceLen - 1) / wire.MetadataPieceLen
	a := &attempt{length: length, pieces: make([][]byte, n), from: make([]PeerID, n)} // 28 bytes for each 16 KiB claimed
	f.attempts = append(f.attempts, a)
	return a
}

// forgetOne ends an attempt that nobody who is left believes in.
func (f *Fetch) forgetOne() bool {
	for i, a := range f.attempts {
		if !slices.ContainsFunc(f.peers, func(p *peer) bool { return p.attempt == a }) {
			f.attempts = slices.Delete(f.attempts, i, i+1)
			return true
		}
	}
	return false
}

// Left says that a peer has gone.
func (f *Fetch) Left(now time.Time, id PeerID) {
	f.peers = slices.DeleteFunc(f.peers, func(p *peer) bool { return p.id == id })
	for _, a := range f.attempts {
		if a.alone != nil && a.alone.id == id {
			a.next()
		}
	}
	f.Tick(now)
}

// next has another peer asked alone.
func (a *attempt) next() {
	a.alone = nil
	a.clear()
}

func (a *attempt) clear() {
	a.have = 0
	clear(a.pieces)
}

// Message takes a ut_metadata message other than a request. The data is copied.
func (f *Fetch) Message(now time.Time, id PeerID, m wire.Metadata) {
	p := f.find(id)
	if p == nil || f.result != nil {
		return
	}
	switch m.Type {
	case wire.MetadataReject:
		if p.answered(m.Piece) {
			p.refused = true
			p.asked = p.asked[:0]
			if p.attempt.alone == p {
				p.attempt.next()
			}
		}
	case wire.MetadataData:
		f.data(p, m)
	}
	f.Tick(now)
}

func (f *Fetch) data(p *peer, m wire.Metadata) {
	a := p.attempt
	if m.Piece >= len(a.pieces) || m.TotalSize != a.length || len(m.Data) != a.size(m.Piece) || !p.answered(m.Piece) {
		f.oddity(p)
		return
	}
	p.ignored = 0
	if a.pieces[m.Piece] != nil || a.single && a.alone != p {
		return
	}
	if f.held()+len(m.Data) > maxHeld {
		f.clearLargest(a)
	}
	a.pieces[m.Piece] = slices.Clone(m.Data)
	a.from[m.Piece] = p.id
	if a.have++; a.have == len(a.pieces) {
		f.complete(a)
	}
}

func (a *attempt) size(piece int) int {
	return min(wire.MetadataPieceLen, a.length-piece*wire.MetadataPieceLen)
}

func (f *Fetch) held() int {
	n := 0
	for _, a := range f.attempts {
		n += a.have
	}
	return n * wire.MetadataPieceLen
}

// clearLargest frees the memory of the attempt that has taken most beside keep, or
// of keep if it is alone.
func (f *Fetch) clearLargest(keep *attempt) {
	largest := keep
	for _, a := range f.attempts {
		if a != keep && (largest == keep || a.have > largest.have) {
			largest = a
		}
	}
	largest.clear()
}

// complete judges a whole set.
func (f *Fetch) complete(a *attempt) {
	whole := slices.Concat(a.pieces...)
	if sha1.Sum(whole) == f.hash {
		f.result, f.attempts = whole, nil
		return
	}
	first := a.from[0]
	alone := !slices.ContainsFunc(a.from, func(id PeerID) bool { return id != first })
	a.single = true
	a.next()
	if alone {
		f.drop(first, "sends metadata that does not verify")
	}
}

func (f *Fetch) drop(id PeerID, reason string) {
	f.actions = append(f.actions, Action{Peer: id, Drop: true, Reason: reason})
	f.peers = slices.DeleteFunc(f.peers, func(p *peer) bool { return p.id == id })
}

func (f *Fetch) oddity(p *peer) {
	if p.odd++; p.odd > maxOdd {
		if p.attempt.alone == p {
			p.attempt.next()
		}
		f.drop(p.id, "sends metadata that nobody asked for")
	}
}

// answered says whether a piece was asked of the peer, and forgets that.
func (p *peer) answered(piece int) bool {
	i := slices.IndexFunc(p.asked, func(a asked) bool { return a.piece == piece })
	if i < 0 {
		return false
	}
	p.asked = slices.Delete(p.asked, i, i+1)
	return true
}

func (f *Fetch) find(id PeerID) *peer {
	for _, p := range f.peers {
		if p.id == id {
			return p
		}
	}
	return nil
}

// Tick asks for what is due. It is called when time has passed.
func (f *Fetch) Tick(now time.Time) {
	if f.result != nil {
		return
	}
	for _, p := range f.peers {
		f.expire(now, p)
	}
	for _, p := range f.peers {
		f.ask(now, p)
	}
}

func (f *Fetch) expire(now time.Time, p *peer) {
	for i := range p.asked {
		if q := &p.asked[i]; !q.lost && now.Sub(q.at) >= lostAfter {
			q.lost = true
			p.ignored++
			if p.attempt.alone == p {
				p.attempt.next()
			}
		}
	}
	if p.ignored < maxIgnored { // else they stay, and keep it from being asked
		p.asked = slices.DeleteFunc(p.asked, func(q asked) bool { return q.lost && now.Sub(q.at) >= 3*lostAfter })
	}
}

func (f *Fetch) ask(now time.Time, p *peer) {
	a := p.attempt
	if p.refused || p.ignored >= maxIgnored {
		return
	}
	if a.single {
		if a.alone == nil && len(p.asked) == 0 {
			a.alone = p
			f.rotate(p)
		}
		if a.alone != p {
			return
		}
	}
	for len(p.asked) < depth {
		piece, ok := f.choose(now, p)
		if !ok {
			return
		}
		p.asked = append(p.asked, asked{piece: piece, at: now})
		f.actions = append(f.actions, Action{Peer: p.id, Piece: piece})
	}
}

// rotate puts a peer behind the others, so that each has its turn alone.
func (f *Fetch) rotate(p *peer) {
	i := slices.Index(f.peers, p)
	f.peers = append(slices.Delete(slices.Clone(f.peers), i, i+1), p)
}

// choose returns a piece that was asked of nobody; else, if p has nothing to do,
// the one that has been outstanding longest.
func (f *Fetch) choose(now time.Time, p *peer) (int, bool) {
	oldest, since := -1, now.Add(-hedgeAfter)
	for piece, data := range p.attempt.pieces {
		if data != nil || p.waitsFor(piece) {
			continue
		}
		last, pending := f.askedAt(p.attempt, piece)
		if !pending {
			return piece, true
		}
		if len(p.asked) == 0 && !last.After(since) {
			oldest, since = piece, last
		}
	}
	return oldest, oldest >= 0
}

func (p *peer) waitsFor(piece int) bool {
	return slices.ContainsFunc(p.asked, func(q asked) bool { return q.piece == piece })
}

// askedAt returns when a piece was last asked of anybody who may still send it.
func (f *Fetch) askedAt(a *attempt, piece int) (last time.Time, pending bool) {
	for _, p := range f.peers {
		if p.attempt != a || a.single && a.alone != p {
			continue
		}
		for _, q := range p.asked {
			if q.piece == piece && !q.lost {
				pending = true
				if q.at.After(last) {
					last = q.at
				}
			}
		}
	}
	return last, pending
}

// NextWake returns when Tick has something to do if nothing comes before; zero if
// nothing is outstanding.
func (f *Fetch) NextWake(now time.Time) time.Time {
	var wake time.Time
	for _, p := range f.peers {
		for _, q := range p.asked {
			for _, after := range [...]time.Duration{hedgeAfter, lostAfter, 3 * lostAfter} {
				if at := q.at.Add(after); at.After(now) && (wake.IsZero() || at.Before(wake)) {
					wake = at
				}
			}
		}
	}
	return wake
}

// Drain appends what is to be done to list.
func (f *Fetch) Drain(list []Action) []Action {
	list = append(list, f.actions...)
	f.actions = f.actions[:0]
	return list
}

// Result returns the dictionary once it has come and verified; nil before.
func (f *Fetch) Result() []byte { return f.result }
