package main

import (
	"errors"
	"log/slog"
	"net"
	"syscall"

	"swarmfs/cmd/swarmfs/internal/api"
	"swarmfs/swarm"
)

// newSession listens as the flags say; o holds what they do not say. When the
// usual port is taken and was not asked for, any free one does.
func (f *networkFlags) newSession(o swarm.Options, log *slog.Logger) (*swarm.Session, error) {
	if err := f.checkNodes(); err != nil {
		return nil, err
	}
	o.Listen = f.listen.addresses
	o.UploadLimit, o.DownloadLimit = f.upload, f.download
	o.Seeding = f.seed
	o.Local = f.local()
	encryption, err := swarm.ParseEncryption(f.encrypt)
	if err != nil {
		return nil, err
	}
	o.Encryption = encryption
	o.DHT = f.dhtOptions()
	o.NoPEX, o.NoLSD = f.noPEX, f.noLSD
	o.AllTrackers = f.allTr
	o.Logger = log

	s, err := swarm.New(o)
	if errors.Is(err, syscall.EADDRINUSE) && !f.listen.given {
		log.Info("the usual port is taken, using any free one", "usual", defaultListen)
		o.Listen = []string{":0"}
		s, err = swarm.New(o)
	}
	return s, listenError(err)
}

// listenError adds what to do about an address that cannot be listened on.
func listenError(err error) error {
	var listen *swarm.ListenError
	if !errors.As(err, &listen) {
		return err
	}
	var (
		why    = listen.Err
		remedy = "give another --listen HOST:PORT"
		errno  syscall.Errno
		dns    *net.DNSError
	)
	if errors.As(listen.Err, &errno) {
		why = errno
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		remedy = "stop what listens there, or give another --listen HOST:PORT"
	case errors.Is(err, syscall.EACCES):
		remedy = "ports below 1024 need privileges: give another --listen HOST:PORT"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		remedy = "this machine does not have that address: see \"ip address\""
	case errors.As(err, &dns):
		why, remedy = errors.New("no such host"), "give an address of this machine"
	}
	return failf(exitNetwork, "listen on %s: %w: %s", listen.Addr, why, remedy)
}

// networkReport says what the network is confined to, and whether it is there.
func (m *mounter) networkReport() api.Network {
	r := api.Network{Bind: m.flags.bind}
	if err := m.nets.own.Down(); err != nil {
		r.Down = new(err.Error())
	}
	return r
}

// networkText is one line of the state; "" when there is nothing to say.
func networkText(n *api.Network) string {
	switch {
	case n.Down != nil:
		return "nothing is sent: " + printable(*n.Down)
	case n.Bind != "":
		return "bound to " + printable(n.Bind)
	}
	return ""
}
