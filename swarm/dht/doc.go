// Package dht finds peers in the distributed hash table of BitTorrent (BEP 5, 32,
// 33, 42, 43).
//
//	Service ── family udp4 ── life: library server ── link ── socket
//	        └─ family udp6 ── …
//
// The routing table and the messages are github.com/anacrolix/dht; everything
// that it gets wrong is made good here: a link stands between it and the socket,
// since a packet of thirty bytes can otherwise end the process; the store of
// announced peers is bounded and forgets; look-ups are ours, end with their
// context and leave nothing running; starting nodes are saved ones, and only if
// none of them answers those of the bootstrap hosts, all asked at once.
//
// The package knows no torrents and opens no sockets by itself: Options say how.
// A Service is safe for concurrent use.
package dht
