package main

import (
	"context"
	"errors"
	"fmt"

	"swarmfs/cache"
	"swarmfs/cmd/swarmfs/internal/api"
	"swarmfs/metainfo"
	"swarmfs/swarm"
)

// Pin implements api.Daemon.
func (c *controller) Pin(_ context.Context, of api.Target) (api.Done, error) {
	return c.repin("pin", of, func(t *shownTorrent, files []int) error {
		err := t.run.Pin(files)
		if errors.Is(err, cache.ErrNoPins) || errors.As(err, new(*cache.PinError)) {
			err = withCode(exitData, err)
		}
		return err
	})
}

// Unpin implements api.Daemon.
func (c *controller) Unpin(_ context.Context, of api.Target) (api.Done, error) {
	return c.repin("unpin", of, func(t *shownTorrent, files []int) error {
		t.run.Unpin(files)
		return nil
	})
}

// repin changes what is pinned of a torrent, and remembers it.
func (c *controller) repin(doing string, of api.Target, change func(*shownTorrent, []int) error) (api.Done, error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	p, err := c.find(doing, of)
	if err != nil {
		return api.Done{}, err
	}
	t, files := p.torrent, p.files()
	name := t.nodePath(p.node)
	if err := change(t, files); err != nil {
		return api.Done{}, fmt.Errorf("pin %s: %w", name, err)
	}
	if err := c.rememberPins(t); err != nil {
		return api.Done{}, withCode(exitData, fmt.Errorf("remember pins of %s beyond this run: %w", t.name, err))
	}
	done := api.Done{Name: name}
	pieces, size := p.extent()
	done.Pieces, done.Bytes = len(pieces), size
	return done, nil
}

// rememberPins stores what is pinned of a torrent.
func (m *mounter) rememberPins(t *shownTorrent) error {
	t.remembering.Lock()
	t.record.Pinned = t.run.PinnedFiles()
	t.remembering.Unlock()
	m.state.SetRecord(t.torrent.Info.Hash, t.toRemember())
	return m.state.Save()
}

// keepPins pins in the cache what is remembered as pinned, before anything is
// fetched that could take its place.
func (m *mounter) keepPins(torrents []*shownTorrent) {
	for _, t := range torrents {
		if len(t.record.Pinned) == 0 {
			continue
		}
		info := t.torrent.Info
		v, err := m.store.Volume(info.Hash, geometry(info))
		if err != nil {
			continue // adding the torrent will say so
		}
		var spans []cache.Span
		for _, i := range swarm.Expand(t.record.Pinned, len(info.Files)) {
			first, end := info.Layout().Pieces(info.Files[i].Offset, info.Files[i].Length)
			spans = append(spans, cache.Span{First: first, End: end})
		}
		if err := v.Pin(spans...); err != nil {
			m.log.Warn("pins are not kept", "torrent", info.Name, "error", err)
		}
	}
}

// restorePins has fetched what is remembered as pinned. What could not be kept
// was said by keepPins, and stays remembered.
func (t *shownTorrent) restorePins() {
	if len(t.record.Pinned) > 0 {
		_ = t.run.Pin(swarm.Expand(t.record.Pinned, len(t.torrent.Info.Files)))
	}
}

// files returns the indexes in Info.Files of the files in a place; padding
// counts with a whole torrent.
func (p place) files() []int {
	info := p.torrent.torrent.Info
	if p.node == metainfo.Root {
		all := make([]int, len(info.Files))
		for i := range all {
			all[i] = i
		}
		return all
	}
	tree := info.Tree()
	var files []int
	pending := []metainfo.Node{p.node}
	for len(pending) > 0 {
		n := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		if i := tree.File(n); i >= 0 {
			files = append(files, i)
		}
		pending = append(pending, tree.Children(n)...)
	}
	return files
}

// extent returns the pieces that hold the files, and the bytes of the files.
func (p place) extent() (pieces map[int]bool, size int64) {
	info := p.torrent.torrent.Info
	layout := info.Layout()
	pieces = make(map[int]bool)
	for _, i := range p.files() {
		f := &info.Files[i]
		size += f.Length
		first, end := layout.Pieces(f.Offset, f.Length)
		for piece := first; piece < end; piece++ {
			pieces[piece] = true
		}
	}
	return pieces, size
}
