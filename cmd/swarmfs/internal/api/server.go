package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// What clients may take of the daemon.
const (
	maxBody    = 1 << 20  // bytes of any request but add
	maxAddBody = 64 << 20 // a .torrent of 30 MiB in base64 is 40
	maxAdds    = 1        // large bodies in memory at a time
	maxConns   = 64
	// requestTime bounds a request from its first byte to its answer.
	requestTime = 2 * time.Minute
	stopTime    = time.Second
)

// Server answers on the control socket. It is a service: Listen first, then
// Serve, which a supervisor may call again.
type Server struct {
	dir    string
	daemon Daemon
	code   func(error) int
	log    *slog.Logger
	adds   chan struct{}

	listener net.Listener // made by Listen for the next Serve
}

// NewServer returns a server for the data folder dir, which this process has
// locked. Code gives the exit code of an error.
func NewServer(dir string, d Daemon, code func(error) int, log *slog.Logger) *Server {
	return &Server{dir: dir, daemon: d, code: code, log: log, adds: make(chan struct{}, maxAdds)}
}

// Listen makes the socket, so that there is one before Serve is called. If it cannot,
// Serve makes it once it can: a data folder may be read-only for a while.
func (s *Server) Listen() error {
	l, err := listenAlways(s.dir)
	s.listener = l
	return err
}

// String names the service for the supervisor's log.
func (s *Server) String() string { return "control socket" }

// Serve answers until ctx ends, and removes the socket. All requests have ended
// by then.
func (s *Server) Serve(ctx context.Context) error {
	l := s.listener
	s.listener = nil
	for l == nil { // a second life, or there was no folder for it yet
		if !answers(ctx, s.dir) {
			var err error
			if l, err = listenAlways(s.dir); err == nil {
				break
			}
		}
		select {
		case <-time.After(missingEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var busy sync.WaitGroup
	server := &http.Server{
		Handler: tracked(&busy, s.handler()), ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: requestTime, WriteTimeout: requestTime,
		IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		soon, done := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer done()
		if server.Shutdown(soon) != nil {
			_ = server.Close() // what is left is cut off
		}
	})
	err := server.Serve(newBounded(l, maxConns))
	if !stop() { // ctx has ended: wait for the farewell
		<-stopped
	}
	cancel()
	_ = server.Close()
	busy.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return context.Cause(ctx)
	}
	return fmt.Errorf("serve control socket: %w", err)
}

// tracked counts the requests under way: http.Server.Close does not wait for them.
func tracked(busy *sync.WaitGroup, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		busy.Add(1)
		defer busy.Done()
		h.ServeHTTP(w, r)
	})
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		st, err := s.daemon.Status(r.Context(), Target{Arg: q.Get("arg"), Path: q.Get("path")})
		s.answer(w, st, err)
	})
	mux.HandleFunc("POST /v1/add", func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.adds <- struct{}{}:
			defer func() { <-s.adds }()
		case <-r.Context().Done():
			return
		}
		serve(s, w, r, maxAddBody, s.daemon.Add)
	})
	post(mux, s, "remove", s.daemon.Remove)
	post(mux, s, "pin", s.daemon.Pin)
	post(mux, s, "unpin", s.daemon.Unpin)
	post(mux, s, "limit", s.daemon.Limit)
	post(mux, s, "verify", s.daemon.Verify)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, http.StatusNotFound, &Error{Message: "the daemon is of another version: it knows no " + r.Method + " " + r.URL.Path, Code: 1})
	})
	return mux
}

func post[Q, A any](mux *http.ServeMux, s *Server, verb string, f func(context.Context, Q) (A, error)) {
	mux.HandleFunc("POST /v1/"+verb, func(w http.ResponseWriter, r *http.Request) { serve(s, w, r, maxBody, f) })
}

// serve decodes a request, performs it and answers.
func serve[Q, A any](s *Server, w http.ResponseWriter, r *http.Request, limit int64, f func(context.Context, Q) (A, error)) {
	q, err := decode[Q](http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		s.fail(w, http.StatusBadRequest, &Error{Message: "read request: " + err.Error(), Code: 1})
		return
	}
	a, err := f(r.Context(), q)
	s.answer(w, a, err)
}

// decode reads exactly one JSON object of known fields.
func decode[Q any](body io.Reader) (Q, error) {
	var q, none Q
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		return none, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return none, errors.New("something follows the object")
	}
	return q, nil
}

func (s *Server) answer(w http.ResponseWriter, a any, err error) {
	if err != nil {
		s.fail(w, http.StatusUnprocessableEntity, &Error{Message: err.Error(), Code: s.code(err)})
		return
	}
	s.write(w, http.StatusOK, a)
}

func (s *Server) fail(w http.ResponseWriter, status int, e *Error) { s.write(w, status, e) }

func (s *Server) write(w http.ResponseWriter, status int, a any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(a); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(b.Bytes()); err != nil {
		s.log.Debug("control client has gone", "error", err)
	}
}

// bounded is a listener with so many connections at a time; the others wait in
// the kernel's queue.
type bounded struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newBounded(l net.Listener, n int) *bounded {
	return &bounded{Listener: l, places: make(chan struct{}, n), closed: make(chan struct{})}
}

func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.places <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.places
		return nil, err
	}
	return &boundedConn{Conn: c, leave: sync.OnceFunc(func() { <-b.places })}, nil
}

func (b *bounded) Close() error {
	var err error
	b.once.Do(func() {
		close(b.closed)
		err = b.Listener.Close()
	})
	return err
}

type boundedConn struct {
	net.Conn
	leave func()
}

func (c *boundedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
