//go:build !race

package cache

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func allocSlab(size int) ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map memory for a piece: %w", err)
	}
	return mem, nil
}

func freeSlab(mem []byte) {
	// It cannot fail for a slice that Mmap returned, and nothing could be
	// done about it.
	_ = unix.Munmap(mem)
}
