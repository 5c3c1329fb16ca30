package swarm

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed means that the reader, the torrent or the session was closed.
	ErrClosed = errors.New("torrent is closed")
	// ErrTimeout means that no byte of what a read needs came for the read timeout.
	ErrTimeout = errors.New("no data came in time")
	// ErrFailed means that the torrent was stopped after repeated crashes of its loop.
	ErrFailed = errors.New("torrent has failed")
)

// ListenError says that an address could not be listened on.
type ListenError struct {
	Addr string
	Err  error
}

// Error implements error.
func (e *ListenError) Error() string { return fmt.Sprintf("listen on %s: %v", e.Addr, e.Err) }

// Unwrap returns the cause.
func (e *ListenError) Unwrap() error { return e.Err }

// PeerError says what went wrong with a connection.
type PeerError struct {
	Addr string
	Op   string
	Err  error
}

// Error implements error.
func (e *PeerError) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Addr, e.Err) }

// Unwrap returns the cause.
func (e *PeerError) Unwrap() error { return e.Err }

// PanicError is a panic that was caught at the border of what owned the state.
type PanicError struct {
	Value any
	Stack []byte
}

// Error implements error.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }
