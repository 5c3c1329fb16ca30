// Package lsd finds peers on the local network by multicast: Local Service
// Discovery (BEP 14). One Service does it for all torrents of a session.
//
//	Search ──► schedule (pure): what is announced when
//	              │
//	           announcer ──► one socket for each interface and family ──► neighbours
//	Search ◄── heard ◄────── one reader each ◄────────────────────────────┘
//
// Message and schedule are pure; only socket.go touches the network. A packet
// goes to an interface that it was given and, by its TTL, no farther than the
// network there.
package lsd
