//go:build crashpoints

package cache

import "os"

// CRASHPOINT=NAME:N ends the process when it comes to a crash point for the N-th
// time, as kill -9 does.
func init() { crashpoint = crashAt(os.Getenv("CRASHPOINT")) }
