// Package cache stores verified pieces of numbered volumes, in RAM and in a
// Badger database, both under a budget. It knows no torrents: a volume is an
// identifier, a piece length, a length and the SHA-1 sum of every piece.
//
//	peers ──WriteBlock──► Draft ──Verify, Commit──► RAM ──writer──► Badger
//	                                                │                 │
//	readers ◄──────────────── Volume.ReadAt ────────┴─────────────────┘
//
// A [Draft] is a piece in assembly. Any number of goroutines write blocks into
// it; the first writer of a block wins. What has the right sum is committed,
// can be read at once, and is written by one goroutine to the disk. What does
// not fit the disk budget is evicted about in the order it was written: what was
// read again stays (docs/cache.md).
//
// The owner of a volume advises: which pieces are the edges of files
// ([Volume.Protect]), what readers are about to read ([Volume.Window]), which reads
// are no reason to keep a piece ([Volume.Peek]), and what is to stay for good
// ([Volume.Pin]).
//
// The package owns the folder [Options].Dir: the database in pieces/, the
// torrents of [State] in torrents/, and the file lock. The database is
// disposable: when it cannot be opened it is moved aside, and when the disk is
// full or read-only the store goes on in RAM ([Store.Degraded] says why).
//
// [Files] is the other kind of volume: files that exist already, served where
// they lie and never written.
//
// All exported methods are safe for concurrent use unless they say otherwise.
package cache
