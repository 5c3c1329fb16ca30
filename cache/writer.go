package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const (
	// batchBytes is how much is given to the disk at once. More hides the
	// cost of small pieces, less shortens the time until a piece is safe.
	batchBytes = 4 << 20
	// A disk that failed is left alone for retryMin, doubled up to retryMax
	// while it goes on failing. Pieces committed meanwhile live in RAM.
	retryMin = time.Second
	retryMax = time.Minute
	// A disk that failed to give back so many pieces in a row is left alone, too.
	maxUnread = 8
)

// load opens the database and reads what it holds. It closes ready.
func (s *Store) load() {
	defer close(s.ready)
	if s.budget == 0 {
		s.tellUnused()
		return
	}
	err := s.degraded // there is no folder, or no lock of it
	if err == nil {
		_ = os.RemoveAll(s.dir + foundExt) // of a process that was killed; if it stays, it is in the way of bury alone
		err = s.reopen()
	}
	s.opening.took(err)
	s.setDegraded(err)
}

// tellUnused says that pieces of earlier runs take space and are not used. They are
// not removed: they may be pinned, and a start without a budget may be a trial.
func (s *Store) tellUnused() {
	if s.dir == "" {
		return
	}
	if used, err := diskUsage(s.dir); err == nil && used > 0 {
		s.log.Warn("pieces of earlier runs stay on disk unused: delete the folder, or start with a cache size",
			"dir", s.dir, "size", sizeText(used))
	}
}

// openDatabase opens the database; one that cannot be opened is moved aside,
// replacing the one moved before, and an empty one is made.
func (s *Store) openDatabase() (*disk, []foundPiece, error) {
	// Badger dies by SIGBUS when it opens or writes on a full disk.
	if free, err := s.opts.freeSpace(s.opts.Dir); err != nil {
		return nil, nil, err
	} else if free < LeastFree && s.opts.floor == 0 {
		return nil, nil, fmt.Errorf("open piece database: %d MiB free on the disk of %s, %d needed: free some, or use another --data folder",
			free>>20, s.opts.Dir, LeastFree>>20)
	}
	attempts := openAttempts{path: s.dir + ".opening"}
	var d *disk
	var found []foundPiece
	err := attempts.begin()
	if err == nil {
		crashpoint("opening")
		d, found, err = s.tryOpen()
	}
	if errors.Is(err, os.ErrPermission) || isReadOnly(err) {
		return nil, nil, err
	}
	if err != nil {
		aside := s.dir + ".broken"
		s.log.Warn("piece database moved aside, starting with an empty one", "to", aside, "error", err)
		if err := moveAside(s.dir, aside); err != nil {
			return nil, nil, err
		}
		if d, found, err = s.tryOpen(); err != nil {
			return nil, nil, err
		}
	}
	crashpoint("opened")
	attempts.end()
	return d, found, nil
}

func (s *Store) tryOpen() (d *disk, found []foundPiece, err error) {
	if d, err = s.opts.openDisk(s.dir, s.logFile, s.log); err != nil {
		return nil, nil, fmt.Errorf("open piece database: %w", err)
	}
	if found, err = d.scan(); err != nil {
		_ = d.close() // the error of the scan is the cause
		return nil, nil, fmt.Errorf("read piece database: %w", err)
	}
	return d, found, nil
}

func moveAside(dir, aside string) error {
	if err := os.RemoveAll(aside); err != nil {
		return fmt.Errorf("remove old piece database: %w", err)
	}
	if err := os.Rename(dir, aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("move piece database aside: %w", err)
	}
	// The pieces are of no use to anybody and take room in the budget; the rest
	// is small, and may tell what went wrong.
	logs, err := filepath.Glob(filepath.Join(aside, "*.vlog"))
	for _, path := range logs {
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		return fmt.Errorf("remove pieces of the old database: %w", err)
	}
	return nil
}

// index takes over what the database holds, in the order it was written.
func (s *Store) index(found []foundPiece) {
	slices.SortStableFunc(found, func(a, b foundPiece) int {
		switch {
		case a.version < b.version:
			return -1
		case a.version > b.version:
			return 1
		}
		return 0
	})
	for _, f := range found {
		v := s.volumes[f.id]
		if v == nil {
			v = newVolume(s, f.id)
			s.volumes[f.id] = v
		}
		v.disk[f.piece] = f.diskPiece
		s.policy.add(s.now(), spot{v, f.piece}, f.bytes, v.edges.has(int(f.piece)))
		s.live += int64(f.bytes)
	}
	for _, v := range s.volumes {
		if v.chunk == 0 {
			continue // adopt will look
		}
		v.weed()
		for piece := range v.disk {
			s.news.found(spot{v, piece})
		}
		s.news.room(v) // drafts of these were refused
	}
}

// write is the writer: it brings dirty pieces to the disk until Close.
func (s *Store) write() {
	for {
		batch, broken, look, ok := s.nextBatch()
		if !ok {
			return
		}
		if len(broken) > 0 {
			s.remove(broken) // before they are written again
		}
		if s.shrinking && len(batch) > 0 { // no reader is to wait for that
			s.wrote(batch, errBusy)
			batch = nil
		}
		if look {
			s.tend()
		}
		if len(batch) == 0 {
			s.wrote(nil, nil)
			continue
		}
		err := s.failure
		switch {
		case s.disk == nil:
			err = errNoDisk
		case !s.failing.waits():
			err = s.writeBatch(batch)
			s.tried(err)
		}
		s.wrote(batch, err)
	}
}

// tried notes how the disk took a write.
func (s *Store) tried(err error) {
	failed := s.failure != nil
	if errors.As(err, new(*BudgetError)) || errors.Is(err, errBusy) { // says nothing of other pieces
		s.failure = nil
	} else {
		s.failure = err
		s.failing.took(err)
	}
	if !errors.Is(err, errBusy) {
		s.setDegraded(err)
	}
	if failed && err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rescue()
	}
}

// heal tries again to write, after a pause, when a write has failed: others may not
// come for long, and what lives in memory meanwhile is lost when it is dropped.
func (s *Store) heal() {
	if err := s.disk.unsynced(); err != nil {
		s.doubt()
		s.tried(fmt.Errorf("sync pieces: %w", err))
	}
	s.mindReads()
	if s.failure == nil || s.failing.waits() || s.shrinking {
		return
	}
	s.mu.Lock()
	s.rescue()
	some := len(s.dirty) > 0
	s.mu.Unlock()
	if some {
		return // it is written next
	}
	err := s.makeRoom(0)
	if err == nil {
		err = s.disk.sync()
	}
	if errors.Is(err, ErrClosed) {
		return
	}
	s.tried(err)
}

// mindReads leaves a disk alone that gives nothing back: what is written there is lost
// to readers. After the pause one piece that cannot be read is enough, until one can.
func (s *Store) mindReads() {
	switch n := s.unread.Load(); {
	case n == 0:
		s.unreadable = pause{}
	case n >= maxUnread:
		s.unread.Store(maxUnread - 1)
		s.mu.Lock()
		s.failure = fmt.Errorf("read pieces: %w", s.readError)
		s.mu.Unlock()
		s.unreadable.took(s.failure)
		s.failing = s.unreadable
		s.setDegraded(s.failure)
	}
}

// doubt has every piece on the disk hashed again before it is read. After a write or
// a sync has failed the kernel may forget what it could not write, and give what was
// there before.
func (s *Store) doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.volumes {
		for piece, d := range v.disk {
			d.checked = false
			v.disk[piece] = d
		}
	}
}

var errNoDisk = errors.New("there is no disk at the moment")

// nextBatch waits for dirty pieces, for pieces that were lost, or for the time to
// look at the folder. It is not ok when the store is closed and no piece is left.
func (s *Store) nextBatch() (batch []*buffer, broken []spot, look, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.dirty) == 0 && len(s.broken) == 0 && (!s.look || s.closed) {
		if s.closed {
			return nil, nil, false, false
		}
		s.work.Wait()
	}
	look, s.look = s.look && !s.closed, false
	broken, s.broken = s.broken, nil
	n, bytes := 0, 0
	most := int(min(batchBytes, s.policy.target/2)) // in bytes
	for n < len(s.dirty) && (n == 0 || s.shrinking || bytes+s.dirty[n].size <= most) {
		bytes += s.dirty[n].size
		n++
	}
	batch = slices.Clone(s.dirty[:n])
	s.dirty = slices.Delete(s.dirty, 0, n)
	s.writing = n > 0 || len(broken) > 0
	return batch, broken, look, true
}

func (s *Store) writeBatch(batch []*buffer) error {
	recs := make([]record, len(batch))
	var bytes int64
	for i, b := range batch {
		recs[i] = record{key: b.v.key(b.piece, b.size)}
		for j := range b.chunks {
			recs[i].chunks = append(recs[i].chunks, b.bytes(j*b.v.chunk))
		}
		bytes += int64(b.size)
	}
	if err := s.makeRoom(bytes); err != nil {
		return err
	}
	s.space.used += bytes
	s.cleared = false
	crashpoint("writing")
	if err := s.disk.write(recs); err != nil {
		s.doubt()
		return fmt.Errorf("write pieces: %w", err)
	}
	crashpoint("written")
	return nil
}

// now is the policy's time.
func (s *Store) now() time.Duration { return time.Since(s.began) }

// wrote enters a batch as written, or as pieces that live in RAM.
func (s *Store) wrote(batch []*buffer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range batch {
		if err == nil {
			s.live -= int64(b.v.disk[uint32(b.piece)].bytes) // found on a disk that came back meanwhile
			b.v.disk[uint32(b.piece)] = diskPiece{chunks: uint16(len(b.chunks)), bytes: uint32(b.size), checked: true}
			s.policy.add(s.now(), spot{b.v, uint32(b.piece)}, uint32(b.size), b.v.edges.has(b.piece))
			s.live += int64(b.size)
			s.stats.Written++
			s.stats.BytesWritten += int64(b.size)
			s.settle(b)
		} else {
			s.unwritten(b)
		}
	}
	if err != nil {
		s.stats.WriteErrors++
	}
	s.stats.DiskUsed = s.space.used
	s.writing = false
	s.work.Broadcast()
}

// lost forgets a piece that could not be read back from d, or not as it was, and
// has the writer remove it, so that the next start does not hold it either.
func (s *Store) lost(from *disk, v *Volume, piece uint32, err error) {
	s.mu.Lock()
	d, ok := v.disk[piece]
	if ok && !s.closed && s.disk == from {
		delete(v.disk, piece)
		s.policy.spoil(spot{v, piece})
		s.live -= int64(d.bytes)
		s.stats.Lost++
		if errors.As(err, new(syscall.Errno)) && !errors.Is(err, os.ErrNotExist) && s.unread.Add(1) >= maxUnread {
			s.readError, s.look = err, true
		}
		if v.ram[piece] == nil {
			s.evicted(v, piece)
		}
		s.broken = append(s.broken, spot{v, piece})
		s.work.Broadcast()
	}
	s.mu.Unlock()
	if ok { // otherwise it was evicted meanwhile
		s.log.Debug("piece could not be read back", "piece", piece, "error", err)
	}
}

// remove drops lost pieces from the database. If that fails they are the next to
// be evicted, or are lost again after the next start.
func (s *Store) remove(broken []spot) {
	s.mu.Lock()
	prefixes := dropPrefixes(broken)
	s.mu.Unlock()
	_, err := s.awaitCollection() // nothing may be dropped meanwhile
	if err == nil {
		err = s.disk.drop(prefixes)
	}
	if err != nil {
		s.log.Debug("lost pieces could not be removed", "pieces", len(broken), "error", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range broken {
		s.policy.remove(at)
	}
}

// openAttempts counts, in a file, the openings of the database that were begun
// and not ended. Badger ends the process on some damage; after three such ends
// in a row the database is moved aside. One is not enough: the process may
// have been killed in the middle of a good opening.
type openAttempts struct{ path string }

const maxOpenAttempts = 3

func (a openAttempts) begin() error {
	if err := os.MkdirAll(filepath.Dir(a.path), 0o755); err != nil {
		return fmt.Errorf("create data folder: %w", err)
	}
	f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("note opening of the piece database: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("note opening of the piece database: %w", err)
	}
	if fi.Size() >= maxOpenAttempts {
		return fmt.Errorf("the last %d openings of the piece database did not end", fi.Size())
	}
	if _, err := f.Write([]byte{'.'}); err != nil {
		return fmt.Errorf("note opening of the piece database: %w", err)
	}
	return nil
}

// end forgets the attempts. If it fails, the next opening counts one more.
func (a openAttempts) end() { _ = os.Remove(a.path) }
