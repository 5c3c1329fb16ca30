// Package fs shows torrents as a read-only directory through FUSE.
//
//	kernel ──/dev/fuse──► go-fuse: one goroutine a request
//	                        │
//	     names, attributes  │  reads
//	  metainfo.Tree ◄── filesystem ──► handle ──► File (the swarm, behind an interface)
//	     no allocation      │            │
//	                    control       wait: the context of a read that waits,
//	                   (.swarmfs)     and who watches its caller
//
// A multi-file torrent is a directory in the root of the mount, a single-file
// torrent a file there. The directory .swarmfs in the root answers by name but
// is not listed; it holds text files that the daemon generates.
//
// # Identity
//
// A node ID, which is also the inode number, is 39 bits of the infohash and
// the number of the entry in the torrent's tree. So it is the same after a
// restart, a look-up allocates nothing, there is nothing to forget, and a
// stale file handle (NFS) finds its file again. The kernel caches names,
// attributes and pages for as long as it likes: content under an infohash never
// changes. Names that come and go in the root are told to it.
//
// # Waiting
//
// Only reads wait, and only inside File.ReadAt; nothing else may. A read that
// waits ends when its data comes, when the File gives up, when its caller is
// killed or interrupted by the user, and when the file system is closed. Any
// other signal does not end it: Go programs send themselves SIGURG all the
// time, and a page fault cannot be interrupted without a SIGBUS. How many reads
// wait at once is bounded; beyond it they fail with EAGAIN.
//
// # Who may call what
//
// All methods of Server are safe for concurrent use. The process that serves a
// mount should not read from it.
package fs
