package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/thejerf/suture/v4"
)

// idle is a service that runs until it is stopped; it fails the first times.
type idle struct {
	failures atomic.Int32
	running  chan struct{}
	stopped  atomic.Bool
}

func (i *idle) Serve(ctx context.Context) error {
	if i.failures.Add(-1) >= 0 {
		panic("as told")
	}
	close(i.running)
	<-ctx.Done()
	i.stopped.Store(true)
	return ctx.Err()
}

func TestTheTreeEndsWhenTheMountIsGone(t *testing.T) {
	root := newSupervisor(slog.New(slog.DiscardHandler))
	service := &idle{running: make(chan struct{})}
	gone := make(chan struct{})
	root.Add(service)
	root.Add(untilClosed{"mount", gone})
	serving := startServices(t.Context(), root)
	<-service.running
	close(gone)
	<-serving.ended
	if !errors.Is(serving.err, suture.ErrTerminateSupervisorTree) {
		t.Errorf("got %v, want %v", serving.err, suture.ErrTerminateSupervisorTree)
	}
	if !service.stopped.Load() {
		t.Error("the other service still runs")
	}
	serving.stop(context.Background())
}

func TestServicesOutliveTheContextTheyWereStartedWith(t *testing.T) {
	root := newSupervisor(slog.New(slog.DiscardHandler))
	service := &idle{running: make(chan struct{})}
	service.failures.Store(2) // a service that panics is started again
	root.Add(service)
	ctx, cancel := context.WithCancel(t.Context())
	serving := startServices(ctx, root)
	<-service.running
	cancel()
	select {
	case <-serving.ended:
		t.Error("ended with the context: the mount must go first")
	default:
	}
	serving.stop(context.Background())
	if !service.stopped.Load() {
		t.Error("not stopped")
	}
}
