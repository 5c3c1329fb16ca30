package lsd

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Options of a Service. The zero value of a field means its default.
type Options struct {
	// Port is where peers reach us; 0: nothing is announced. Nil: 0.
	Port func() uint16
	// Interfaces are where to announce and to listen; they are asked for again
	// every minute. Default: Everywhere.
	Interfaces func() ([]net.Interface, error)
	// Logger gets what happens; nil: nobody.
	Logger *slog.Logger
}

// Service announces torrents on the local network and hears of those who have
// them. It is safe for concurrent use.
type Service struct {
	// Set at start, read-only after.
	opts   Options
	cookie string
	joined chan struct{} // 1 deep: a search has begun

	mu       sync.Mutex
	schedule schedule
	sockets  map[place]*socket
}

// place is one interface, for one family.
type place struct {
	index int
	group netip.AddrPort
}

// heard is one peer that has a torrent.
type heard = netip.AddrPort

// Bounds on what others may take of us: packets read a second, and peers that a
// search has not taken yet.
const (
	packetsPerSec = 50
	maxHeard      = 32
)

// How often the interfaces are looked at.
const lookEvery = time.Minute

// New returns a Service that does nothing until Serve.
func New(o Options) *Service {
	if o.Port == nil {
		o.Port = func() uint16 { return 0 }
	}
	if o.Interfaces == nil {
		o.Interfaces = Everywhere
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{opts: o, cookie: rand.Text(), joined: make(chan struct{}, 1), sockets: map[place]*socket{}}
}

// Everywhere returns the interfaces that are up and lead to a network.
func Everywhere() ([]net.Interface, error) {
	return interfaces(func(f net.Flags) bool { return f&net.FlagMulticast != 0 && f&net.FlagLoopback == 0 })
}

// Loopback returns the interface that leads nowhere, if it is up.
func Loopback() ([]net.Interface, error) {
	return interfaces(func(f net.Flags) bool { return f&net.FlagLoopback != 0 })
}

func interfaces(use func(net.Flags) bool) (list []net.Interface, err error) {
	all, err := net.Interfaces()
	for _, i := range all {
		if i.Flags&net.FlagUp != 0 && use(i.Flags) {
			list = append(list, i)
		}
	}
	return list, err
}

// String names the service for a supervisor's log.
func (s *Service) String() string { return "local service discovery" }

// Serve announces and listens until ctx ends, and returns its error. All its
// goroutines have ended by then.
func (s *Service) Serve(ctx context.Context) error {
	var readers sync.WaitGroup
	defer readers.Wait()
	defer s.closeAll()
	limit := rate.NewLimiter(packetsPerSec, packetsPerSec)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var look time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.joined:
		case <-timer.C:
		}
		now := time.Now()
		if !now.Before(look) {
			look = now.Add(lookEvery)
			s.look(ctx, func(sock *socket) { readers.Go(func() { s.read(sock, limit) }) })
		}
		wake := s.announce(now)
		if wake.IsZero() || look.Before(wake) {
			wake = look
		}
		timer.Reset(max(wake.Sub(now), 0))
	}
}

// look opens sockets where there are new interfaces and closes those where there
// are none any more.
func (s *Service) look(ctx context.Context, opened func(*socket)) {
	list, err := s.opts.Interfaces()
	if err != nil {
		s.opts.Logger.Debug("list interfaces", "err", err)
		return
	}
	there := map[place]bool{}
	for _, i := range list {
		for _, group := range [...]netip.AddrPort{group4, group6} {
			p := place{i.Index, group}
			there[p] = true
			if s.at(p) != nil {
				continue
			}
			sock, err := open(ctx, i, group)
			if err != nil { // it has no such addresses, perhaps
				s.opts.Logger.Debug("local service discovery", "err", err)
				continue
			}
			s.set(p, sock)
			opened(sock)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, sock := range s.sockets {
		if !there[p] {
			sock.Close()
			delete(s.sockets, p)
		}
	}
}

func (s *Service) at(p place) *socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sockets[p]
}

func (s *Service) set(p place, sock *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets[p] = sock
}

func (s *Service) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, sock := range s.sockets {
		sock.Close()
		delete(s.sockets, p)
	}
}

// announce sends what is due and returns when to look again.
func (s *Service) announce(now time.Time) time.Time {
	port := s.opts.Port()
	if port == 0 {
		return time.Time{}
	}
	s.mu.Lock()
	hashes, wake := s.schedule.next(now)
	list := make([]*socket, 0, len(s.sockets))
	for _, sock := range s.sockets {
		list = append(list, sock)
	}
	s.mu.Unlock()
	if len(hashes) == 0 {
		return wake
	}
	for _, sock := range list {
		if err := sock.send(message{port: port, hashes: hashes, cookie: s.cookie}); err != nil {
			s.opts.Logger.Debug("announce locally", "err", err)
		}
	}
	return wake
}

// read hears others until the socket is closed.
func (s *Service) read(sock *socket, limit *rate.Limiter) {
	buf := make([]byte, maxPacket+1)
	for {
		n, from, err := sock.ReadFromUDPAddrPort(buf)
		if err != nil {
			// Closed, or the interface went: the next look opens it again.
			s.forget(sock)
			return
		}
		if limit.Allow() {
			s.hear(from.Addr(), buf[:n])
		}
	}
}

func (s *Service) forget(sock *socket) {
	sock.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, at := range s.sockets {
		if at == sock {
			delete(s.sockets, p)
		}
	}
}

// hear takes one packet.
func (s *Service) hear(from netip.Addr, packet []byte) {
	m, ok := parse(packet)
	if !ok || m.cookie == s.cookie {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range m.hashes {
		for _, e := range s.schedule.of(h) {
			select {
			case e.heard <- netip.AddrPortFrom(from.Unmap(), m.port):
			default:
			}
		}
	}
}

// Search announces a torrent until ctx ends and calls found for each neighbour
// that says it has it, as often as it does. It returns ctx's error.
func (s *Service) Search(ctx context.Context, hash [20]byte, found func(netip.AddrPort)) error {
	e := &entry{hash: hash, heard: make(chan heard, maxHeard)}
	s.mu.Lock()
	s.schedule.join(e)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.schedule.leave(e)
	}()
	select {
	case s.joined <- struct{}{}:
	default:
	}
	for {
		select {
		case a := <-e.heard:
			found(a)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
