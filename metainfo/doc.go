// Package metainfo says what a torrent is: it reads, writes and creates
// .torrent files (BEP 3, 12, 17, 19, 27, 47 and the v2 part of hybrids, BEP 52)
// and magnet links (BEP 9, 53), and holds the arithmetic between bytes, pieces
// and blocks and the one tree of names that everybody else shows.
//
//	.torrent bytes ──► scan (size, depth, tokens) ──► Parse ──► Torrent
//	ut_metadata    ──► scan ───────────────────────► ParseInfo ─► Info ──► Layout
//	file or folder ──► Create ─► Torrent ─► Marshal               └─────► Tree
//	magnet link    ──► ParseMagnet ─► Magnet
//
// All input is taken to be hostile. Its syntax is checked in one pass that
// neither recurses nor allocates, before anything is decoded; what is decoded
// afterwards costs at most ten times the input in memory. An info dictionary
// gets the same verdict from a file and from a peer, with one exception that
// follows from BEP 52: piece layers, which only a file carries, are checked
// where they are. A refusal is an *InputError: one line, for users.
//
// The package is a leaf: it imports nothing of ours, opens no socket, and reads
// the disk only in Create. Its values are immutable once returned and safe for
// concurrent use.
package metainfo
