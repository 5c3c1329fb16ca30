package tracker

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Times of the UDP tracker protocol (BEP 15).
const (
	udpRetransmit    = 15 * time.Second // the first; doubled each time
	udpMaxDoublings  = 8
	udpConnectionTTL = time.Minute
)

// maxConnections bounds the connection ids that are remembered.
const maxConnections = 1024

// announceUDP announces over UDP.
func (c *Client) announceUDP(ctx context.Context, u *url.URL, r Request) (Response, error) {
	ctx, cancel := c.udpContext(ctx)
	defer cancel()
	addrs, err := c.resolveUDP(ctx, u)
	if err != nil {
		return Response{}, err
	}
	p, addr, err := c.udp.request(ctx, addrs, u, actionAnnounce, func(id uint64, transaction uint32) []byte {
		return appendAnnounce(nil, id, transaction, requestURI(u), r)
	})
	if err != nil {
		return Response{}, err
	}
	return parseAnnounce(p, addr.Addr().BitLen()/8)
}

// udpContext ends with the time that a request may take.
func (c *Client) udpContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.udpTimeout, fmt.Errorf("%w: %w", errNoAnswer, context.DeadlineExceeded))
}

// resolveUDP returns at most one address of each family, in the resolver's
// order.
func (c *Client) resolveUDP(ctx context.Context, u *url.URL) ([]netip.AddrPort, error) {
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 {
		return nil, errors.New("port of the URL is not one")
	}
	ctx, cancel := context.WithTimeout(ctx, c.headerTimeout)
	defer cancel()
	ips, err := c.opts.Network.Resolve(ctx, u.Hostname())
	if err != nil {
		return nil, fmt.Errorf("look up name: %w", err)
	}
	// The rule about paths is for HTTP: no service acts on a UDP announce but a
	// tracker.
	h := &hops{classify: c.classify, allow: c.opts.Allow, path: "/announce"}
	var addrs []netip.AddrPort
	var refused error
	var have4, have6 bool
	for _, ip := range ips {
		ip = ip.Unmap()
		if err := h.check(ip); err != nil {
			refused = err
			continue
		}
		have := &have6
		if ip.Is4() {
			have = &have4
		}
		if !*have {
			*have = true
			addrs = append(addrs, netip.AddrPortFrom(ip, uint16(port)))
		}
	}
	switch {
	case len(addrs) > 0:
		return addrs, nil
	case refused != nil:
		return nil, refused
	}
	return nil, errors.New("look up name: it has no address")
}

// udpClient speaks the protocol of BEP 15. Our own, as the library's dispatcher
// can be blocked for good by a tracker that answers one request three times,
// and as it asks for neither the source address nor the action of an answer.
type udpClient struct {
	listen func(network string) (net.PacketConn, error)

	mu          sync.Mutex // guards what follows
	closed      bool
	sockets     map[string]*udpSocket // by network
	connections map[netip.AddrPort]connection
	readers     sync.WaitGroup
}

// connection is what a tracker gave us to prove that our address is ours.
type connection struct {
	id     uint64
	issued time.Time
}

func newUDPClient(listen func(string) (net.PacketConn, error)) *udpClient {
	return &udpClient{
		listen:      listen,
		sockets:     make(map[string]*udpSocket),
		connections: make(map[netip.AddrPort]connection),
	}
}

// close closes the sockets and waits for their readers.
func (c *udpClient) close() {
	c.mu.Lock()
	c.closed = true
	for _, s := range c.sockets {
		s.conn.Close()
	}
	c.mu.Unlock()
	c.readers.Wait()
}

// udpRequest makes the packet of a request.
type udpRequest func(connection uint64, transaction uint32) []byte

// request connects to one of addrs and makes a request, again and again until ctx
// ends: n retransmissions wait 15·2ⁿ seconds. They go round the addresses of the
// tracker, one of each family: a host without IPv6 says nothing when it drops
// what is sent there. It returns the answer and whose it is.
func (c *udpClient) request(ctx context.Context, addrs []netip.AddrPort, u *url.URL, action uint32, make udpRequest) ([]byte, netip.AddrPort, error) {
	var none netip.AddrPort
	var sendErr error
	for n := 0; ; n++ {
		at := n % len(addrs)
		p, err := c.try(ctx, udpRetransmit<<min(n, udpMaxDoublings), addrs[at], u, action, make)
		failure := (*FailureError)(nil)
		switch {
		case err == nil || errors.As(err, &failure):
			return p, addrs[at], err
		case ctx.Err() != nil:
			return nil, none, errors.Join(err, sendErr)
		case errors.Is(err, errNoAnswer):
			// The tracker may have been restarted, and not know us any more.
			c.forget(addrs[at])
		default:
			// Nothing left the machine: no route for this family, perhaps.
			sendErr = err
			if addrs = slices.Delete(slices.Clone(addrs), at, at+1); len(addrs) == 0 {
				return nil, none, sendErr
			}
			n--
		}
	}
}

// try makes one request of addr, after a connect if there is no fresh connection,
// and waits so long for each answer.
func (c *udpClient) try(ctx context.Context, wait time.Duration, addr netip.AddrPort, u *url.URL, action uint32, make udpRequest) ([]byte, error) {
	for again := false; ; again = true {
		id, fresh, err := c.connect(ctx, wait, addr, u)
		if err != nil {
			return nil, err
		}
		p, err := c.ask(ctx, wait, addr, u, action, func(transaction uint32) []byte { return make(id, transaction) })
		failure := (*FailureError)(nil)
		if errors.As(err, &failure) && staleConnection(failure) {
			if c.forget(addr); !fresh && !again {
				continue
			}
		}
		return p, err
	}
}

// requestURI returns the path and query of u, "" if it has neither.
func requestURI(u *url.URL) string {
	if u.Path == "" && u.RawQuery == "" {
		return ""
	}
	return u.RequestURI()
}

// connect returns a connection id for addr, and whether it has just been made.
func (c *udpClient) connect(ctx context.Context, wait time.Duration, addr netip.AddrPort, u *url.URL) (id uint64, fresh bool, err error) {
	c.mu.Lock()
	known, ok := c.connections[addr]
	c.mu.Unlock()
	if ok && time.Since(known.issued) < udpConnectionTTL {
		return known.id, false, nil
	}
	asked := time.Now()
	p, err := c.ask(ctx, wait, addr, u, actionConnect, func(transaction uint32) []byte {
		return appendConnect(nil, transaction)
	})
	if err != nil {
		return 0, false, err
	}
	if id, err = parseConnect(p); err != nil {
		return 0, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for a, known := range c.connections {
		if len(c.connections) >= maxConnections || time.Since(known.issued) >= udpConnectionTTL {
			delete(c.connections, a)
		}
	}
	c.connections[addr] = connection{id: id, issued: asked}
	return id, true, nil
}

func (c *udpClient) forget(addr netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.connections, addr)
}

// errNoAnswer is returned by ask when the wait is over and ctx is not.
var errNoAnswer = errors.New("tracker does not answer")

// ask sends one request and returns the answer to it, header included.
func (c *udpClient) ask(ctx context.Context, wait time.Duration, addr netip.AddrPort, u *url.URL, action uint32, request func(transaction uint32) []byte) ([]byte, error) {
	s, err := c.socket(addr.Addr())
	if err != nil {
		return nil, err
	}
	call := &udpCall{addr: addr, action: action, answer: make(chan []byte, 1)}
	transaction := s.expect(call)
	defer s.forget(transaction)
	if _, err := s.conn.WriteTo(request(transaction), net.UDPAddrFromAddrPort(addr)); err != nil {
		return nil, fmt.Errorf("send to %v: %w", addr, err)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case p := <-call.answer:
		if got, _, _ := udpHeader(p); got == actionError {
			return nil, parseUDPError(p, u)
		}
		return p, nil
	case <-timer.C:
		return nil, errNoAnswer
	case <-s.dead:
		return nil, errors.New("receive answer: the socket is closed")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// socket returns the socket for the family of a, a new one if need be.
func (c *udpClient) socket(a netip.Addr) (*udpSocket, error) {
	network := "udp6"
	if a.Is4() {
		network = "udp4"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if s := c.sockets[network]; s != nil && !s.isDead() {
		return s, nil
	}
	conn, err := c.listen(network)
	if err != nil {
		return nil, fmt.Errorf("open %s socket: %w", network, err)
	}
	s := &udpSocket{conn: conn, dead: make(chan struct{}), calls: make(map[uint32]*udpCall)}
	c.sockets[network] = s
	c.readers.Go(s.read)
	return s, nil
}

// udpSocket is a socket and who waits for answers on it.
type udpSocket struct {
	conn net.PacketConn
	dead chan struct{} // closed when the reader has ended

	mu    sync.Mutex
	calls map[uint32]*udpCall // by transaction; owned by mu
}

// udpCall waits for an answer of one kind from one address.
type udpCall struct {
	addr   netip.AddrPort
	action uint32
	answer chan []byte // holds one: the first answer counts
}

func (s *udpSocket) isDead() bool {
	select {
	case <-s.dead:
		return true
	default:
		return false
	}
}

// expect registers call under a transaction id that nobody can guess: it is
// all that tells an answer from a forged one with the tracker's address.
func (s *udpSocket) expect(call *udpCall) (transaction uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var p [4]byte
		rand.Read(p[:]) // never fails
		transaction = binary.BigEndian.Uint32(p[:])
		if _, taken := s.calls[transaction]; !taken {
			s.calls[transaction] = call
			return transaction
		}
	}
}

func (s *udpSocket) forget(transaction uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, transaction)
}

// read hands answers to who waits for them, until the socket is closed or
// broken; the next announce opens another then.
func (s *udpSocket) read() {
	defer close(s.dead)
	defer s.conn.Close()
	buf := make([]byte, 64<<10) // the largest packet: a tracker may send many peers
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if a, ok := from.(*net.UDPAddr); ok {
			s.dispatch(buf[:n], a.AddrPort())
		}
	}
}

// dispatch hands p over to the call that it answers. Everything else is
// dropped: unknown transactions, other sources, the wrong action, what is too
// short, second answers. To act on those would let anybody end our announces.
func (s *udpSocket) dispatch(p []byte, from netip.AddrPort) {
	action, transaction, ok := udpHeader(p)
	if !ok {
		return
	}
	s.mu.Lock()
	call := s.calls[transaction]
	s.mu.Unlock()
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	if call == nil || from != call.addr || (action != call.action && action != actionError) || tooShort(action, p) {
		return
	}
	select {
	case call.answer <- append([]byte(nil), p...):
	default:
	}
}

func tooShort(action uint32, p []byte) bool {
	switch action {
	case actionConnect:
		return len(p) < udpConnectLen
	case actionAnnounce:
		return len(p) < udpPeersAt
	case actionScrape:
		return len(p) < udpScrapeLen
	}
	return false
}
