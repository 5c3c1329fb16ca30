package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/thejerf/suture/v4"
)

// sessionStop bounds how long the supervisor waits for a service that was told
// to stop.
const sessionStop = time.Second

// newSupervisor is the root of the tree of services. A service that fails or
// panics is started again, with a pause when it does so often.
func newSupervisor(log *slog.Logger) *suture.Supervisor {
	return suture.New("swarmfs", suture.Spec{
		Timeout: sessionStop,
		EventHook: func(e suture.Event) { // a panic in here would end the process
			switch e := e.(type) {
			case suture.EventServicePanic:
				log.Error("service panicked", "service", e.ServiceName, "panic", e.PanicMsg, "stack", e.Stacktrace)
			case suture.EventServiceTerminate:
				log.Warn("service ended", "service", e.ServiceName, "error", e.Err, "restarting", e.Restarting)
			case suture.EventStopTimeout:
				log.Warn("service does not stop", "service", e.ServiceName)
			case suture.EventBackoff:
				log.Warn("services fail often: pausing")
			case suture.EventResume:
				log.Info("services resume")
			}
		},
	})
}

// untilClosed is a service that ends the whole tree when its channel is
// closed: the mount has gone, so nothing is left to serve.
type untilClosed struct {
	name string
	done <-chan struct{}
}

func (u untilClosed) Serve(ctx context.Context) error {
	select {
	case <-u.done:
		return suture.ErrTerminateSupervisorTree
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (u untilClosed) String() string { return u.name }

// services is a supervisor at work.
type services struct {
	cancel context.CancelFunc
	ended  chan struct{} // closed when all have ended
	err    error         // why, once ended is closed
	waiter sync.WaitGroup
}

// startServices runs a supervisor until stop, whatever becomes of ctx.
func startServices(ctx context.Context, root *suture.Supervisor) *services {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &services{cancel: cancel, ended: make(chan struct{})}
	result := root.ServeBackground(ctx)
	s.waiter.Go(func() {
		defer close(s.ended)
		s.err = <-result
	})
	return s
}

// stop ends the services and waits for them, unless hurry ends before.
func (s *services) stop(hurry context.Context) {
	s.cancel()
	select {
	case <-s.ended:
		s.waiter.Wait()
	case <-hurry.Done():
	}
}
