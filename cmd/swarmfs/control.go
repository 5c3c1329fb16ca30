package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/thejerf/suture/v4"

	"swarmfs/cache"
	"swarmfs/cmd/swarmfs/internal/api"
	"swarmfs/metainfo"
	"swarmfs/swarm"
)

// control puts the control socket into the tree of services. Without one the
// mount works as well; it is made when it can be.
func (m *mounter) control(root *suture.Supervisor) {
	s := api.NewServer(m.flags.data, &controller{m}, exitCode, m.log)
	if err := s.Listen(); err != nil {
		m.log.Debug("no control socket yet", "error", err)
	}
	root.Add(s)
}

// controller does for a mount what comes over its control socket.
type controller struct{ *mounter }

var _ api.Daemon = (*controller)(nil)

// Add implements api.Daemon.
func (c *controller) Add(ctx context.Context, r api.AddRequest) (api.AddReply, error) {
	l := &loader{state: c.state, links: true, nets: c.nets, warn: func(string, error) {}}
	var t loaded
	var err error
	switch {
	case r.Magnet != "":
		t, err = l.magnet(ctx, r.Magnet)
	case r.URL != "":
		var data []byte
		if data, err = l.nets.forUser().fetch(ctx, r.URL); err != nil {
			return api.AddReply{}, failf(exitInput, "fetch %s: %w", r.Label, err)
		}
		t, err = parseTorrent(data)
	default:
		t, err = parseTorrent(r.Torrent)
	}
	if err != nil {
		return api.AddReply{}, failf(exitInput, "read %s: %w", r.Label, inputCause(err))
	}
	t.label = r.Label
	if t.torrent == nil {
		if err := c.shownAlready(&t); err != nil {
			return api.AddReply{}, err
		}
		return api.AddReply{Resolving: true, Name: (&link{loaded: t}).name()}, c.follow(t)
	}
	c.links.take(t.torrent.Info.Hash.String()) // here is what it waits for
	name, err := c.addTorrent(t)
	return api.AddReply{Name: name}, err
}

// shownAlready is the error of adding what is mounted.
func (m *mounter) shownAlready(t *loaded) error {
	hash, _ := t.hash()
	for _, other := range m.torrents() {
		if other.torrent.Info.Hash == hash {
			return failf(exitInput, "add %s: it is mounted already, as %s", t.label, other.name)
		}
	}
	return nil
}

// addTorrent starts and shows a torrent, and returns the name that it got.
func (m *mounter) addTorrent(t loaded) (string, error) {
	m.changing.Lock()
	defer m.changing.Unlock()
	if err := m.shownAlready(&t); err != nil {
		return "", err
	}
	s := m.newShown(t)
	m.keepPins([]*shownTorrent{s})
	if err := m.showOne(s); err != nil {
		if s.run != nil {
			err = errors.Join(err, m.session.Remove(t.torrent.Info.Hash))
		}
		s.closeImported()
		return "", err
	}
	m.replaceShown(append(slices.Clip(m.torrents()), s))
	select {
	case m.added <- struct{}{}:
	default:
	}
	return s.name, nil
}

// Remove implements api.Daemon.
func (c *controller) Remove(_ context.Context, of api.Target) (api.Done, error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	p, err := c.find("rm", of)
	if err != nil {
		if l := c.links.take(of.Arg); l != nil {
			return api.Done{Name: l.name()}, nil
		}
		return api.Done{}, err
	}
	if p.node != metainfo.Root {
		return api.Done{}, failf(exitUsage, "remove %s: it is a part of %s: give the torrent", of.Arg, p.torrent.name)
	}
	t := p.torrent
	if len(t.run.PinnedFiles()) > 0 {
		t.run.Unpin(p.files())
		err = c.rememberPins(t)
	}
	c.server.Remove(t.name)
	c.replaceShown(slices.DeleteFunc(slices.Clone(c.torrents()), func(o *shownTorrent) bool { return o == t }))
	if err := c.session.Remove(t.torrent.Info.Hash); err != nil {
		return api.Done{}, fmt.Errorf("stop %s: %w", t.name, err)
	}
	c.rememberRecord(t) // its last counters
	t.closeImported()
	if err != nil {
		return api.Done{}, withCode(exitData, fmt.Errorf("%s is gone, but its pins will be back: %w", t.name, err))
	}
	return api.Done{Name: t.name}, nil
}

// replaceShown makes a new list the torrents that are shown.
func (m *mounter) replaceShown(list []*shownTorrent) {
	m.mu.Lock()
	m.shown = list
	m.mu.Unlock()
	m.makeStatusFiles()
}

// Limit implements api.Daemon.
func (c *controller) Limit(_ context.Context, r api.LimitRequest) (api.Limits, error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	if r.Torrent != (api.Target{}) {
		return c.limitTorrent(r)
	}
	l, err := changedLimits(c.session.Limits(), r)
	if err != nil {
		return api.Limits{}, err
	}
	seeding := c.session.Seeding()
	if r.Seed != nil {
		if seeding, err = swarm.ParseSeeding(*r.Seed); err != nil {
			return api.Limits{}, failf(exitUsage, "limit --seed %s: %w", printable(*r.Seed), err)
		}
	}
	if r.CacheSize != nil {
		if n := *r.CacheSize; n > 0 && n < cache.MinBudget {
			return api.Limits{}, failf(exitUsage, "limit --cache-size %s: that is too small: give at least %s, or 0 to keep pieces in memory only", formatSize(n), formatSize(cache.MinBudget))
		}
		if err := c.store.SetBudget(*r.CacheSize); err != nil {
			return api.Limits{}, withCode(exitData, fmt.Errorf("limit --cache-size: %w", err))
		}
	}
	c.session.SetLimits(l)
	c.session.SetSeeding(seeding)
	return c.limits(), nil
}

// changedLimits are l with the rates that r changes.
func changedLimits(l swarm.Limits, r api.LimitRequest) (swarm.Limits, error) {
	for _, set := range []struct{ to, limit *int64 }{{r.Upload, &l.Upload}, {r.Download, &l.Download}} {
		if set.to == nil {
			continue
		}
		if *set.to < 0 {
			return l, failf(exitUsage, "limit: %d bytes a second is less than none", *set.to)
		}
		*set.limit = *set.to
	}
	return l, nil
}

// limitTorrent changes the limits of one torrent.
func (c *controller) limitTorrent(r api.LimitRequest) (api.Limits, error) {
	p, err := c.find("limit", r.Torrent)
	if err != nil {
		return api.Limits{}, err
	}
	if p.node != metainfo.Root {
		return api.Limits{}, failf(exitUsage, "limit %s: it is a part of %s: give the torrent", r.Torrent.Arg, p.torrent.name)
	}
	if r.CacheSize != nil {
		return api.Limits{}, failf(exitUsage, "limit --cache-size: the cache is that of all torrents")
	}
	run := p.torrent.run
	l, err := changedLimits(run.Limits(), r)
	if err != nil {
		return api.Limits{}, err
	}
	if r.Seed != nil {
		var own *swarm.Seeding
		if *r.Seed != seedDefault {
			s, err := swarm.ParseSeeding(*r.Seed)
			if err != nil {
				return api.Limits{}, failf(exitUsage, "limit --seed %s: %w, or %s", printable(*r.Seed), err, seedDefault)
			}
			own = &s
		}
		run.SetSeeding(own)
	}
	run.SetLimits(l)
	return api.Limits{Upload: l.Upload, Download: l.Download, CacheSize: c.store.Stats().Budget, Seed: run.Seeding().String()}, nil
}

// seedDefault has a torrent seeded as all are.
const seedDefault = "default"

func (m *mounter) limits() api.Limits {
	l := m.session.Limits()
	return api.Limits{Upload: l.Upload, Download: l.Download, CacheSize: m.store.Stats().Budget, Seed: m.session.Seeding().String()}
}

// place is a torrent in the mount, or a file or folder in it.
type place struct {
	torrent *shownTorrent
	node    metainfo.Node
}

// find looks for what a user named, to do something with it: a path in the mount if there is one, else a
// name in the mount, else an infohash, else a path from the mountpoint on, which
// is how files are shown.
func (m *mounter) find(doing string, of api.Target) (place, error) {
	below, inside := m.below(of.Path)
	if inside && below == "" {
		return place{}, failf(exitUsage, "%s %s: it is the mountpoint: name a torrent or a file in it", doing, of.Arg)
	}
	if inside {
		if p, ok := m.walk(below); ok {
			return p, nil
		}
	}
	for _, t := range m.torrents() {
		if t.name == of.Arg || strings.EqualFold(t.torrent.Info.Hash.String(), of.Arg) {
			return place{t, metainfo.Root}, nil
		}
	}
	if p, ok := m.walk(filepath.Clean(of.Arg)); ok {
		return p, nil
	}
	switch {
	case inside:
		return place{}, failf(exitInput, "%s %s: there is no such file in %s", doing, of.Arg, m.dir)
	case strings.Contains(of.Arg, "/"):
		return place{}, failf(exitInput, "%s %s: it is not in %s: give a path below it, the name of a torrent or an infohash", doing, of.Arg, m.dir)
	default:
		return place{}, failf(exitInput, "%s %s: no torrent of that name or infohash is mounted at %s", doing, of.Arg, m.dir)
	}
}

// below returns what a path is relative to the mountpoint.
func (m *mounter) below(path string) (string, bool) {
	if !filepath.IsAbs(path) {
		return "", false
	}
	for _, dir := range []string{m.dir, m.realDir} {
		rel, err := filepath.Rel(dir, path)
		switch {
		case err != nil || !filepath.IsLocal(rel):
		case rel == ".":
			return "", true
		default:
			return rel, true
		}
	}
	return "", false
}

// walk follows a path below the mountpoint.
func (m *mounter) walk(path string) (place, bool) {
	name, rest, _ := strings.Cut(path, string(os.PathSeparator))
	for _, t := range m.torrents() {
		if t.name != name {
			continue
		}
		tree, node := t.torrent.Info.Tree(), metainfo.Root
		for part := range strings.SplitSeq(rest, string(os.PathSeparator)) {
			if part == "" {
				continue
			}
			var ok bool
			if node, ok = tree.Lookup(node, part); !ok {
				return place{}, false
			}
		}
		return place{t, node}, true
	}
	return place{}, false
}
