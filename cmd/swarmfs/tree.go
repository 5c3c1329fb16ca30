package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"swarmfs/cache"
	"swarmfs/fs"
	"swarmfs/swarm"
)

// shownTorrent is a torrent in the mount.
type shownTorrent struct {
	loaded
	run      *swarm.Torrent
	name     string          // as shown
	imported *cache.Imported // its volume; nil: no --import

	remembering sync.Mutex // guards record
	// record is what was remembered when the torrent was added; its pins are
	// those of now. See remembered.
	record cache.Record
}

// newShown is a torrent with what is remembered of it.
func (m *mounter) newShown(t loaded) *shownTorrent {
	s := &shownTorrent{loaded: t}
	s.record, _ = m.state.Record(t.torrent.Info.Hash)
	return s
}

// named returns the torrents in the order in which they choose their names:
// first those that had one before, so that of two of the same name each keeps
// what it had, whatever is added.
func (m *mounter) named(torrents []loaded) []*shownTorrent {
	all := make([]*shownTorrent, len(torrents))
	for i, t := range torrents {
		all[i] = m.newShown(t)
	}
	slices.SortStableFunc(all, func(a, b *shownTorrent) int {
		switch {
		case a.record.Name != "" && b.record.Name == "":
			return -1
		case a.record.Name == "" && b.record.Name != "":
			return 1
		default:
			return 0
		}
	})
	return all
}

// treeTorrent shows a swarm's torrent to fs.
type treeTorrent struct {
	*swarm.Torrent
	created time.Time
}

var _ fs.Torrent = treeTorrent{}

// Created is part of fs.Torrent.
func (t treeTorrent) Created() time.Time { return t.created }

// Open is part of fs.Torrent.
func (t treeTorrent) Open(file int) (fs.File, error) {
	r, err := t.Torrent.Open(file)
	if err != nil {
		return nil, treeError(err)
	}
	return treeFile{r}, nil
}

// treeFile shows a swarm's reader to fs.
type treeFile struct{ *swarm.Reader }

// ReadAt is part of fs.File.
func (f treeFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := f.Reader.ReadAt(ctx, p, off)
	return n, treeError(err)
}

// treeError tells fs what an error of swarm means to a reader.
func treeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, swarm.ErrTimeout):
		return fmt.Errorf("%w: %w", fs.ErrTimeout, err)
	case errors.Is(err, swarm.ErrClosed):
		return fmt.Errorf("%w: %w", fs.ErrGone, err)
	default:
		return err
	}
}
