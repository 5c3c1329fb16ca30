// Package metadata decides how the info dictionary of a torrent is fetched from
// peers (BEP 9): which piece of it to ask of whom, when to ask somebody else, and
// who sent a bad one. It is pure: no goroutine, socket or clock; messages and time
// come in, requests and verdicts come out.
//
// Nothing is allocated by what a peer claims: a dictionary takes the memory of the
// pieces that came, and several claimed lengths are followed side by side, since
// nobody can tell which is right before the hash does.
package metadata
