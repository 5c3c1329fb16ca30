package engine

import (
	"crypto/sha1"
	"slices"
)

// BlockDigest identifies the content of one block: the first half of its SHA-1.
type BlockDigest [10]byte

// Digest returns the digest of a block's bytes.
func Digest(p []byte) BlockDigest {
	sum := sha1.Sum(p)
	return BlockDigest(sum[:len(BlockDigest{})])
}

// smartBan remembers who sent which block of a piece that did not verify. When
// the piece verifies later, whoever sent something else then is guilty, and
// nobody but them. Until then it is asked of one peer at a time: if it fails
// again that one is guilty, so that every failure but the first convicts
// somebody and nobody can spoil a piece for ever by a share in it. (The ideas
// are libtorrent's smart ban and parole.)
type smartBan struct {
	suspects map[int][]suspect // by piece
	order    []int             // the pieces, oldest failure first
}

type suspect struct {
	block  int
	peer   PeerID
	digest BlockDigest
}

// Pieces whose senders are remembered at a time, the latest to fail, and blocks
// of each over all its failures: bounds of memory, not of justice.
const (
	maxSuspectPieces = 64
	maxSuspectBlocks = 8192
)

func (b *smartBan) suspected(piece int) bool { return len(b.suspects[piece]) > 0 }

// failed finds out whom to blame for a piece that did not verify, and makes it
// free again. Without digests it was thrown away for a reason of our own, and
// nobody is to blame.
func (e *Engine) failed(t *partial, digests []BlockDigest) {
	e.stats.Failed += int64(e.layout.PieceSize(t.piece))
	if len(digests) == len(t.blocks) {
		alone := true
		for i := range t.blocks {
			alone = alone && t.blocks[i].from == t.blocks[0].from
		}
		if alone {
			e.convict(t.blocks[0].from, t.piece)
		} else {
			e.suspect(t, digests)
		}
	}
	e.cfg.Drafts.Discard(t.piece)
	e.closePartial(t)
	e.free.Set(t.piece)
	e.enlist(t.piece)
	e.refused = tierUnwanted
}

func (e *Engine) suspect(t *partial, digests []BlockDigest) {
	b := &e.ban
	if b.suspects == nil {
		b.suspects = map[int][]suspect{}
	}
	if b.suspects[t.piece] == nil {
		if len(b.order) >= maxSuspectPieces {
			b.forget(b.order[0])
		}
		b.order = append(b.order, t.piece)
	}
	for i := range t.blocks {
		if len(b.suspects[t.piece]) >= maxSuspectBlocks {
			return
		}
		b.suspects[t.piece] = append(b.suspects[t.piece], suspect{i, t.blocks[i].from, digests[i]})
	}
}

func (b *smartBan) forget(piece int) {
	if !b.suspected(piece) {
		return
	}
	delete(b.suspects, piece)
	b.order = slices.DeleteFunc(b.order, func(i int) bool { return i == piece })
}

// acquit compares a piece that verified with what was sent before, and reports
// whether somebody was guilty.
func (e *Engine) acquit(t *partial, digests []BlockDigest) bool {
	var guilty []PeerID
	for _, s := range e.ban.suspects[t.piece] {
		if s.block < len(digests) && digests[s.block] != s.digest && !slices.Contains(guilty, s.peer) {
			guilty = append(guilty, s.peer)
			e.convict(s.peer, t.piece)
		}
	}
	e.ban.forget(t.piece)
	return len(guilty) > 0
}

// convict bans a peer for a piece, gone or not: the driver knows its address.
func (e *Engine) convict(id PeerID, piece int) {
	p := e.byID[id]
	if p != nil && p.dropped {
		return
	}
	e.stats.Bans++
	if p != nil {
		p.dropped = true
		e.setIdle(p)
	}
	e.out = append(e.out, Action{Kind: Drop, Peer: id, Piece: piece, Ban: true, Reason: "sent a block that does not verify"})
}

// setIdle gives back what is asked of a peer that is about to go.
func (e *Engine) setIdle(p *peer) {
	e.releaseAll(p)
	p.choking = true
	p.queue = nil
	p.wantsUs = false
}
