package dht

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Service is our node of the DHT, or two: one of each address family (BEP 32).
// Nothing happens until Serve, which a supervisor calls. Safe for concurrent use.
type Service struct {
	// Set at start, read-only after.
	o        Options
	log      *slog.Logger
	families []*family
	places   chan struct{} // one for each look-up under way

	mu     sync.Mutex
	saved  saved // what Save was given last
	better chan struct{}
}

// Look-ups at a time. Each asks some 60 nodes within a few seconds; more of them
// only wait for the limit on what is sent.
const maxLookups = 8

// New returns a Service that does nothing until Serve.
func New(o Options) *Service {
	o.fill()
	s := &Service{
		o: o, log: o.Logger.With("part", "dht"),
		places: make(chan struct{}, maxLookups), better: make(chan struct{}),
	}
	for _, a := range o.Addrs {
		s.families = append(s.families, newFamily(s, a))
	}
	return s
}

// String names the service for the supervisor's log.
func (s *Service) String() string { return "dht" }

// saveEvery is how often the table is saved; a crash loses no more than that.
const saveEvery = 5 * time.Minute

// Serve runs the nodes until ctx ends, and returns its error. All goroutines have
// ended by then.
func (s *Service) Serve(ctx context.Context) error {
	s.load()
	var nodes sync.WaitGroup
	for _, f := range s.families {
		nodes.Go(func() { f.serve(ctx) })
	}
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.save()
		case <-ctx.Done():
			nodes.Wait()
			s.save() // with what the nodes left
			return ctx.Err()
		}
	}
}

func (s *Service) load() {
	if s.o.Load == nil {
		return
	}
	b, err := s.o.Load()
	if err == nil && len(b) > 0 {
		var loaded saved
		if loaded, err = parseSaved(b); err == nil {
			s.mu.Lock()
			s.saved = loaded
			s.mu.Unlock()
		}
	}
	if err != nil {
		s.log.Info("saved nodes cannot be used: starting without", "err", err)
	}
}

// save keeps what the families know. Nothing known never replaces something.
func (s *Service) save() {
	var now saved
	for _, f := range s.families {
		*now.half(f.v6) = f.remembered()
	}
	s.mu.Lock()
	changed := s.saved.update(now)
	b := s.saved.marshal()
	s.mu.Unlock()
	if !changed || s.o.Save == nil {
		return
	}
	if err := s.o.Save(b); err != nil {
		s.log.Debug("nodes not saved", "err", err)
	}
}

// ErrNoNodes is why a look-up found nobody to ask.
var ErrNoNodes = errors.New("no node of the DHT is known")

// Lookup asks for the peers of an infohash, passes them to found as they come,
// and, if announce is set and port is not 0, says that we are one of them. Found
// is called from several goroutines; no address comes twice. It takes seconds;
// while many are under way it waits for its turn. The error is ctx's, or
// ErrNoNodes.
func (s *Service) Lookup(ctx context.Context, hash [20]byte, port uint16, announce bool, found func([]netip.AddrPort)) error {
	if !announce {
		port = 0
	}
	return s.each(ctx, func(ctx context.Context, l *life) error {
		return l.lookup(ctx, hash, port, found)
	})
}

// Scrape estimates how many seeds and other peers an infohash has, from what the
// nodes tell that were told of them (BEP 33). They count addresses, so peers
// behind one router are one.
func (s *Service) Scrape(ctx context.Context, hash [20]byte) (seeds, peers int, err error) {
	var mu sync.Mutex
	err = s.each(ctx, func(ctx context.Context, l *life) error {
		sd, pe, err := l.scrape(ctx, hash)
		mu.Lock()
		defer mu.Unlock()
		seeds, peers = seeds+sd, peers+pe
		return err
	})
	return seeds, peers, err
}

// each does something on the nodes of all families at once, again if one of them
// is replaced meanwhile. The error is that of the family that did best.
func (s *Service) each(ctx context.Context, do func(context.Context, *life) error) error {
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	errs := make([]error, len(s.families))
	var wg sync.WaitGroup
	for i, f := range s.families {
		wg.Go(func() { errs[i] = f.do(ctx, do) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, err := range errs {
		if err == nil {
			return nil
		}
	}
	return errors.Join(errs...)
}

// Ping asks a node that somebody told of whether it is there, and remembers it if
// it is. It does not wait, and drops what is too much.
func (s *Service) Ping(addr netip.AddrPort) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	if f := s.family(addr.Addr()); f != nil && reachable(addr) {
		f.ping(addr)
	}
}

func (s *Service) family(a netip.Addr) *family {
	for _, f := range s.families {
		if f.v6 == a.Is6() {
			return f
		}
	}
	return nil
}

// Port returns the UDP port of the node that talks to the family of an address,
// 0 if there is none.
func (s *Service) Port(a netip.Addr) uint16 {
	if f := s.family(a.Unmap()); f != nil {
		return f.localPort()
	}
	return 0
}

// State is how well we are connected.
type State int

const (
	Offline State = iota // no node answers
	Joining              // some are known
	Good                 // the table holds those near us
)

// String is what users see.
func (s State) String() string {
	switch s {
	case Joining:
		return "joining"
	case Good:
		return "good"
	}
	return "offline"
}

// Status is a moment of a Service's life.
type Status struct {
	State State // of the better family
	Nodes int   // in the tables
	Good  int   // of them, have answered within 15 minutes
	Addrs []netip.AddrPort
}

// Status returns how we are connected.
func (s *Service) Status() Status {
	var st Status
	for _, f := range s.families {
		state, nodes, good, addr := f.status()
		st.State = max(st.State, state)
		st.Nodes += nodes
		st.Good += good
		if addr.IsValid() {
			st.Addrs = append(st.Addrs, addr)
		}
	}
	return st
}

// Better returns a channel that is closed when the table has become better: when
// a look-up is worth repeating.
func (s *Service) Better() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.better
}

func (s *Service) improved() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.better)
	s.better = make(chan struct{})
}

func (s *Service) savedFor(v6 bool) half {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.saved.half(v6)
}
