package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"swarmfs/cmd/swarmfs/internal/api"
	"swarmfs/metainfo"
	"swarmfs/swarm"
)

// links are the magnet links of a mount whose torrents are not known yet. Each is
// resolved on a goroutine of its own and then shown; none holds up the mount.
type links struct {
	ctx   context.Context // set before the first is followed
	group sync.WaitGroup

	mu   sync.Mutex
	list []*link // in the order of coming
}

// link is one of them.
type link struct {
	loaded
	since  time.Time
	cancel context.CancelFunc

	failure error // guarded by links.mu: what came cannot be shown; nothing more is tried
}

// hash is what the link is known by.
func (l *link) hash() metainfo.Hash { return l.magnet.Hash }

// name is what a person sees of it.
func (l *link) name() string {
	if l.magnet.Name != "" {
		return l.magnet.Name
	}
	return l.hash().String()
}

// follow has a link resolved and shown, unless it is under way already.
func (m *mounter) follow(t loaded) error {
	if !t.magnet.HasV1 {
		return failf(exitInput, "read %s: it names a v2 torrent only, which is not supported: find one with a v1 infohash", t.label)
	}
	ls := &m.links
	ctx, cancel := context.WithCancel(ls.ctx)
	l := &link{loaded: t, since: time.Now(), cancel: cancel}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if i := slices.IndexFunc(ls.list, func(o *link) bool { return o.hash() == l.hash() }); i >= 0 {
		if ls.list[i].failure == nil {
			cancel()
			return failf(exitInput, "add %s: it is being resolved already", t.label)
		}
		ls.list = slices.Delete(ls.list, i, i+1)
	}
	ls.list = append(ls.list, l)
	ls.group.Go(func() {
		defer cancel()
		m.bring(ctx, l)
	})
	return nil
}

// bring shows the torrent of a link once it is known.
func (m *mounter) bring(ctx context.Context, l *link) {
	t, err := m.resolve(ctx, l)
	if err == nil {
		var name string
		if name, err = m.addTorrent(t); err == nil {
			m.log.Info("magnet link resolved", "link", l.hash(), "name", name)
			m.saveSoon()
		}
	}
	if ctx.Err() != nil || err == nil {
		m.links.forget(l)
		return
	}
	m.log.Warn("magnet link cannot be used", "link", l.hash(), "error", err)
	m.links.mu.Lock()
	l.failure = err
	m.links.mu.Unlock()
}

// resolve finds the torrent of a link among its peers, and at the addresses that
// it names; whoever comes first.
func (m *mounter) resolve(ctx context.Context, l *link) (loaded, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		loaded
		err error
	}
	outcomes := make(chan outcome, 2)
	var ways sync.WaitGroup
	defer ways.Wait()
	defer cancel()
	ways.Go(func() {
		t, err := m.fromPeers(ctx, l)
		outcomes <- outcome{t, err}
	})
	ways.Go(func() {
		t, err := fromSources(ctx, l.magnet, m.nets)
		if err != nil { // peers may still have it: that one outcome decides
			m.log.Debug("no .torrent where the link says", "link", l.hash(), "error", err)
			return
		}
		outcomes <- outcome{t, nil}
	})
	first := <-outcomes
	first.label = l.label
	return first.loaded, first.err
}

func (m *mounter) fromPeers(ctx context.Context, l *link) (loaded, error) {
	peers := literalPeers(l.magnet.Peers)
	to := swarm.Link{Hash: l.hash(), Private: l.magnet.Private, Peers: slices.Concat(peers, m.peers)}
	for _, tr := range l.magnet.Trackers {
		to.Trackers = append(to.Trackers, []string{tr})
	}
	r, err := m.session.Resolve(ctx, to)
	if err != nil {
		return loaded{}, inputCause(err)
	}
	t := &metainfo.Torrent{Info: r.Info}
	if !matches(l.magnet, t) {
		return loaded{}, errors.New("its two infohashes are those of different torrents")
	}
	if r.Info.Private {
		// Its trackers are those of the link: there is nothing else to know them by.
		t.Trackers = to.Trackers
	}
	found := fromMagnet(l.magnet, t)
	found.peers = slices.Concat(found.peers, r.Peers)
	return found, nil
}

// forget drops a link from the list.
func (ls *links) forget(l *link) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.list = slices.DeleteFunc(ls.list, func(o *link) bool { return o == l })
}

// take drops the link that somebody named, by infohash or by name, and returns it.
func (ls *links) take(arg string) *link {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for i, l := range ls.list {
		if strings.EqualFold(l.hash().String(), arg) || l.name() == arg {
			ls.list = slices.Delete(ls.list, i, i+1)
			l.cancel()
			return l
		}
	}
	return nil
}

// end waits for all links, whose context has ended.
func (ls *links) end() { ls.group.Wait() }

// linksReport is what is known of the links.
func (m *mounter) linksReport() []api.Link {
	m.links.mu.Lock()
	defer m.links.mu.Unlock()
	now := time.Now()
	reports := make([]api.Link, 0, len(m.links.list))
	for _, l := range m.links.list {
		peers, _ := m.session.Resolving(l.hash())
		r := api.Link{Name: l.name(), Infohash: l.hash().String(), Since: l.since.UTC(), Waited: seconds(now.Sub(l.since)), Peers: peers}
		r.Trackers, r.NoPeers = trackersReport(now, m.session.TrackersOf(l.hash()), peers)
		if l.failure != nil {
			r.Failed = l.failure.Error()
		}
		reports = append(reports, r)
	}
	return reports
}

// linkText is a line about a link.
func linkText(l *api.Link) string {
	if l.Failed != "" {
		return fmt.Sprintf("%s: cannot be used: %s", printable(l.Name), printable(l.Failed))
	}
	return withNoPeers(fmt.Sprintf("%s: no metadata yet, %s, for %s", printable(l.Name), plural(l.Peers, "peer"), secondsText(l.Waited)), l.NoPeers)
}
