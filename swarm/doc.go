// Package swarm runs torrents: it drives one swarm/engine a torrent with real
// sockets, clocks and memory, and gives readers the verified bytes.
//
// A Session listens and holds the torrents. Each Torrent is a supervised
// service; its life between two crashes is a run: one event loop that owns the
// engine, and goroutines around it that own one socket each. Start reading at
// run.loop.
//
//	Session ─┬─ listener ──► handshake ──┐
//	         └─ Torrent ── run ◄─────────┘ inbox (bounded)
//	                        │  ▲
//	              outboxes  ▼  │ events       Reader ──hit──► Volume
//	                      peer: reader, writer      └──miss──► inbox, and waits
//
// Who may block on what: the loop on nothing but its inbox; everybody else may
// wait for room in the inbox, always together with the run's context. Since the
// loop waits for nobody, there is no cycle.
package swarm
