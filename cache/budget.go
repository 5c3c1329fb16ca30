package cache

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The budget bounds everything in the data folder, of which the database may take
// what is left. The writer keeps to it before it writes, and looks every two
// seconds besides: others write to the folder and to the disk too.

const (
	// LeastFree is the smallest Options.MinFree, in bytes, and the free disk space
	// below which the database is not opened. A full disk kills the process: the
	// database writes through sparse files.
	LeastFree = 64 << 20
	// DefaultMinFree is the default of Options.MinFree.
	DefaultMinFree = 512 << 20
	// MinBudget is the smallest budget in bytes, beside 0: four of the smallest log
	// files. Half of it are pieces.
	MinBudget = 4 * minLogFile
	// minLogFile is the least that a log file of the database takes, in bytes.
	minLogFile = 1 << 20
	// shrinkStep bounds how long the writer is at work on a budget that was made
	// smaller, beyond one log file, before it looks after what was committed
	// meanwhile.
	shrinkStep = 100 * time.Millisecond
)

var (
	errDiskFull = errors.New("disk is full")
	errBusy     = errors.New("the cache on disk is being made smaller")
)

// BudgetError says that a budget is too small: for anything, for a piece beside what
// else is in the data folder, or for the log files of a database that is open.
type BudgetError struct {
	Budget, Min int64 // bytes
	Open        bool  // for the log files of the open database
}

// Error implements error.
func (e *BudgetError) Error() string {
	if !e.Open {
		return fmt.Sprintf("a cache of %s is too small: give at least %s", sizeText(e.Budget), sizeText(e.Min))
	}
	return fmt.Sprintf("a cache of %s is too small for the log files of this run: at least %s, or 0, or a new start",
		sizeText(e.Budget), sizeText(e.Min))
}

// SetBudget changes Options.Budget. It takes effect within a minute, most of which
// a smaller one needs for reading the log files that go; reads go on from memory
// and from the network meanwhile. 0 removes the pieces from the disk.
//
// The error is a [*PinError] when the pins would not fit, [ErrNoPins] when there
// are pins and the budget is 0, a [*BudgetError], or that there is no data folder.
func (s *Store) SetBudget(budget int64) error {
	<-s.ready
	s.mu.Lock()
	defer s.mu.Unlock()
	logFile := s.logFile
	if s.disk == nil {
		logFile = logFileSize(budget)
	}
	limit := pinLimit(budget-s.space.rest, logFile)
	switch {
	case s.closed:
		return ErrClosed
	case budget < 0:
		return fmt.Errorf("a budget of %d bytes is less than none", budget)
	case budget > 0 && budget < MinBudget:
		return &BudgetError{Budget: budget, Min: MinBudget}
	case budget > 0 && s.dir == "":
		return errors.New("there is no data folder to keep pieces in")
	case budget == 0 && s.pinned > 0:
		return fmt.Errorf("%s are pinned: %w", sizeText(s.pinned), ErrNoPins)
	case budget > 0 && budget < s.budget && s.disk != nil && budget < 4*logFile:
		return &BudgetError{Budget: budget, Min: 4 * logFile, Open: true}
	case s.pinned > limit && budget < s.budget:
		return &PinError{Pinned: s.pinned, Limit: limit}
	}
	s.budget = budget
	s.retarget()
	s.look = true
	s.work.Broadcast()
	return nil
}

// retarget tells the policy how much it is to hold. mu is held.
func (s *Store) retarget() { s.policy.target = liveTarget(s.budget-s.space.rest, s.logFile) }

// logFileSize returns how large the database's log files get, in bytes. They
// are the unit in which space comes back: with a 16th of the budget a household
// has 1.5 to 1.9 times as much written as it fetches, with a 64th 1.1 to 1.2. But
// the writer waits 20 to 40 ms at the end of each: with files of 32 MiB a stream ran
// at 0.6 times the speed of one without a bound, with 64 MiB at 0.8. The last one
// is read at the start. A database keeps its size as long as it is open.
func logFileSize(budget int64) int64 {
	if budget < 1<<30 { // tiny disks
		return min(max(budget/16, minLogFile), 64<<20)
	}
	return min(max(budget/64, 64<<20), 256<<20)
}

// evictBytes returns how much is evicted at once, in bytes. Dropping holds up the
// writer for 12 to 150 ms however much is dropped.
func evictBytes(budget int64) int64 {
	return max(budget/50, min(budget/10, 128<<20))
}

// liveTarget returns how many bytes of pieces may be on disk. The rest is for
// what is dropped but not collected, and for the log file being written.
func liveTarget(budget, logFile int64) int64 {
	return max(budget-max(budget*15/100, 2*logFile), 0)
}

// leastBudget returns the budget that has room for a piece of so many bytes beside
// the rest of the data folder, in whole MiB. It is the inverse of liveTarget.
func leastBudget(piece, rest, logFile int64) int64 {
	least := rest + max(piece+2*logFile, (piece*100+84)/85)
	return max((least+1<<20-1)>>20<<20, MinBudget)
}

// minFree returns how much free space the writer leaves on the disk: a full disk
// kills the process, and the log files are sparse.
func (s *Store) minFree() int64 {
	if s.opts.floor != 0 {
		return s.opts.floor
	}
	return max(2*s.logFile, LeastFree, cmp.Or(s.opts.MinFree, DefaultMinFree))
}

// space is what the writer knows of the disk.
type space struct {
	budget int64 // bytes: the one in force, which may be another at the next step
	used   int64 // bytes of the whole data folder: the last measure and what was written since
	rest   int64 // of these: not the database's. Set with mu held
	sure   int64 // up to this there is no need to measure again
	free   int64 // bytes, when last looked at
	looked bool
}

// makeRoom makes sure that so many bytes can be written without exceeding the
// budget or filling the disk. It evicts, and waits for the collection; but errBusy
// after a while when the budget was made smaller, as that takes long, and ErrClosed
// when the store is closed and nothing is to be written.
func (s *Store) makeRoom(need int64) error {
	begun := time.Now()
	for {
		if need == 0 && s.quits() {
			return ErrClosed // the next start goes on with it
		}
		done, err := s.roomStep(need)
		if done || err != nil {
			return err
		}
		if s.shrinking && time.Since(begun) > shrinkStep {
			return errBusy
		}
	}
}

// roomStep does one thing for room, and is done when there is enough.
func (s *Store) roomStep(need int64) (done bool, err error) {
	if err := s.measure(need); err != nil {
		return false, err
	}
	s.mu.Lock()
	live, target, budget := s.live, s.policy.target, s.budget
	s.mu.Unlock()
	if need > target {
		return false, &BudgetError{Budget: budget, Min: leastBudget(need, s.space.rest, s.logFile)}
	}
	if live+need > target {
		some, err := s.evict(live + need - target + evictBytes(budget))
		if some || err != nil {
			return false, err
		}
	}
	if s.space.used+need <= budget-s.logFile/2 && s.space.free-need >= s.minFree() {
		return true, nil
	}
	if was, err := s.awaitCollection(); was || err != nil {
		return false, err
	}
	// Collecting copies what is alive: that needs room itself.
	ratios := collectRatios[:]
	if s.space.free < s.logFile*3/2 {
		ratios = ratios[:1]
	}
	some, err := s.collect(ratios)
	if err == nil && !some {
		some, err = s.evict(evictBytes(budget))
	}
	if err == nil && !some {
		some, err = s.clear()
	}
	if err == nil && !some {
		err = s.fullError(need)
	}
	s.space.looked = false
	return false, err
}

// fullError says why there is no room for so many bytes, and what to do about it.
func (s *Store) fullError(need int64) error {
	if least := s.minFree(); s.space.free-need < least {
		return fmt.Errorf("%w: %s free, %s are left to others: free some, use another --data folder, or a smaller --min-free (at least %s)",
			errDiskFull, sizeText(s.space.free), sizeText(least), sizeText(LeastFree))
	}
	return fmt.Errorf("%w: what else is in the data folder leaves no room: give a larger --cache-size", errDiskFull)
}

// clear removes what the database has on disk though it holds no piece: garbage
// that it does not know of. What an empty one takes stays, so it is done once for
// what was written.
func (s *Store) clear() (some bool, err error) {
	if s.live > 0 || s.cleared || s.space.used-s.space.rest < s.logFile {
		return false, nil
	}
	s.cleared = true
	if err := s.disk.clear(); err != nil {
		return true, fmt.Errorf("clear piece database: %w", err)
	}
	return true, nil
}

// trim brings the data folder back within the budget, and the disk to its floor of
// free space, when nothing is written. What it cannot do for an error, the next
// write will tell.
func (s *Store) trim() {
	s.space.looked = false
	s.mu.Lock()
	budget := s.budget
	s.mu.Unlock()
	s.shrinking = s.shrinking || budget < s.space.budget
	s.space.budget = budget
	if err := s.makeRoom(0); errors.Is(err, errBusy) {
		s.mu.Lock()
		s.look = true // go on at once
		s.mu.Unlock()
		return
	}
	s.shrinking = false
}

func (s *Store) quits() bool {
	select {
	case <-s.quit:
		return true
	default:
		return false
	}
}

// abandon removes the database, as there is no budget for it any more.
func (s *Store) abandon() {
	s.detach(nil)
	s.reads.Wait()
	err := errors.Join(s.orphan.close(), os.RemoveAll(s.dir))
	s.orphan = nil
	if err != nil {
		s.log.Warn("piece database not removed", "dir", s.dir, "error", err)
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
	rest := s.others.usage(s.opts.Dir)
	free, err := s.opts.freeSpace(s.dir)
	if err != nil {
		return err
	}
	s.mu.Lock()
	sp.rest = rest
	s.retarget()
	budget := s.budget
	s.mu.Unlock()
	sp.used, sp.free, sp.looked = used+rest, free, true
	// Others write on this disk too, so look again after half of the room
	// or 64 MiB, whichever is less.
	room := min(budget-sp.used, free-s.minFree())
	sp.sure = sp.used + min(room/2, 64<<20)
	return nil
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
		if fi, err := e.Info(); err == nil { // else collected meanwhile
			used += blocks(fi)
		}
	}
	return used, nil
}

func blocks(fi os.FileInfo) int64 { return fi.Sys().(*syscall.Stat_t).Blocks * 512 }

// others measures what is in a data folder beside the database. Thousands of
// torrents are not looked at each time, only when their folder has changed: files
// there are replaced, not written.
type others map[string]struct {
	changed time.Time
	bytes   int64
}

// usage returns the bytes of disk blocks. What cannot be looked at does not count.
func (o others) usage(dir string) int64 {
	entries, _ := os.ReadDir(dir)
	var used int64
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil || e.Name() == piecesName {
			continue
		}
		if !fi.IsDir() {
			used += blocks(fi)
			continue
		}
		path := filepath.Join(dir, e.Name())
		known := o[path]
		if !known.changed.Equal(fi.ModTime()) {
			known.changed, known.bytes = fi.ModTime(), treeUsage(path)
			o[path] = known
		}
		used += known.bytes
	}
	return used
}

func treeUsage(dir string) (used int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be looked at does not count
		}
		if fi, err := e.Info(); err == nil {
			used += blocks(fi)
		}
		return nil
	})
	return used
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
