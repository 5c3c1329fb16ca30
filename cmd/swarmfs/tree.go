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
	run  *swarm.Torrent
	name string // as shown

	remembering sync.Mutex   // guards record
	record      cache.Record // as remembered; zero for a new one
}

// newShown is a torrent with what is remembered of it. What cannot be read is
// not remembered.
func (m *mounter) newShown(t loaded) *shownTorrent {
	s := &shownTorrent{loaded: t}
	if m.state != nil {
		if r, err := m.state.Record(t.torrent.Info.Hash); err == nil {
			s.record = r
		}
	}
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

// remember stores the torrents that are new, and names that are.
func (m *mounter) remember(ctx context.Context) {
	if m.state == nil {
		return
	}
	for _, t := range m.torrents() {
		if ctx.Err() != nil {
			return
		}
		if err := m.rememberOne(t); err != nil {
			if m.store.Degraded() == nil { // else the cache has said it
				m.log.Warn("torrents are not remembered", "error", err)
			}
			return
		}
	}
}

func (m *mounter) rememberOne(t *shownTorrent) error {
	t.remembering.Lock()
	defer t.remembering.Unlock()
	if t.record.Name == t.name {
		return nil
	}
	data, err := t.torrent.Marshal()
	if err != nil {
		return fmt.Errorf("store torrent: %w", err)
	}
	if err := m.state.Put(t.torrent.Info.Hash, data); err != nil {
		return err
	}
	t.record.Name = t.name
	if t.record.Added.IsZero() {
		t.record.Added = time.Now().UTC().Truncate(time.Second)
	}
	return m.state.PutRecord(t.torrent.Info.Hash, t.record)
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
