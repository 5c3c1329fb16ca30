// Package engine decides, for one torrent, who is asked for which block, whom
// to unchoke, what is urgent and whom to drop.
//
// It is a pure state machine: no goroutine, socket, clock, lock or disk. Inputs
// (a peer joined, blocks arrived, a reader waits …) never block and never fail;
// what they cause piles up as Actions until Drain. Time comes in as a value,
// randomness as a generator, so that every decision can be replayed. It is owned
// by one goroutine, the torrent's loop in package swarm.
//
//	readers ──Want──►┌────────┐──Send──────► peers' sockets
//	  peers ─Message►│ Engine │──Upload────►
//	        ─Blocks─►│        │──Verify────► hashing, then Verified
//	  clock ──Tick──►└────────┘──Drop, Completed
//
// What is fetched first is strictly ordered, never weighed: pieces that a read
// is blocked on; then read-ahead windows, nearest first; then the background,
// rarest first. A block of a lower tier is asked for only when the peer at hand
// can do nothing for a higher one.
package engine
