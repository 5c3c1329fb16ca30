package main

import (
	"context"
	"errors"
	"time"

	"swarmfs/metainfo"
)

// offerCached lets the torrents of the mount use pieces that the cache holds of others,
// which were in an earlier mount: at the start and when one is added, until ctx ends.
// It rests as long as it worked.
func (m *mounter) offerCached(ctx context.Context) {
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		for _, id := range m.store.Unopened() {
			select {
			case <-rest.C:
			case <-ctx.Done():
				return
			}
			began := time.Now()
			if err := m.offer(id); err != nil {
				m.log.Debug("cached pieces are not offered to other torrents", "infohash", metainfo.Hash(id), "error", err)
			}
			rest.Reset(time.Since(began))
		}
		select {
		case <-m.added:
		case <-ctx.Done():
			return
		}
	}
}

func (m *mounter) offer(id metainfo.Hash) error {
	data, err := m.state.Get(id)
	if err != nil {
		return err
	}
	t, err := metainfo.Parse(data)
	if err != nil {
		return err
	}
	if t.Info.Hash != id {
		return errors.New("it is stored as another torrent")
	}
	return m.store.Offer(id, geometry(t.Info))
}
