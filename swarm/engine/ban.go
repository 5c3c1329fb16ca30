package engine

import "crypto/sha1"

// BlockDigest identifies the content of one block: the first half of its SHA-1.
type BlockDigest [10]byte

// Digest returns the digest of a block's bytes.
func Digest(p []byte) BlockDigest {
	sum := sha1.Sum(p)
	return BlockDigest(sum[:len(BlockDigest{})])
}

// smartBan remembers who sent which block of a piece that did not verify. When
// the piece verifies later, whoever sent something else then is guilty, and
// nobody but them. (The idea is libtorrent's.)
type smartBan struct {
	suspects map[int][]suspect // by piece
}

type suspect struct {
	block  int
	peer   PeerID
	digest BlockDigest
}

// Pieces whose senders are remembered at a time, and blocks of each over all
// its failures: bounds of memory, not of justice.
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
			e.convict(t.blocks[0].from)
		} else {
			e.suspect(t, digests)
		}
	}
	e.cfg.Drafts.Discard(t.piece)
	e.closePartial(t)
	e.free.Set(t.piece)
	e.enlist(t.piece)
}

func (e *Engine) suspect(t *partial, digests []BlockDigest) {
	b := &e.ban
	if b.suspects == nil {
		b.suspects = map[int][]suspect{}
	}
	if b.suspects[t.piece] == nil && len(b.suspects) >= maxSuspectPieces {
		return
	}
	for i := range t.blocks {
		if len(b.suspects[t.piece]) >= maxSuspectBlocks {
			return
		}
		b.suspects[t.piece] = append(b.suspects[t.piece], suspect{i, t.blocks[i].from, digests[i]})
	}
}

// acquit compares a piece that verified with what was sent before.
func (e *Engine) acquit(t *partial, digests []BlockDigest) {
	list := e.ban.suspects[t.piece]
	delete(e.ban.suspects, t.piece)
	for _, s := range list {
		if s.block < len(digests) && digests[s.block] != s.digest {
			e.convict(s.peer)
		}
	}
}

// convict bans a peer, gone or not: the driver knows its address.
func (e *Engine) convict(id PeerID) {
	p := e.byID[id]
	if p != nil && p.dropped {
		return
	}
	e.stats.Bans++
	if p != nil {
		p.dropped = true
		e.setIdle(p)
	}
	e.out = append(e.out, Action{Kind: Drop, Peer: id, Ban: true, Reason: "sent a block that does not verify"})
}

// setIdle gives back what is asked of a peer that is about to go.
func (e *Engine) setIdle(p *peer) {
	e.releaseAll(p)
	if !p.choking {
		p.choking = true
	}
	p.queue = nil
	p.wantsUs = false
}
