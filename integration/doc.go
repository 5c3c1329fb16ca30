// Package integration proves the built command on real parts: real clients
// (Transmission, aria2, libtorrent, rtorrent, qBittorrent), a real tracker (opentracker), real TCP,
// the kernel's FUSE, and readers that are other processes.
//
// The tests run in user, mount, PID and network namespaces of their own
// (isolate_test.go), so that no packet leaves the machine, no mount outlives
// the run and no process is left behind, whatever happens. Each program gets
// a network namespace, joined by a bridge:
//
//	test process ── br0 10.77.255.254
//	                 ├── n1 eth0 10.77.0.1   opentracker
//	                 ├── n2 eth0 10.77.0.2   a seeder
//	                 └── n3 eth0 10.77.0.3   swarmfs, mounted where the readers see it
//
// The MTU is 1500, as on a real network: at 65536 a block fits one segment,
// and Nagle's algorithm with delayed acknowledgements adds pauses of 40 ms
// that only loopback has.
//
// layering_test.go holds the rules about who may import whom; it is all that
// runs with -short.
package integration
