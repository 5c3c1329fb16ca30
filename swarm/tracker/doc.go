// Package tracker asks trackers for peers: over HTTP and HTTPS (BEP 3, 7, 23,
// 24, 31) and over UDP (BEP 15, 41), and decides which tracker of a torrent to
// ask when (BEP 12).
//
//	Schedule ──url, event──► Client.Announce ──Response──► Schedule
//	(pure, one owner)        (blocks; any goroutine)
//
// A Schedule belongs to one torrent and to one goroutine; it is pure and time
// comes in. A Client belongs to the process: it is safe for concurrent use, and
// owns the UDP sockets, their readers and every connection it makes until
// Close.
//
// Trackers are strangers named by strangers. What they send is bounded before
// it is read, and where their names and redirects lead is checked when the
// address is known, not before: see hops. No text that leaves the package
// holds a passkey: see Redact.
package tracker
