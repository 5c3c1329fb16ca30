// Command swarmfs mounts torrents as a directory, and makes, checks and seeds
// them.
//
// This package parses flags, builds the parts, supervises them and turns
// errors into one line and an exit code. It owns no logic of torrents: what a
// torrent is comes from metainfo, its bytes from swarm and cache, and the tree
// from fs.
//
//	main.go     run: the whole command as a function of its arguments
//	exit.go     exit codes and the one line an error becomes
//	source.go   what a SOURCE argument may be (pure), load.go how it is read
//	mount.go    mount: flags → cache + swarm + fs, and the way down again
//	seed.go, create.go, info.go, verify.go, …: one small file a command
//
// Data goes to standard output, talk to standard error, progress bars to a
// terminal only. docs/cli.md is the reference.
package main
