package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"swarmfs/cache"
	"swarmfs/cmd/swarmfs/internal/api"
)

// scrubTime is how long one request to verify works and rests. Who asked goes on
// from where it ended, and stops by not asking again.
const scrubTime = 500 * time.Millisecond

// Verify implements api.Daemon. It checks all of a torrent, also for a part of it, one
// piece at a time, and rests for as long as that took: no more than half of one
// processor and of one disk.
func (c *controller) Verify(ctx context.Context, r api.VerifyRequest) (api.VerifyReply, error) {
	p, err := c.find("verify", r.Target)
	if err != nil {
		return api.VerifyReply{}, err
	}
	info := p.torrent.torrent.Info
	volume, err := c.checkable(p.torrent)
	if err != nil {
		return api.VerifyReply{}, fmt.Errorf("verify %s: %w", p.torrent.name, err)
	}
	layout := info.Layout()
	reply := api.VerifyReply{Name: p.torrent.name, Pieces: layout.NumPieces(), Bytes: info.Length, Next: max(r.Piece, 0)}
	for end := time.Now().Add(scrubTime); reply.Next < reply.Pieces && time.Now().Before(end); reply.Next++ {
		if !volume.Has(reply.Next) {
			reply.Missing++
			continue
		}
		began := time.Now()
		switch err := volume.Check(reply.Next); {
		case err == nil:
			reply.Good++
		case errors.Is(err, cache.ErrMissing):
			reply.Bad++
		default:
			return reply, fmt.Errorf("verify %s: %w", p.torrent.name, err)
		}
		select {
		case <-time.After(time.Since(began)):
		case <-ctx.Done():
			return reply, context.Cause(ctx)
		}
	}
	reply.Done = min(int64(reply.Next)*info.PieceLength, info.Length)
	return reply, nil
}

// checkable is a volume whose pieces can be hashed as they lie on the disk.
type checkable interface {
	Has(piece int) bool
	Check(piece int) error
}

func (m *mounter) checkable(t *shownTorrent) (checkable, error) {
	if t.imported != nil {
		return t.imported, nil
	}
	return m.store.Volume(t.torrent.Info.Hash, geometry(t.torrent.Info))
}
