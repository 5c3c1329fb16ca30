package cache

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// The place of the database: it may not be usable at the start, and it may be
// deleted, replaced or unmounted while it is in use. Meanwhile pieces live in
// RAM. All of this is done by the writer.

const (
	// lookEvery is how often the writer looks whether the folder is still there,
	// or there again: two calls of stat.
	lookEvery = 2 * time.Second
	// closeOrphan bounds how long a database without a folder may take to close.
	// Badger tries for ever to write what it has left.
	closeOrphan = 10 * time.Second
)

// foundExt is what the name of a database has besides while the one before it is
// being closed in its place.
const foundExt = ".found"

var errFolderGone = errors.New("data folder was deleted or replaced")

// home is the folder of the database as it was when it was opened.
type home struct {
	dir, pieces os.FileInfo
	device      uint64 // on which the data folder was first seen; 0: never
}

// deviceOf returns the number of the filesystem that holds a file.
func deviceOf(fi os.FileInfo) uint64 { return fi.Sys().(*syscall.Stat_t).Dev }

// settleIn notes the folders that the database was opened in.
func (s *Store) settleIn() error {
	dir, err := os.Stat(s.opts.Dir)
	if err != nil {
		return fmt.Errorf("look at data folder: %w", err)
	}
	pieces, err := os.Stat(s.dir)
	if err != nil {
		return fmt.Errorf("look at data folder: %w", err)
	}
	s.home = home{dir: dir, pieces: pieces, device: deviceOf(dir)}
	return nil
}

// moved says that the folders are not those that settleIn noted. What cannot be
// looked at for another reason is left to those who write there.
func (s *Store) moved() bool {
	for path, was := range map[string]os.FileInfo{s.opts.Dir: s.home.dir, s.dir: s.home.pieces} {
		now, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(was, now) {
			return true
		}
	}
	return false
}

// watch has the writer look at the folder now and then, until Close.
func (s *Store) watch() {
	tick := time.NewTicker(cmp.Or(s.opts.look, lookEvery))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.mu.Lock()
			s.look = true
			s.work.Broadcast()
			s.mu.Unlock()
		case <-s.quit:
			return
		}
	}
}

// tend gives up a database whose folder has gone, and opens one when there is
// none and it can be. It tries less and less often.
func (s *Store) tend() {
	s.mu.Lock()
	budget := s.budget
	s.mu.Unlock()
	switch {
	case s.disk != nil && s.moved():
		s.detach(errFolderGone)
		return
	case s.disk != nil && budget > 0:
		if !s.opts.KeepAll {
			s.trim()
			s.heal()
		}
		return
	case s.disk != nil:
		s.abandon()
		return
	case budget == 0:
		s.setDegraded(nil)
		return
	}
	if s.opening.waits() {
		return
	}
	err := s.reopen()
	s.opening.took(err)
	s.setDegraded(err)
}

// detach goes on without the database: what it holds is evicted. It is closed
// by reopen.
func (s *Store) detach(why error) {
	_, _ = s.awaitCollection() // what it failed at is given up
	s.mu.Lock()
	s.orphan, s.disk = s.disk, nil
	s.broken = nil
	s.policy, s.live = newPolicy(s.policy.target, tuned), 0
	for _, v := range s.volumes {
		for piece := range v.disk {
			delete(v.disk, piece)
			if v.ram[piece] == nil {
				s.evicted(v, piece)
			}
		}
	}
	s.space = space{budget: s.space.budget, rest: s.space.rest}
	s.mu.Unlock()
	s.setDegraded(why)
}

// reopen makes the folder if it may, and opens the database in it.
func (s *Store) reopen() error {
	if err := s.remake(); err != nil {
		return err
	}
	if err := s.relock(); err != nil {
		return err
	}
	if err := s.bury(); err != nil {
		return err
	}
	s.mu.Lock()
	s.logFile = logFileSize(s.budget)
	s.retarget()
	s.mu.Unlock()
	d, found, err := s.openDatabase()
	if err != nil {
		return err
	}
	if err := s.settleIn(); err != nil {
		return errors.Join(err, d.close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disk = d
	s.failing, s.failure = pause{}, nil // of another
	s.unread.Store(0)
	s.index(found)
	s.rescue()
	return nil
}

// remake makes the data folder if it is missing. When another filesystem is in
// its place now, the one that was there has been unmounted and may be back: what
// is there then is used only if it is a data folder.
func (s *Store) remake() error {
	dir := s.opts.Dir
	fi, err := os.Stat(dir)
	for errors.Is(err, os.ErrNotExist) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		fi, err = os.Stat(dir)
	}
	if err != nil {
		return fmt.Errorf("look at data folder: %w", err)
	}
	if s.home.device != 0 && deviceOf(fi) != s.home.device {
		if _, err := os.Stat(filepath.Join(s.opts.Dir, lockName)); err != nil {
			return errFolderGone
		}
	}
	if err := os.MkdirAll(s.opts.Dir, 0o755); err != nil {
		return fmt.Errorf("create data folder: %w", err)
	}
	return nil
}

// relock locks the folder that is there now.
func (s *Store) relock() error {
	if s.lock != nil && s.lock.isOf(s.opts.Dir) {
		return nil
	}
	if err := checkFormat(s.opts.Dir); err != nil {
		return err
	}
	lock, err := Lock(s.opts.Dir)
	if err != nil {
		return err
	}
	if s.lock != nil {
		_ = s.lock.Unlock() // of a folder that nobody can find any more
	}
	s.lock = lock
	return nil
}

// bury closes the database that has lost its folder, so that the disk gets its
// space back. Badger writes a file when it closes, by name, and tries until it
// can: it gets an empty folder for that. What lies in its place is put aside.
func (s *Store) bury() error {
	if s.orphan == nil {
		return nil
	}
	if s.burying == nil {
		aside := s.dir + foundExt
		err := os.RemoveAll(aside) // a crash left it
		if err != nil {
			return fmt.Errorf("remove old piece database: %w", err)
		}
		if err := os.Rename(s.dir, aside); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("move new piece database aside: %w", err)
		}
		if err := os.Mkdir(s.dir, 0o755); err != nil {
			return fmt.Errorf("make folder to close the old piece database: %w", err)
		}
		done := make(chan struct{})
		s.burying = done
		s.done.Go(func() { // Close does not wait for it beyond its context
			defer close(done)
			s.reads.Wait()
			if err := s.orphan.close(); err != nil {
				s.log.Debug("piece database without a folder does not close well", "error", err)
			}
		})
	}
	select {
	case <-s.burying:
	case <-s.quit:
		return ErrClosed
	case <-time.After(closeOrphan):
		return errors.New("the piece database that lost its folder does not close")
	}
	s.orphan, s.burying = nil, nil
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove what the old piece database left: %w", err)
	}
	if err := os.Rename(s.dir+foundExt, s.dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("move new piece database back: %w", err)
	}
	return nil
}

// pause is how long something that failed is left alone: retryMin, doubled up
// to retryMax while it goes on failing.
type pause struct {
	until time.Time
	wait  time.Duration
}

func (p *pause) waits() bool { return time.Now().Before(p.until) }

// took notes how an attempt ended.
func (p *pause) took(err error) {
	if err == nil {
		*p = pause{}
		return
	}
	p.wait = min(max(2*p.wait, retryMin), retryMax)
	p.until = time.Now().Add(p.wait)
}
