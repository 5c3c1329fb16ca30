package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"swarmfs/cmd/swarmfs/internal/api"
	"swarmfs/swarm/dht"
)

// nodeFileName is the file in the data folder that keeps the nodes of the DHT: a
// dictionary as other clients have it. It is disposable.
const nodeFileName = "dht.dat"

// maxNodeFile bounds what is read of it, in bytes; it has some kB.
const maxNodeFile = 64 << 10

// dhtOptions are what the flags say of the DHT; nil: none.
func (f *networkFlags) dhtOptions() *dht.Options {
	if f.noDHT {
		return nil
	}
	o := &dht.Options{Bootstrap: f.nodes.addresses}
	if path := f.nodeFile; path != "" {
		o.Load = func() ([]byte, error) { return readNodes(path) }
		o.Save = func(b []byte) error { return writeNodes(path, b) }
	}
	return o
}

// checkNodes refuses a --dht-bootstrap that nobody can be at, or that is out of
// reach.
func (f *networkFlags) checkNodes() error {
	for _, n := range f.nodes.addresses {
		host, port, err := splitAddress(n)
		switch {
		case err != nil:
			return failf(exitUsage, "--dht-bootstrap %s: %w", n, err)
		case host == "" || port == 0:
			return failf(exitUsage, "--dht-bootstrap %s: a node has a host and a port from 1 to 65535", n)
		case f.local() && !onlyLoopback([]string{n}):
			return failf(exitUsage, "--dht-bootstrap %s: out of reach when every --listen is loopback: add a --listen that is not", n)
		}
	}
	return nil
}

// readNodes returns nothing if there is no file yet.
func readNodes(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxNodeFile))
}

// writeNodes replaces the file in one step, so that there is always a whole one.
func writeNodes(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), nodeFileName+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

// dhtText is how the DHT is doing, for people.
func dhtText(d *api.DHT) string {
	return fmt.Sprintf("%s, %s, %d of them good", d.State, plural(d.Nodes, "node"), d.Good)
}
