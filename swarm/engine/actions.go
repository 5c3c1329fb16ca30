package engine

import "swarmfs/swarm/wire"

// PeerID names one connection. The driver counts them up and never uses one
// twice in the life of an Engine; inputs for an unknown one are ignored.
type PeerID uint32

// ReaderID names one open reader, under the same rule as PeerID.
type ReaderID uint32

// ActionKind says what the driver is asked to do.
type ActionKind uint8

const (
	// Send asks to send Msg to Peer. Msg.Data, if any, is only valid until the
	// next input.
	Send ActionKind = iota + 1
	// Upload asks to read the block Msg.Index, Msg.Begin, Msg.Length and send it
	// to Peer, then to report it with Uploaded.
	Upload
	// Verify asks to check the complete draft of Piece and to report Verified;
	// with block digests when Digests is set.
	Verify
	// Drop asks to close the connection to Peer for Reason, and not to let the
	// address in again when Ban is set: what it sent of Piece does not verify.
	Drop
	// Completed says that the last missing piece was verified.
	Completed
)

// Action is one output of the Engine.
type Action struct {
	Kind    ActionKind
	Ban     bool
	Digests bool
	Peer    PeerID
	Piece   int
	Msg     wire.Message
	Reason  string
}

// Drain appends the actions that have piled up to dst, in order, and forgets
// them. The driver calls it once after a batch of inputs.
func (e *Engine) Drain(dst []Action) []Action {
	dst = append(dst, e.out...)
	e.out = e.out[:0]
	return dst
}

func (e *Engine) send(p *peer, m wire.Message) {
	e.out = append(e.out, Action{Kind: Send, Peer: p.id, Msg: m})
}

func (e *Engine) drop(p *peer, ban bool, reason string) {
	if p.dropped {
		return
	}
	p.dropped = true
	e.out = append(e.out, Action{Kind: Drop, Peer: p.id, Ban: ban, Reason: reason})
}
