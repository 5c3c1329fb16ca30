package simnet

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Conn is one end of a stream. It implements net.Conn and is safe for
// concurrent use.
type Conn struct {
	// Set at start, read-only after.
	host          *Host
	local, remote netip.AddrPort
	peer          *Conn
	out           *pipe // what this end sends

	// Guarded by host.net.mu.
	recv    queue // received and not read
	resting bool  // the rest of it can be read a moment later
	eof     bool  // the other end sends nothing more
	closed  bool  // by us
	err     error // why the connection is no more
	changed *sync.Cond
	rd, wd  deadline
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// connect makes both ends of a connection.
func connect(from, to *Host, client, server netip.AddrPort) (c, s *Conn) {
	n := from.net
	c = &Conn{host: from, local: client, remote: server, changed: sync.NewCond(&n.mu)}
	s = &Conn{host: to, local: server, remote: client, changed: sync.NewCond(&n.mu)}
	c.peer, s.peer = s, c
	c.out, s.out = newPipe(c, s), newPipe(s, c)
	return c, s
}

// Read implements net.Conn. What arrived before a reset can still be read.
func (c *Conn) Read(p []byte) (int, error) {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.fail("read", net.ErrClosed)
		case c.rd.passed():
			return 0, c.fail("read", os.ErrDeadlineExceeded)
		case len(p) == 0:
			return 0, nil
		case c.resting:
		case c.recv.len() > 0:
			n := c.recv.read(p)
			if c.recv.len() > 0 {
				c.rest()
			}
			c.peer.out.offer() // there is room in its window
			return n, nil
		case c.err != nil:
			return 0, c.fail("read", c.err)
		case c.eof:
			return 0, io.EOF
		}
		c.changed.Wait()
	}
}

// A call takes so long. Without it, what a program does with the first part of
// what has arrived, and the rest's arrival, would be at one moment.
const readTime = time.Microsecond

func (c *Conn) rest() {
	c.resting = true
	n := c.host.net
	n.at(n.now()+readTime, c.out.key, func() {
		c.resting = false
		c.changed.Broadcast()
	})
}

// Write implements net.Conn. It returns when all is in the send buffer.
func (c *Conn) Write(p []byte) (int, error) {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	done := 0
	for {
		switch {
		case c.closed:
			return done, c.fail("write", net.ErrClosed)
		case c.wd.passed():
			return done, c.fail("write", os.ErrDeadlineExceeded)
		case c.err != nil || c.out.fin:
			return done, c.fail("write", syscall.EPIPE)
		}
		n := min(len(p)-done, sendBuffer-c.out.unsent.len())
		c.out.unsent.write(p[done : done+n])
		done += n
		c.out.offer()
		if done == len(p) {
			return done, nil
		}
		if c.out.unsent.len() >= sendBuffer {
			c.changed.Wait()
		}
	}
}

// Close implements net.Conn. What was written is still sent, unless there is
// something received that nobody has read: then, as on Linux, the connection is
// reset.
func (c *Conn) Close() error {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	if c.closed {
		return c.fail("close", net.ErrClosed)
	}
	c.closed = true
	c.stopTimers()
	c.changed.Broadcast()
	switch {
	case c.err != nil:
	case c.recv.len() > 0:
		c.abort(net.ErrClosed)
	default:
		c.shut()
	}
	return nil
}

// CloseWrite says that nothing more will be written, as *net.TCPConn's does.
func (c *Conn) CloseWrite() error {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	if c.closed {
		return c.fail("close", net.ErrClosed)
	}
	c.shut()
	return nil
}

// Reset ends the connection at once; the other end sees ECONNRESET.
func (c *Conn) Reset() {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	c.abort(net.ErrClosed)
}

// LocalAddr implements net.Conn; it is a *net.TCPAddr.
func (c *Conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr implements net.Conn; it is a *net.TCPAddr.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadlines(t, &c.rd, &c.wd) }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, &c.rd) }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, &c.wd) }

func (c *Conn) setDeadlines(t time.Time, which ...*deadline) error {
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	if c.closed {
		return c.fail("set", net.ErrClosed)
	}
	for _, d := range which {
		d.set(c.changed, t)
	}
	return nil
}

// set has those who wait look again at once and when the deadline passes.
func (d *deadline) set(changed *sync.Cond, t time.Time) {
	d.at = t
	switch {
	case t.IsZero():
		d.stop()
	case d.timer == nil:
		d.timer = time.AfterFunc(time.Until(t), func() {
			changed.L.Lock()
			defer changed.L.Unlock()
			changed.Broadcast()
		})
	default:
		d.timer.Reset(time.Until(t))
	}
	changed.Broadcast()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}

func (c *Conn) stopTimers() {
	c.rd.stop()
	c.wd.stop()
}

func (c *Conn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// shut sends a FIN behind what was written.
func (c *Conn) shut() {
	if c.err == nil && !c.out.fin {
		c.out.fin = true
		c.out.offer()
	}
}

// abort ends the connection at this end for a reason, and sends a reset to the
// other.
func (c *Conn) abort(why error) {
	if c.err != nil {
		return
	}
	c.die(why)
	peer := c.peer
	c.out.travel(0, func() { peer.die(syscall.ECONNRESET) })
}

// die ends the connection at this end.
func (c *Conn) die(why error) {
	if c.err != nil {
		return
	}
	c.err = why
	if errors.Is(why, net.ErrClosed) {
		c.closed = true
	}
	c.stopTimers()
	c.out.unsent = queue{}
	c.forget()
	c.changed.Broadcast()
}

// receive takes what arrives.
func (c *Conn) receive(p []byte) {
	switch {
	case c.err != nil:
	case c.closed: // nobody will read it
		c.abort(net.ErrClosed)
	default:
		c.recv.write(p)
		c.changed.Broadcast()
	}
}

func (c *Conn) receiveFIN() {
	c.eof = true
	c.done()
	c.changed.Broadcast()
}

// done forgets a connection that both ends have closed.
func (c *Conn) done() {
	if c.eof && c.out.finSent {
		c.forget()
	}
}
