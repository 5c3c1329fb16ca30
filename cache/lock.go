package cache

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LockedError says that another process uses a data folder.
type LockedError struct {
	Dir string
	PID int // 0 if unknown
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("data folder %s is used by another process", e.Dir)
	}
	return fmt.Sprintf("data folder %s is used by process %d", e.Dir, e.PID)
}

// lockName is the file of a data folder that is locked.
const lockName = "lock"

// DirLock is the right to use a data folder.
type DirLock struct{ file *os.File }

// Lock takes a data folder for this process, until Unlock or the end of the
// process. [Open] does it by itself. The error is a [*LockedError] when
// another process, or another store of this one, has it.
func Lock(dir string) (*DirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if err != unix.EWOULDBLOCK {
			return nil, fmt.Errorf("lock data folder %s: %w", dir, err)
		}
		text, _ := io.ReadAll(io.LimitReader(f, 32)) // the number is a courtesy
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return nil, &LockedError{Dir: dir, PID: pid}
	}
	// On a full disk the number is missing, which costs only the courtesy.
	_ = f.Truncate(0)
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return &DirLock{file: f}, nil
}

// isOf says whether the lock is that of the folder that is at dir now.
func (l *DirLock) isOf(dir string) bool {
	mine, err := l.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(filepath.Join(dir, lockName))
	return err == nil && os.SameFile(mine, there)
}

// Unlock gives the folder up. The file stays: removing it would let two
// processes lock two files of the same name.
func (l *DirLock) Unlock() error {
	_ = l.file.Truncate(0)
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("unlock data folder: %w", err)
	}
	return nil
}
