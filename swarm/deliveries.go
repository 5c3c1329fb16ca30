package swarm

import (
	"fmt"

	"swarmfs/metainfo"
	"swarmfs/swarm/engine"
	"swarmfs/swarm/wire"
)

// deliveries puts the blocks that one peer sent into their drafts, and tells the
// loop of them together. It belongs to one goroutine.
type deliveries struct {
	run *run
	id  engine.PeerID
	got *arrived // blocks not yet reported
}

// take puts a block that was asked for into its draft.
func (d *deliveries) take(m wire.Message, data []byte) error {
	g := engine.Got{Piece: int(m.Index), Block: int(m.Begin / metainfo.BlockSize)}
	if draft, ok := d.run.drafts.get(g.Piece); ok {
		kept, err := draft.WriteBlock(int(m.Begin), data)
		if err != nil && !isEnded(err) {
			return fmt.Errorf("take block %d of piece %d: %w", g.Block, g.Piece, err)
		}
		g.Kept, g.Gen = kept, draft.gen
	}
	if d.got == nil {
		d.got = arrivals.Get().(*arrived)
		d.got.id, d.got.got = d.id, d.got.got[:0]
	}
	d.got.got = append(d.got.got, g)
	if len(d.got.got) == cap(d.got.got) {
		return d.flush()
	}
	return nil
}

// flush reports what has not been reported.
func (d *deliveries) flush() error {
	if d.got == nil {
		return nil
	}
	got := d.got
	d.got = nil
	return d.run.post(d.run.ctx, got)
}
