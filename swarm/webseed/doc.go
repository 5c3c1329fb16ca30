// Package webseed reads a torrent's bytes from a plain web server (BEP 19) or
// from a script made for it (BEP 17).
//
// It knows no session and decides nothing about what is fetched: swarm's web
// peers own a Stream each, ask it for blocks and blame it for bad pieces like any
// peer. A Source is pure: which URL and range hold a byte of the torrent. A
// Stream has one response open at a time:
//
//	Block(off) ──► in the buffer? ──► done
//	           ──► a little further in the response? ──► skipped
//	           ──► else: the response is ended, Source.Part, GET, checked by Accept
//
// What a server says and sends is never trusted: statuses, ranges and lengths are
// checked before the first byte is taken, bytes by the pieces' hashes elsewhere.
package webseed
