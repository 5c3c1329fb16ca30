package network

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// device is what sockets are bound to: an interface, or whichever has an address.
type device struct {
	name string     // "": by address
	addr netip.Addr // of the interface, if by address
}

func parseDevice(s string) *device {
	if a, err := netip.ParseAddr(s); err == nil {
		return &device{addr: a.Unmap()}
	}
	return &device{name: s}
}

// String returns what the user calls it.
func (d *device) String() string {
	if d.name != "" {
		return d.name
	}
	return d.addr.String()
}

// place is where a device is at a moment.
type place struct {
	name     string
	index    int        // an interface that comes again has another
	v4, v6   netip.Addr // zero: it has none
	loopback bool
}

// iface is an interface as the system has it.
type iface struct {
	net.Interface
	addrs []netip.Addr
}

// interfaces returns those of this machine.
func interfaces() ([]iface, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	all := make([]iface, 0, len(list))
	for _, i := range list {
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has gone since
		}
		one := iface{Interface: i}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				one.addrs = append(one.addrs, p.Addr().Unmap())
			}
		}
		all = append(all, one)
	}
	return all, nil
}

// find returns where the device is among the interfaces, or why it is nowhere.
func (d *device) find(all []iface) (place, error) {
	i := slices.IndexFunc(all, func(i iface) bool {
		return i.Name == d.name || d.name == "" && slices.Contains(i.addrs, d.addr)
	})
	switch {
	case i < 0 && d.name == "":
		return place{}, fmt.Errorf("no interface has the address %s", d.addr)
	case i < 0:
		return place{}, fmt.Errorf("there is no interface %s", d.name)
	}
	f := all[i]
	if f.Flags&net.FlagUp == 0 {
		return place{}, fmt.Errorf("interface %s is down", f.Name)
	}
	p := place{name: f.Name, index: f.Index, loopback: f.Flags&net.FlagLoopback != 0}
	for _, a := range f.addrs {
		switch {
		case d.name == "" && a != d.addr, a.IsLinkLocalUnicast():
		case a.Is4() && !p.v4.IsValid():
			p.v4 = a
		case a.Is6() && !p.v6.IsValid():
			p.v6 = a
		}
	}
	if !p.v4.IsValid() && !p.v6.IsValid() {
		return place{}, fmt.Errorf("interface %s has no address", f.Name)
	}
	return p, nil
}

// Bound reports whether there is a device that everything is bound to.
func (n *Network) Bound() bool { return n.device != nil }

// Interfaces returns the device's, for who must know it: what it sends there by
// itself stays there. None: the device is not there.
func (n *Network) Interfaces() ([]net.Interface, error) {
	p, err := n.place()
	if err != nil || p.name == "" {
		return nil, err
	}
	i, err := net.InterfaceByIndex(p.index)
	if err != nil {
		return nil, err
	}
	return []net.Interface{*i}, nil
}

// look sees where the device is, and what addresses there are. Connections from
// an address that has gone are closed: they would be silent for minutes.
func (n *Network) look() {
	all, err := interfaces()
	if err != nil {
		n.log.Debug("interfaces cannot be seen", "error", err)
		if n.device == nil {
			return
		}
	}
	var p place
	missing := err
	if err == nil && n.device != nil {
		p, missing = n.device.find(all)
	}
	var here []netip.Addr
	for _, i := range all {
		if i.Flags&net.FlagUp != 0 {
			here = append(here, i.addrs...)
		}
	}
	n.settle(p, missing, here)
}

// settle takes in what look saw.
func (n *Network) settle(p place, missing error, here []netip.Addr) {
	n.mu.Lock()
	first := n.here == nil
	moved := n.device != nil && (p != n.where || (missing == nil) != (n.missing == nil))
	why := n.missing
	n.where, n.missing, n.here = p, missing, here
	var lost []*socket
	for s := range n.open {
		if moved && s.bound || s.from.IsValid() && !slices.Contains(here, s.from) {
			lost = append(lost, s)
			delete(n.open, s)
		}
	}
	if moved {
		close(n.changed)
		n.changed = make(chan struct{})
	}
	n.mu.Unlock()
	for _, s := range lost {
		s.shut()
	}
	switch {
	case !moved && (missing == nil || errorText(why) == errorText(missing)):
	case missing != nil:
		n.log.Warn("nothing is sent until what --bind names is there", "bind", n.device.String(), "error", missing)
	case !first:
		n.log.Info("what --bind names is there", "bind", n.device.String(), "interface", p.name)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// woke gives up all connections: this machine has slept.
func (n *Network) woke() {
	n.mu.Lock()
	var lost []*socket
	for s := range n.open {
		if s.from.IsValid() && !s.from.IsLoopback() {
			lost = append(lost, s)
			delete(n.open, s)
		}
	}
	n.mu.Unlock()
	for _, s := range lost {
		s.shut()
	}
}
