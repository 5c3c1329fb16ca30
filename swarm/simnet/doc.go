// Package simnet is a network in memory, for tests in virtual time
// (testing/synctest): hosts with addresses that listen, dial and send datagrams
// over paths with latency, bandwidth, partitions and resets.
//
//	Conn.Write ─► send buffer ─► uplink ───► path ───► downlink ─► Conn.Read
//	              64 KiB         in turn,    latency   in order
//	                             Up bytes/s  + jitter  Down bytes/s
//
// Streams behave like TCP as far as a program can tell: connections are refused,
// half closed and reset, writers block on readers, deadlines work, errors are
// *net.OpError around the usual causes. There is no loss and no congestion
// control: a stream gets its turn at the links it shares and no more than a
// window under way. Datagrams behave like UDP and may be lost.
//
// A Net is seeded. Every delivery in it has a moment of its own, so that under
// synctest each wakes one chain of goroutines, and what happens is a function
// of the seed for programs that keep to that rule with their own timers and
// random numbers.
//
// A Net belongs to the bubble it is made in. It starts no goroutine that
// outlives a delivery, and needs no closing.
package simnet
