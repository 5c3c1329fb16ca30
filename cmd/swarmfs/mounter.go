package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/thejerf/suture/v4"

	"swarmfs/cache"
	"swarmfs/fs"
	"swarmfs/swarm"
)

// closeStore bounds how long the cache may take in the end to write what it
// holds in memory. What is not written by then is fetched again.
const closeStore = 5 * time.Second

// mounter is one run of the mount command.
type mounter struct {
	// Set at start, read-only after.
	flags   *mountFlags
	std     *streams
	sources []string
	dir     string // absolute
	realDir string // without symbolic links
	log     *slog.Logger
	daemon  *daemon // nil in the foreground

	// Set by run before there is a mount, read-only after.
	reads *readLog // nil: not asked for

	// Set by prepare, in this order; read-only after.
	store   *cache.Store
	state   *cache.State
	imports *cache.Imports // nil: no --import
	nets    nets
	session *swarm.Session
	server  *fs.Server
	peers   []netip.AddrPort // --peer
	started time.Time

	// Owned by saveState, which one goroutine at a time calls.
	unsaved error // why the last one did not save

	links links
	// saveNow wakes the saver; 1 deep.
	saveNow chan struct{}
	// added wakes who offers it what the cache holds of others; 1 deep.
	added chan struct{}

	// changing is held while torrents, pins or limits change, one change at a time.
	changing sync.Mutex

	// mu is a leaf: requests of the kernel take it to list .swarmfs.
	mu     sync.Mutex
	shown  []*shownTorrent  // replaced, never changed in place
	status []fs.VirtualFile // the same
}

// run mounts, says so, and serves until a signal or an unmount. Everything it
// started has ended when it returns.
func (m *mounter) run(ctx context.Context) error {
	// Whoever reads our output and goes away must not take the mount along.
	signal.Ignore(syscall.SIGPIPE)
	tuneMemory()

	hurry, stopHurry := secondSignal()
	defer stopHurry()
	defer m.closeStore(hurry)
	defer m.closeImports() // when what is known of them has been stored

	torrents, peers, err := m.prepare(ctx)
	if err != nil {
		return err
	}
	if path := m.flags.readLog; path != "" {
		if m.reads, err = startReadLog(path, m.dir, m.log); err != nil {
			return err
		}
		defer m.reads.close()
	}

	linking, stopLinking := context.WithCancel(ctx)
	m.links.ctx = linking
	defer m.links.end() // when the control socket can bring no more

	root := newSupervisor(m.log)
	root.Add(m.session)
	serving := startServices(ctx, root)
	defer m.saveState(ctx) // the last counters, when nothing counts any more
	defer serving.stop(hurry)

	defer stopLinking()
	m.peers = peers
	unknown := slices.DeleteFunc(slices.Clone(torrents), func(t loaded) bool { return t.torrent != nil })
	torrents = slices.DeleteFunc(torrents, func(t loaded) bool { return t.torrent == nil })
	if err := m.show(torrents); err != nil {
		return err
	}
	if err := m.server.Mount(m.dir); err != nil {
		return err
	}
	root.Add(untilClosed{"mount", m.server.Done()})
	defer m.unmount(hurry)
	m.control(root)
	if m.imports != nil {
		root.Add(m.imports)
	}

	for _, t := range unknown {
		if err := m.follow(t); err != nil {
			m.log.Warn("source skipped", "source", t.label, "error", err)
		}
	}
	if err := m.sayReady(); err != nil {
		return err
	}
	defer m.settle(ctx)()

	select {
	case <-ctx.Done():
		m.log.Info("stopping", "dir", m.dir)
	case <-serving.ended:
		if !errors.Is(serving.err, suture.ErrTerminateSupervisorTree) {
			return fmt.Errorf("serve %s: %w", m.dir, serving.err)
		}
		m.log.Info("unmounted from outside", "dir", m.dir)
	}
	return nil
}

// prepare opens the data folder, reads the sources, and listens.
func (m *mounter) prepare(ctx context.Context) ([]loaded, []netip.AddrPort, error) {
	f := m.flags
	m.started = time.Now()
	var err error
	m.store, err = cache.Open(cache.Options{Dir: f.data, Budget: f.cacheSize, MinFree: f.minFree, Memory: f.memory, Logger: m.log})
	if err != nil {
		return nil, nil, dataError(err)
	}
	if m.state, err = cache.OpenState(f.data, m.log); err != nil {
		return nil, nil, dataError(err)
	}
	if len(f.imports) > 0 {
		m.imports = cache.NewImports(m.log)
	}
	m.nets = f.networks(m.log)
	l := &loader{stdin: m.std.in, state: m.state, links: true, nets: m.nets, warn: func(label string, err error) {
		m.log.Warn("source skipped", "source", label, "error", err)
	}}
	torrents, err := l.loadAll(ctx, m.sources)
	if err != nil {
		return nil, nil, err
	}
	peers, err := f.resolvePeers(ctx, m.nets.own)
	if err != nil {
		return nil, nil, err
	}
	background, err := swarm.ParseBackground(f.background)
	if err != nil {
		return nil, nil, failf(exitUsage, "mount: %w", err)
	}
	f.nodeFile = filepath.Join(f.data, nodeFileName)
	m.session, err = f.newSession(swarm.Options{
		Network: m.nets.own,
		Store:   m.store, ReadTimeout: f.readWait(), Background: background,
	}, m.log)
	return torrents, peers, err
}

// show puts all torrents into the tree, before there is a mount: nobody ever
// sees a part of it.
func (m *mounter) show(torrents []loaded) error {
	o := fs.Options{AllowOther: m.flags.allowOther, Files: m.statusFiles, Logger: m.log}
	if m.reads != nil {
		o.Observe = m.reads.observe
	}
	m.server = fs.New(o)
	named := m.named(torrents)
	m.keepPins(named)
	for _, t := range named {
		if err := m.showOne(t); err != nil {
			return err
		}
		m.shown = append(m.shown, t)
	}
	m.makeStatusFiles()
	return nil
}

// showOne starts a torrent and puts it into the tree. m.mu is not held: the
// kernel may ask for something first.
func (m *mounter) showOne(t *shownTorrent) error {
	o := swarm.AddOptions{
		Peers: slices.Concat(t.peers, m.peers), Select: t.wanted,
		Uploaded: t.record.Uploaded, Downloaded: t.record.Downloaded,
	}
	if m.imports != nil {
		if err := m.openImported(t); err != nil {
			return fmt.Errorf("add %s: %w", t.label, err)
		}
		o.Volume = t.imported
	}
	run, err := m.session.Add(t.torrent, o)
	if err != nil {
		return fmt.Errorf("add %s: %w", t.label, err)
	}
	t.run = run
	t.name, err = m.server.Add(treeTorrent{run, t.torrent.CreationDate}, t.record.Name)
	if err != nil {
		return failf(exitInput, "add %s: %w", t.label, err)
	}
	t.restorePins()
	return nil
}

// torrents returns those that are shown now. The list does not change.
func (m *mounter) torrents() []*shownTorrent {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.shown
}

// sayReady prints the ready line, and lets the starter of a daemon go.
func (m *mounter) sayReady() error {
	var total uint64
	for _, t := range m.torrents() {
		total += uint64(t.torrent.Info.Length)
	}
	line := fmt.Sprintf("ready: %s, %s at %s (pid %d)",
		plural(len(m.torrents()), "torrent"), humanize.IBytes(total), printable(m.dir), os.Getpid())
	if n := len(m.linksReport()); n > 0 {
		line += ", " + plural(n, "magnet link") + " to come"
	}
	if m.daemon != nil {
		return m.daemon.detach(line)
	}
	// Nobody may be listening any more: the mount is there all the same.
	_, _ = fmt.Fprintln(m.std.out, line)
	return nil
}

// settle does what would have held up the mount, and what comes up every now
// and then. The function it returns ends that, and waits for it.
func (m *mounter) settle(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var chores sync.WaitGroup
	chores.Go(func() {
		m.state.Check(ctx)
		m.saveState(ctx)
		debug.FreeOSMemory() // parsing leaves ten times a torrent's size behind
		m.saveStateEvery(ctx, stateEvery)
	})
	chores.Go(func() { m.offerCached(ctx) })
	return func() {
		cancel()
		chores.Wait()
	}
}

// unmount ends the mount: waiting reads fail, and a busy mount is detached.
func (m *mounter) unmount(hurry context.Context) {
	if err := m.server.Close(hurry); err != nil {
		m.log.Warn("mount left behind", "error", err)
	}
}

// closeImports closes the imported files.
func (m *mounter) closeImports() {
	if m.imports == nil {
		return
	}
	if err := m.imports.Close(); err != nil {
		m.log.Debug("imported files do not close well", "error", err)
	}
}

// closeStore writes what the cache still holds in memory.
func (m *mounter) closeStore(hurry context.Context) {
	if m.store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(hurry, closeStore)
	defer cancel()
	if err := m.store.Close(ctx); err != nil {
		m.log.Warn("cache not closed", "error", err)
	}
}

// heapShare is how much the heap may grow before it is collected, in percent
// of what is in use. Pieces are not on the heap, so what is left is small and
// collecting it cheap: 45 times, 1 % of the processor time, for each GiB copied.
const heapShare = 50

// tuneMemory keeps garbage small beside the memory that pieces may take. There
// is no limit besides: the collector would run all the time when a thousand
// torrents need more than that.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapShare)
	}
}

// secondSignal returns a context that ends with the second signal to stop:
// whoever sends it does not want to wait.
func secondSignal() (context.Context, func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(context.Background())
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for range 2 {
			select {
			case <-signals:
			case <-ctx.Done():
				return
			}
		}
		cancel()
	})
	return ctx, func() {
		signal.Stop(signals)
		cancel()
		watcher.Wait()
	}
}
