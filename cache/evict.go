package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// openFloor is the free disk space below which the database is not
	// opened, in bytes: opening touches a few MiB of sparse files.
	openFloor = 64 << 20
	// freeFloor is the least free space that is left to others, in bytes.
	freeFloor = 512 << 20
	// evictShare is the part of the budget that is evicted at once. Dropping
	// costs 12–150 ms however much is dropped.
	evictShare = 20
	// collections bounds how long the writer collects garbage before it
	// looks again: a log file takes about 0.1 s per 64 MiB.
	collections = 8
)

// collectRatios are the parts of a log file that must be garbage for it to be
// collected, which copies the rest: at first, and then while the budget is
// exceeded otherwise. Eviction in the order of writing empties whole files, so
// waiting saves most of the copying: docs/cache.md has the figures.
var collectRatios = [...]float64{0.95, 0.7, 0.5, 0.3}

var (
	errDiskFull = errors.New("disk is full")
	errTooLarge = errors.New("piece is larger than the disk budget")
)

// logFileSize returns how large the database's log files get, in bytes. They
// are the unit in which space comes back: with a 16th of the budget a household
// has 1.5 to 1.9 times as much written as it fetches, with a 64th 1.1 to 1.2. Each
// costs an open file and a sync, so they are not smaller; the last one is read at
// the start.
func logFileSize(budget int64) int64 {
	if budget < 512<<20 { // tiny disks
		return min(max(budget/16, 1<<20), 16<<20)
	}
	return min(max(budget/64, 32<<20), 256<<20)
}

// liveTarget returns how many bytes of pieces may be on disk. The rest is for
// what is dropped but not collected, and for the log file being written.
func liveTarget(budget int64) int64 {
	return max(budget-max(budget*15/100, 2*logFileSize(budget)), 0)
}

// minFree returns how much free space the writer leaves on the disk.
func (s *Store) minFree() int64 {
	if s.opts.floor != 0 {
		return s.opts.floor
	}
	return max(2*logFileSize(s.opts.Budget), freeFloor)
}

// space is what the writer knows of the disk.
type space struct {
	used   int64 // bytes: the last measure and what was written since
	sure   int64 // up to this there is no need to measure again
	free   int64 // bytes, when last looked at
	looked bool
}

// makeRoom makes sure that so many bytes can be written without exceeding the
// budget or filling the disk. It evicts, and waits for the collection.
func (s *Store) makeRoom(need int64) error {
	budget := s.opts.Budget
	target := liveTarget(budget)
	if need > target {
		return errTooLarge
	}
	s.mu.Lock()
	live := s.live
	s.mu.Unlock()
	if live+need > target {
		if _, err := s.evict(live + need - target + budget/evictShare); err != nil {
			return err
		}
	}
	for {
		if err := s.measure(need); err != nil {
			return err
		}
		if s.space.used+need <= budget-logFileSize(budget)/2 && s.space.free-need >= s.minFree() {
			return nil
		}
		// Collecting copies what is alive: that needs room itself.
		if s.space.free > logFileSize(budget)*3/2 {
			some, err := s.collect(collectRatios[:])
			if err != nil {
				return err
			}
			if some {
				s.space.looked = false
				continue
			}
		}
		if some, err := s.evict(budget / evictShare); err != nil {
			return err
		} else if !some {
			return errDiskFull
		}
		s.space.looked = false
	}
}

// measure looks at the disk, unless it cannot be near its limits yet.
func (s *Store) measure(need int64) error {
	sp := &s.space
	if sp.looked && sp.used+need <= sp.sure {
		return nil
	}
	used, err := diskUsage(s.dir)
	if err != nil {
		return err
	}
	free, err := freeSpace(s.dir)
	if err != nil {
		return err
	}
	// Others write on this disk too, so look again after half of the room
	// or 64 MiB, whichever is less.
	room := min(s.opts.Budget-used, free-s.minFree())
	*sp = space{used: used, free: free, sure: used + min(room/2, 64<<20), looked: true}
	return nil
}

// evict drops the pieces that the policy gives up, at least so many bytes if there
// are, and collects what that leaves. It reports whether there were any.
func (s *Store) evict(bytes int64) (some bool, err error) {
	s.mu.Lock()
	victims := s.policy.victims(bytes, spot.hold)
	for _, at := range victims {
		d, ok := at.v.disk[at.piece]
		if !ok {
			continue // lost, or never complete: drop what there is
		}
		s.live -= int64(d.bytes)
		delete(at.v.disk, at.piece)
		if at.v.ram[at.piece] == nil {
			s.evicted(at.v, at.piece)
		}
	}
	prefixes := dropPrefixes(victims)
	s.mu.Unlock()
	if len(prefixes) == 0 {
		return false, nil
	}
	crashpoint("dropping")
	if err := s.disk.drop(prefixes); err != nil {
		return true, fmt.Errorf("evict pieces: %w", err)
	}
	crashpoint("dropped")
	for range collections {
		if some, err := s.collect(collectRatios[:1]); err != nil || !some {
			return true, err
		}
	}
	return true, nil
}

// collect gives back the space of one log file of which, for the first ratio that
// finds one, so much is garbage.
func (s *Store) collect(ratios []float64) (bool, error) {
	for _, ratio := range ratios {
		some, err := s.disk.collect(ratio)
		crashpoint("collected")
		if err != nil {
			return false, fmt.Errorf("collect evicted pieces: %w", err)
		}
		if some {
			return true, nil
		}
	}
	return false, nil
}

// dropPrefixes returns the key prefixes that cover the victims and nothing
// that is on disk still. Every key of the database is compared with every
// prefix, so 256 small pieces in a row are one prefix. Store.mu is held.
func dropPrefixes(victims []spot) [][]byte {
	var prefixes [][]byte
	whole := make(map[spot]bool) // of 256 pieces: may they go as one
	for _, at := range victims {
		group := spot{at.v, at.piece >> 8}
		all, seen := whole[group]
		if !seen {
			all = true
			for p := group.piece << 8; all && p <= group.piece<<8|0xff; p++ {
				_, held := at.v.disk[p]
				all = !held
			}
			whole[group] = all
			if all {
				prefixes = append(prefixes, piecePrefix(at.v.id, at.piece)[:24])
			}
		}
		if !all {
			prefixes = append(prefixes, piecePrefix(at.v.id, at.piece))
		}
	}
	return prefixes
}

// piecePrefix is what the keys of a piece begin with: 'p', the volume, the
// piece in big endian.
func piecePrefix(id [20]byte, piece uint32) []byte {
	key := make([]byte, 0, keySize)
	key = append(key, 'p')
	key = append(key, id[:]...)
	return binary.BigEndian.AppendUint32(key, piece)
}

// diskUsage returns the bytes of disk blocks that the files of a folder take.
// Badger's files are sparse: their length says nothing.
func diskUsage(dir string) (int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("measure disk use: %w", err)
	}
	var used int64
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			continue // collected meanwhile
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			used += st.Blocks * 512
		}
	}
	return used, nil
}

// freeSpace returns the bytes of disk that this user may still write.
func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("measure free disk space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

func isReadOnly(err error) bool { return errors.Is(err, unix.EROFS) }
