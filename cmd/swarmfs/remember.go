package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"swarmfs/cache"
)

// stateEvery is how often what is to be remembered is stored, if it has
// changed: what a crash may cost of the counters, and nothing else.
const stateEvery = time.Minute

// saveStateEvery calls saveState until ctx ends.
func (m *mounter) saveStateEvery(ctx context.Context, period time.Duration) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.saveState(ctx)
		case <-m.saveNow:
			m.saveState(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// saveSoon has the state saved at once: something came that was hard to get.
func (m *mounter) saveSoon() {
	select {
	case m.saveNow <- struct{}{}:
	default:
	}
}

// saveState stores the torrents that are new, and the names and counters of all.
// It is called by one goroutine at a time. A failure is logged once until it
// works again. When ctx has ended no new torrent is stored.
func (m *mounter) saveState(ctx context.Context) {
	m.state.Refresh()
	var err error
	for _, t := range m.torrents() {
		// What fails for one fails for the next: do not try it a thousand times.
		if err == nil && ctx.Err() == nil {
			err = m.rememberMetainfo(t)
		}
		m.rememberRecord(t)
	}
	err = errors.Join(err, m.state.Save())
	if err != nil && m.unsaved == nil && m.store.Degraded() == nil { // else the cache has said it
		m.log.Warn("torrents are not remembered", "error", err)
	}
	m.unsaved = err
}

func (m *mounter) rememberMetainfo(t *shownTorrent) error {
	hash := t.torrent.Info.Hash
	if m.state.Sealed(hash) {
		return nil
	}
	data, err := t.torrent.Marshal()
	if err != nil {
		return fmt.Errorf("store torrent: %w", err)
	}
	return m.state.Put(hash, data)
}

// rememberRecord notes a torrent's name and counters, for the next Save.
func (m *mounter) rememberRecord(t *shownTorrent) {
	t.remembering.Lock()
	if t.record.Added.IsZero() {
		t.record.Added = time.Now().UTC().Truncate(time.Second)
	}
	t.remembering.Unlock()
	m.state.SetRecord(t.torrent.Info.Hash, t.toRemember())
}

// toRemember is the record of now in full.
func (t *shownTorrent) toRemember() cache.Record {
	r := t.remembered()
	if t.imported != nil {
		r.Imported = t.imported.Record()
	}
	return r
}

// remembered is the record of now, with the counters of this run.
func (t *shownTorrent) remembered() cache.Record {
	t.remembering.Lock()
	defer t.remembering.Unlock()
	r, s := t.record, t.run.Stats()
	r.Name = t.name
	r.Uploaded += s.Uploaded
	r.Downloaded += s.Downloaded + s.Duplicate + s.Unasked
	r.Wasted += s.Failed + s.Discarded + s.Unasked + s.Duplicate
	return r
}
