package webseed

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// Options of a Stream. Dial and Lookup are required.
type Options struct {
	// Dial connects over TCP.
	Dial func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	// Lookup returns the addresses of a host that is not a literal address.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Allow says whether an address may be connected to; nil: those that a web
	// seed may be at.
	Allow func(netip.Addr) error
	// Pass is called with the number of bytes that came, and may wait: a limit on
	// the rate. nil: none.
	Pass func(ctx context.Context, n int) error
	// UserAgent is sent with each request.
	UserAgent string
	// RootCAs verify servers; nil: those of the system.
	RootCAs *x509.CertPool
	// Stall is how long a server may send nothing while something is wanted.
	// Default 20 s, libtorrent's.
	Stall time.Duration
}

// Stream reads blocks from a Source, mostly one after another: what follows comes
// in the same response. It is not safe for concurrent use.
type Stream struct {
	src    *Source
	opts   Options
	reach  reach
	client *http.Client

	buf  []byte // what came last, used or not: it may be asked for a little later
	r, w int    // the bytes in [r, w) are those from pos on
	pos  int64  // in the torrent

	body    io.ReadCloser // nil: no response is open
	cancel  context.CancelCauseFunc
	why     func() error // why the response was cancelled; nil: it was not
	left    int64        // bytes of the response that are not in buf
	padding int64        // zeros that come next instead

	next  int64 // where the newest response ends
	reads int64 // how many bytes it was asked for

	came    int64 // bytes, since what is open was opened
	used    int64 // and returned of them
	skipped int64
}

const (
	streamBuffer = 512 << 10
	maxRead      = 256 << 10
	// Used or skipped bytes are kept so far back: reads go on side by side.
	maxBack = 128 << 10
	// What lies between two blocks is read and thrown away if it is no more than
	// this. Ending a response costs a new connection, and what is on its way.
	maxSkip      = 128 << 10
	maxHeader    = 64 << 10
	dialTimeout  = 10 * time.Second
	stallTimeout = 20 * time.Second
	// An idle connection is kept for the next request.
	idleTimeout = 60 * time.Second
	// A response that goes on where the last one ended is so much longer: a server
	// is asked for long ranges only by who has read on for a while.
	growth = 4
)

var (
	errStalled = errors.New("web seed sends nothing")
	errCut     = errors.New("web seed sends less than it said")
)

// NewStream returns a Stream that has connected to nobody yet.
func NewStream(src *Source, o Options) *Stream {
	if o.Stall == 0 {
		o.Stall = stallTimeout
	}
	s := &Stream{src: src, opts: o, next: -1}
	s.client = &http.Client{
		CheckRedirect: s.reach.redirect,
		Transport: &http.Transport{
			// No Proxy: one from the environment would connect where reach does not look.
			DialContext:            s.dial,
			TLSClientConfig:        &tls.Config{RootCAs: o.RootCAs},
			TLSHandshakeTimeout:    dialTimeout,
			MaxResponseHeaderBytes: maxHeader,
			MaxIdleConnsPerHost:    1,
			IdleConnTimeout:        idleTimeout,
			DisableCompression:     true, // lengths and ranges are those of the files
		},
	}
	return s
}

// Close ends what is open. The Stream can be used again.
func (s *Stream) Close() {
	s.end()
	s.buf = nil
	s.client.CloseIdleConnections()
}

// Open reports whether a response is open.
func (s *Stream) Open() bool { return s.body != nil }

// TakeSkipped returns how many bytes came and were of no use since it was called
// last, but for those of what is open.
func (s *Stream) TakeSkipped() int64 {
	n := s.skipped
	s.skipped = 0
	return n
}

// Ready reports whether a block can be had without waiting.
func (s *Stream) Ready(off int64, n int) bool {
	return off >= s.pos && off+int64(n) <= s.pos+int64(s.w-s.r)
}

// Reaches reports whether a byte can be had without another request, or with one
// that goes on where the last ended.
func (s *Stream) Reaches(off int64) bool {
	if s.body == nil && off == s.next {
		return true
	}
	ahead := off - s.pos
	return ahead >= -int64(s.r) && (ahead < int64(s.w-s.r) || s.body != nil && ahead < int64(s.w-s.r)+min(s.left, maxSkip))
}

// Block returns the n bytes of the torrent from off on, at most a quarter of a
// MiB. They are valid until the next call. Until tells up to where all that
// follows is wanted, too, if another request is needed. Errors are *Fault,
// *Refusal, *MissingFile, or those of the network.
func (s *Stream) Block(ctx context.Context, off int64, n int, until func() int64) ([]byte, error) {
	s.seek(off)
	for s.w-s.r < n {
		if err := s.more(ctx, off+int64(n), until); err != nil {
			s.end()
			return nil, err
		}
		s.skipTo(off)
	}
	b := s.buf[s.r : s.r+n]
	s.r += n
	s.pos += int64(n)
	s.used += int64(n)
	return b, nil
}

// seek turns to an offset: within what is open if that is near, else anew.
func (s *Stream) seek(off int64) {
	switch ahead := off - s.pos; {
	case ahead < -int64(s.r):
	case ahead <= int64(s.w-s.r):
		s.skipTo(off)
		return
	case s.body != nil && ahead <= int64(s.w-s.r)+min(s.left, maxSkip):
		s.skipTo(off) // the rest by and by
		return
	}
	s.end()
	s.pos = off
}

// skipTo moves in the buffer to an offset, or as near as it has.
func (s *Stream) skipTo(off int64) {
	n := min(off-s.pos, int64(s.w-s.r))
	s.r += int(n)
	s.pos += n
}

// more adds bytes to the buffer; at least those before an offset are wanted.
func (s *Stream) more(ctx context.Context, least int64, until func() int64) error {
	if s.buf == nil {
		s.buf = make([]byte, streamBuffer)
	}
	if len(s.buf)-s.w < maxRead {
		from := max(0, s.r-maxBack)
		copy(s.buf, s.buf[from:s.w])
		s.r, s.w = s.r-from, s.w-from
	}
	if s.body == nil && s.padding == 0 {
		if err := s.open(ctx, s.pos+int64(s.w-s.r), max(least, until())); err != nil {
			return err
		}
	}
	if s.padding > 0 {
		n := int(min(s.padding, int64(len(s.buf)-s.w)))
		clear(s.buf[s.w : s.w+n])
		s.w += n
		s.came += int64(n)
		s.padding -= int64(n)
		return nil
	}
	return s.read(ctx)
}

// read takes what the response has.
func (s *Stream) read(ctx context.Context) error {
	stalled := s.watch()
	room := min(int64(len(s.buf)-s.w), maxRead, s.left)
	n, err := s.body.Read(s.buf[s.w : s.w+int(room)])
	stalled.Stop()
	s.w += n
	s.came += int64(n)
	s.left -= int64(n)
	switch {
	case s.left == 0:
		s.finish()
	case err != nil:
		return s.explain(err)
	}
	if s.opts.Pass != nil && n > 0 {
		return s.opts.Pass(ctx, n)
	}
	return nil
}

// watch ends the response if the timer that it returns is not stopped in time.
func (s *Stream) watch() *time.Timer {
	cancel := s.cancel
	return time.AfterFunc(s.opts.Stall, func() { cancel(errStalled) })
}

// open asks for the part that begins at off and holds, or leads to, what is wanted
// before until.
func (s *Stream) open(ctx context.Context, off, until int64) error {
	reads := int64(0)
	if off == s.next {
		reads = growth * s.reads
	}
	end := s.src.pieceEnd(max(min(until, s.src.layout.Length), off+reads) - 1)
	part := s.src.Part(off, end)
	s.next, s.reads = off+part.Len(), end-off
	if part.URL == "" {
		s.padding = part.Len()
		return nil
	}
	n, err := s.get(ctx, part)
	if err != nil {
		return s.explain(err)
	}
	s.left = n
	s.next = off + n
	return nil
}

// get sends the request for a part and checks the head of the answer.
func (s *Stream) get(ctx context.Context, part Part) (int64, error) {
	ctx, s.cancel = context.WithCancelCause(ctx)
	s.why = func() error { return context.Cause(ctx) }
	stalled := s.watch()
	defer stalled.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, part.URL, http.NoBody)
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", s.opts.UserAgent)
	req.Header.Set("Accept-Encoding", "identity")
	if part.File >= 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", part.From, part.To-1))
	}
	s.reach.asks(s.src.query)
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	s.body = resp.Body
	return Accept(part, resp, time.Now())
}

// finish gives the connection back after a whole response, or ends it.
func (s *Stream) finish() {
	if s.body != nil {
		s.body.Close()
		s.body = nil
	}
	if s.cancel != nil {
		s.cancel(nil)
		s.cancel = nil
	}
	s.left, s.padding = 0, 0
}

// end forgets all that is open. What is in the buffer was for nothing.
func (s *Stream) end() {
	s.skipped += max(0, s.came-s.used)
	s.came, s.used = 0, 0
	s.pos += int64(s.w - s.r)
	s.r, s.w = 0, 0
	s.finish()
	s.next = -1
}

// dial connects to the first address of a host that answers, of those that may be
// reached.
func (s *Stream) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := parseNumber(port)
	if err != nil || n < 1 || n > 65535 {
		return nil, errors.New("web seed has no valid port")
	}
	addrs, err := s.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var first error
	for _, a := range addrs {
		conn, err := s.connect(ctx, netip.AddrPortFrom(a.Unmap(), uint16(n)))
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = errors.New("web seed has no address")
	}
	return nil, first
}

func (s *Stream) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	return s.opts.Lookup(ctx, host)
}

func (s *Stream) connect(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	if s.opts.Allow != nil {
		if err := s.opts.Allow(addr.Addr()); err != nil {
			return nil, fmt.Errorf("address %v is not allowed: %w", addr.Addr(), err)
		}
	}
	if err := s.reach.check(addr.Addr()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return s.opts.Dial(ctx, addr)
}

// explain says what an error of the network comes from, without the URL, which
// may hold a key.
func (s *Stream) explain(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	switch {
	case errors.Is(s.why(), errStalled):
		return errStalled
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		return errCut
	}
	return err
}
