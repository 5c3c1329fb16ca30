package dht

import (
	"bytes"
	"net/netip"
	"slices"
	"time"
)

// contacts are the nodes that have answered us lately: those worth asking, and
// worth telling others of. It is pure: time comes in. The zero value is ready.
//
// The library's table does not say which of its nodes are good, and searches it
// badly.
type contacts struct {
	list map[netip.AddrPort]answerer
}

type answerer struct {
	id [20]byte
	at time.Time
}

const (
	// BEP 5: a node is good that has answered within 15 minutes.
	goodFor = 15 * time.Minute
	// A table in the real network holds some 150; look-ups meet more.
	maxContacts = 1024
)

// answered notes that a node has answered. One address is one node.
func (c *contacts) answered(now time.Time, addr netip.AddrPort, id [20]byte) {
	if c.list == nil {
		c.list = map[netip.AddrPort]answerer{}
	}
	if _, known := c.list[addr]; !known && len(c.list) >= maxContacts {
		c.makeRoom(now)
	}
	c.list[addr] = answerer{id, now}
}

// makeRoom drops those that have not answered for long, else the oldest.
func (c *contacts) makeRoom(now time.Time) {
	var oldest netip.AddrPort
	at := now
	for addr, a := range c.list {
		if now.Sub(a.at) >= goodFor {
			delete(c.list, addr)
		} else if !a.at.After(at) {
			oldest, at = addr, a.at
		}
	}
	if len(c.list) >= maxContacts {
		delete(c.list, oldest)
	}
}

// silent notes that a node did not answer.
func (c *contacts) silent(addr netip.AddrPort) { delete(c.list, addr) }

// closest returns up to n nodes, those closest to the target first.
func (c *contacts) closest(now time.Time, target [20]byte, n int) []contact {
	var all []contact
	for addr, a := range c.list {
		if now.Sub(a.at) < goodFor {
			all = append(all, contact{a.id, addr})
		}
	}
	slices.SortFunc(all, func(a, b contact) int { return compareDistance(target, a.id, b.id) })
	return all[:min(n, len(all))]
}

// compareDistance says which of two ids is closer to a target, by the metric of
// BEP 5: negative if a is.
func compareDistance(target, a, b [20]byte) int {
	for i := range target {
		a[i] ^= target[i]
		b[i] ^= target[i]
	}
	return bytes.Compare(a[:], b[:])
}
