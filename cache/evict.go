package cache

import (
	"encoding/binary"
	"fmt"
)

// collections bounds how many log files are collected after one eviction: one
// takes about 0.1 s per 64 MiB.
const collections = 8

// collectRatios are the parts of a log file that must be garbage for it to be
// collected, which copies the rest: at first, and then while the budget is
// exceeded otherwise. Eviction in the order of writing empties whole files, so
// waiting saves most of the copying: docs/cache.md has the figures.
var collectRatios = [...]float64{0.95, 0.7, 0.5, 0.3, 0.15}

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
	if _, err := s.awaitCollection(); err != nil {
		return true, err
	}
	crashpoint("dropping")
	if err := s.disk.drop(prefixes); err != nil {
		return true, fmt.Errorf("evict pieces: %w", err)
	}
	crashpoint("dropped")
	s.collectBeside()
	if !beside {
		_, err = s.awaitCollection()
	}
	return true, err
}

// collectBeside collects what is nearly all garbage while the writer goes on. It
// reads whole log files, which took a fifth of the time of a stream. Nothing may be
// dropped meanwhile.
func (s *Store) collectBeside() {
	done, collect, most := make(chan error, 1), s.disk.collect, collections
	if s.shrinking {
		most = 1 // the writer waits for it
	}
	s.collecting = done
	s.start(func() {
		for range most {
			if some, err := collect(collectRatios[0]); err != nil || !some {
				done <- err
				return
			}
			crashpoint("collected")
		}
		done <- nil
	})
}

// awaitCollection waits for what collectBeside began, and reports whether there was
// any.
func (s *Store) awaitCollection() (was bool, err error) {
	if s.collecting == nil {
		return false, nil
	}
	err = <-s.collecting
	s.collecting, s.space.looked = nil, false
	if err != nil {
		return true, fmt.Errorf("collect evicted pieces: %w", err)
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

// manyVictims is how many pieces are dropped one by one. Every key of the database
// is compared with every prefix.
const manyVictims = 256

// dropPrefixes returns the key prefixes that cover the victims and nothing
// that is on disk still. Of many, 256 pieces in a row are one prefix. Store.mu is
// held.
func dropPrefixes(victims []spot) [][]byte {
	var prefixes [][]byte
	whole := make(map[spot]bool) // of 256 pieces: may they go as one
	for _, at := range victims {
		group := spot{at.v, at.piece >> 8}
		all, seen := whole[group]
		if !seen {
			all = len(victims) > manyVictims
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
