package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultMemory = 64 << 20
	// draftShare is the part of the memory that drafts nobody is waiting
	// for may take, in quarters.
	draftShare = 3
)

// Options say where pieces are kept and how much room they may take.
type Options struct {
	// Dir is the data folder. Empty: RAM only, and nothing is locked.
	Dir string
	// Budget bounds the disk space of the pieces, in bytes of disk blocks
	// really used, and what else is in Dir. The log files are a 64th of it
	// (64–256 MiB). 0: RAM only; else at least [MinBudget]. SetBudget changes it.
	Budget int64
	// MinFree is how much free space is left to others on the disk, in bytes:
	// at least [LeastFree] and two log files. Default [DefaultMinFree].
	MinFree int64
	// KeepAll has nothing evicted, not even for others who fill the disk: for a
	// look at what a cache holds.
	KeepAll bool
	// Memory bounds drafts, verified pieces that wait for the disk, and hot
	// pieces, in bytes. A volume that has none of them gets one draft beyond
	// it, so that pieces larger than Memory work; all of these together go 96 MiB
	// beyond it, if there are several. Default 64 MiB.
	Memory int64
	// Logger hears of a disk that fails and of a database moved aside.
	// Default: silent.
	Logger *slog.Logger

	openDisk  func(dir string, logFile int64, log *slog.Logger) (*disk, error) // tests: a faulty disk
	look      time.Duration                                                    // tests: how often the folder is looked at; default lookEvery
	floor     int64                                                            // tests: bytes of disk kept free; default see minFree
	freeSpace func(dir string) (int64, error)                                  // tests: a disk that others fill
}

// Store holds the pieces of all volumes.
type Store struct {
	// Set at start, read-only after.
	opts  Options
	log   *slog.Logger
	dir   string // of the database; "" for RAM only
	lock  *DirLock
	mem   arena
	ready chan struct{} // closed when the disk was looked at for the first time
	quit  chan struct{} // closed by Close
	began time.Time
	slots chan struct{} // one for each check under way
	tasks sync.WaitGroup
	done  sync.WaitGroup // what Close began
	reads sync.WaitGroup // reads from the disk under way; Add with mu held

	unread atomic.Int32 // pieces in a row that the disk failed to give back

	mu        sync.Mutex
	disk      *disk // nil: none now, or RAM only. Set by the writer, with mu held
	closed    bool
	volumes   map[[20]byte]*Volume
	reserved  int64     // bytes of all buffers
	firm      int64     // of these: drafts and dirty pieces, which cannot be dropped
	clean     *policy   // of the others
	ahead     int64     // bytes of these that windows hold
	dirty     []*buffer // committed, not on disk yet, in that order
	fresh     []*buffer // committed, not on any disk, and not read yet; oldest first
	broken    []spot    // lost, and to be removed from the disk
	writing   bool      // the writer is at work
	look      bool      // the writer is to look at the folder
	work      *sync.Cond
	news      news
	stats     Stats
	degraded  error
	readError error     // why the last of unread failed
	warned    time.Time // when the log was told of that, newest
	told      bool      // the log says that the disk is not used
	starved   int       // volumes whose draft was refused

	// What volumes have in common; the channels are 1 deep.
	unmatched              []*Volume // to be compared with the others
	toBorrowSoon, toBorrow []spot    // to be copied from others, for a reader or not
	matchMore, borrowMore  chan struct{}

	budget  int64   // bytes, of everything in the data folder
	logFile int64   // bytes of the database's log files. Set by the writer, with mu held
	policy  *policy // of the pieces on disk, and of what else is there
	live    int64   // bytes of all pieces on disk
	pinned  int64   // bytes of all pins, fetched or not
	// Owned by the writer.
	space      space // rest is set with mu held
	others     others
	shrinking  bool       // the budget was made smaller, and more than that is on disk
	cleared    bool       // the database, and nothing was written to it since
	collecting chan error // of collectBeside; nil: not at work
	home       home
	opening    pause         // after opening the database failed
	failing    pause         // after a write failed
	failure    error         // of the last write; nil: it was written
	unreadable pause         // after pieces could not be read back
	orphan     *disk         // a database that lost its folder, and is to be closed
	burying    chan struct{} // closed when it is; nil: not begun
}

// spot names a piece of a volume.
type spot struct {
	v     *Volume
	piece uint32
}

// Stats are counters since Open, and the state of the moment.
type Stats struct {
	Memory, MemoryUsed, MemoryFirm int64 // bytes: the budget, reserved, reserved by drafts and unwritten pieces
	Budget, DiskLive, DiskUsed     int64 // bytes: the budget, pieces, disk blocks when last looked at
	Pinned                         int64 // bytes of pins, fetched or not
	Drafts                         int   // open now
	Unwritten                      int   // pieces that wait for the disk
	Committed, Written, Evicted    int64 // pieces
	BytesWritten                   int64
	HitsRAM, HitsDisk, Misses      int64 // calls of ReadAt
	WriteErrors, Lost              int64 // batches that failed; pieces that could not be read back, or not as they were
	Borrowed                       int64 // pieces copied from one volume to another
	Checked                        int64 // pieces of earlier runs that were hashed before they were read
}

// Open opens the store. It returns before the disk is read: [Store.Volume]
// and [Store.Degraded] wait for that. A bad disk is no error: then the store
// works in RAM. The error is a [*LockedError] when another process uses Dir, a
// [*FormatError] when a newer program wrote to it, a [*BudgetError] when the budget is
// too small for anything.
func Open(opts Options) (*Store, error) {
	if opts.Budget > 0 && opts.Budget < MinBudget {
		return nil, &BudgetError{Budget: opts.Budget, Min: MinBudget}
	}
	if opts.Memory <= 0 {
		opts.Memory = defaultMemory
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.openDisk == nil {
		opts.openDisk = openBadger
	}
	if opts.freeSpace == nil {
		opts.freeSpace = freeSpace
	}
	s := &Store{
		opts: opts, log: opts.Logger,
		mem:     arena{limit: opts.Memory},
		ready:   make(chan struct{}),
		quit:    make(chan struct{}),
		slots:   make(chan struct{}, runtime.GOMAXPROCS(0)),
		volumes: make(map[[20]byte]*Volume),
		began:   time.Now(),
		budget:  opts.Budget,
		others:  make(others),

		matchMore: make(chan struct{}, 1), borrowMore: make(chan struct{}, 1),
	}
	s.logFile = logFileSize(opts.Budget)
	s.policy = newPolicy(liveTarget(opts.Budget, s.logFile), tuned)
	s.clean = newPolicy(opts.Memory, tunedForMemory)
	s.work = sync.NewCond(&s.mu)
	s.news.init()
	if opts.Dir != "" {
		err := s.openDir()
		if errors.As(err, new(*LockedError)) || errors.As(err, new(*FormatError)) {
			return nil, err
		}
		s.setDegraded(err)
	}
	s.start(s.notify)
	s.start(s.match)
	s.start(s.lend)
	s.start(func() {
		s.load()
		s.write()
	})
	if s.dir != "" {
		s.start(s.watch)
	}
	return s, nil
}

// start runs one of the store's goroutines, which Close waits for.
func (s *Store) start(run func()) { s.tasks.Go(run) }

// piecesName is the folder of the database in the data folder.
const piecesName = "pieces"

// openDir makes and locks the data folder. An error that is not a LockedError
// means RAM only.
func (s *Store) openDir() error {
	s.dir = filepath.Join(s.opts.Dir, piecesName)
	if err := os.MkdirAll(s.opts.Dir, 0o755); err != nil {
		return fmt.Errorf("create data folder: %w", err)
	}
	if err := checkFormat(s.opts.Dir); err != nil {
		return err
	}
	lock, err := Lock(s.opts.Dir)
	if err != nil {
		return err
	}
	s.lock = lock
	return nil
}

// Degraded says why pieces are not kept on disk although they should be; nil
// when they are, or when Options ask for RAM only. It changes at run time: a
// disk that was full may have room again, a folder that was deleted be back.
func (s *Store) Degraded() error {
	<-s.ready
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.degraded
}

// warnEvery is how often the log may say that the disk is not used: one that is
// nearly full is, and is not, many times a minute.
const warnEvery = time.Minute

// setDegraded notes why there is no disk, nil when there is, and logs changes.
func (s *Store) setDegraded(err error) {
	now := time.Now()
	s.mu.Lock()
	warn := err != nil && s.degraded == nil && (s.warned.IsZero() || now.Sub(s.warned) >= warnEvery)
	again := err == nil && s.told
	if warn {
		s.warned, s.told = now, true
	} else if again {
		s.told = false
	}
	s.degraded = err
	s.mu.Unlock()
	switch {
	case warn:
		s.log.Warn("pieces are kept in memory only", "dir", s.opts.Dir, "error", err)
	case again:
		s.log.Info("pieces are kept on disk again", "dir", s.opts.Dir)
	}
}

// Volume returns the volume of an identifier, with what is held of it. The
// same volume is returned every time; the geometry must be the same too.
func (s *Store) Volume(id [20]byte, g Geometry) (*Volume, error) {
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("open volume: %w", err)
	}
	<-s.ready
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	v := s.volumes[id]
	if v == nil {
		v = newVolume(s, id)
		s.volumes[id] = v
	}
	if err := v.adopt(g); err != nil {
		return nil, fmt.Errorf("open volume: %w", err)
	}
	return v, nil
}

// Sync waits until what was committed is on disk and synced. With a degraded
// disk there may be nothing to wait for.
func (s *Store) Sync() error {
	<-s.ready
	s.mu.Lock()
	for !s.closed && (len(s.dirty) > 0 || len(s.broken) > 0 || s.writing) {
		s.work.Wait()
	}
	d := s.disk
	if s.closed || d == nil {
		s.mu.Unlock()
		return nil
	}
	s.reads.Add(1)
	s.mu.Unlock()
	defer s.reads.Done()
	err := d.sync()
	if err != nil {
		s.doubt()
	}
	return err
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Memory, st.MemoryUsed, st.MemoryFirm = s.opts.Memory, s.reserved, s.firm
	st.Budget, st.DiskLive, st.Pinned = s.budget, s.live, s.pinned
	st.Unwritten = len(s.dirty)
	return st
}

// Close writes what is committed, closes the database and unlocks the folder.
// When ctx ends first, Close returns its error; what was not written by then
// is lost when the process ends, and nothing else. Volumes and drafts return
// [ErrClosed] from then on. No callback runs after Close returned nil.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.quit)
	s.work.Broadcast()
	s.mu.Unlock()
	s.news.close()

	finished := make(chan error, 1)
	s.done.Go(func() { finished <- s.finish() }) // not waited for beyond ctx
	select {
	case err := <-finished:
		return err
	case <-ctx.Done():
		return fmt.Errorf("close cache: %w", context.Cause(ctx))
	}
}

func (s *Store) finish() error {
	s.tasks.Wait()
	s.reads.Wait()
	var err error
	if s.disk != nil {
		err = s.disk.close()
	}
	s.mu.Lock()
	for _, v := range s.volumes {
		for _, b := range v.ram {
			s.drop(b)
		}
	}
	s.mu.Unlock()
	s.mem.close()
	if s.lock != nil {
		err = errors.Join(err, s.lock.Unlock())
	}
	if err != nil {
		return fmt.Errorf("close cache: %w", err)
	}
	return nil
}
