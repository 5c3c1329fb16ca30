//go:build !race

package cache

// beside says that log files are collected while others are written. Badger v4.9.6
// allows it, and reads the newest version of the index (DB.MaxVersion) as it is
// being written: the detector calls that a race. An old one only has it keep more.
const beside = true
