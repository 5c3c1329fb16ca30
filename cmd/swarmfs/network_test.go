package main

import (
	"slices"
	"strings"
	"testing"

	"swarmfs/swarm/network"
)

func TestTheFirstAddressReplacesTheDefault(t *testing.T) {
	l := addressList{addresses: []string{defaultListen}}
	for _, a := range []string{"127.0.0.1:1", "[::1]:2", "127.0.0.1:1"} {
		if err := l.Set(a); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"127.0.0.1:1", "[::1]:2"}; !slices.Equal(l.addresses, want) {
		t.Errorf("got %q, want %q", l.addresses, want)
	}
}

func TestPeersAreResolvedWithinTheReachOfTheSession(t *testing.T) {
	for _, c := range []struct {
		listen, peer, want string
		code               int
	}{
		{":0", "192.0.2.1:5", "192.0.2.1:5", 0},
		{":0", "[::ffff:192.0.2.1]:5", "192.0.2.1:5", 0},
		{"127.0.0.1:0", "127.0.0.2:5", "127.0.0.2:5", 0},
		{"127.0.0.1:0", "localhost:5", "127.0.0.1:5 [::1]:5", 0},
		{"127.0.0.1:0", "192.0.2.1:5", "", exitUsage},
		{"127.0.0.1:0", "name.example:5", "", exitUsage},
		{":0", "192.0.2.1:0", "", exitUsage},
		{":0", ":5", "", exitUsage},
	} {
		f := &networkFlags{listen: addressList{addresses: []string{c.listen}}, peers: addressList{addresses: []string{c.peer}}}
		peers, err := f.resolvePeers(t.Context(), network.New(network.Options{Local: f.local()}))
		var got []string
		for _, p := range peers {
			got = append(got, p.String())
		}
		if strings.Join(got, " ") != c.want || exitCode(err) != c.code {
			t.Errorf("listen %s, peer %s: got %q, %v, want %q, code %d", c.listen, c.peer, got, err, c.want, c.code)
		}
	}
}
