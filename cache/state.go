package cache

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxStateFile bounds what is read of one file, in bytes. The largest torrents
// in the wild have about 20 MiB.
const maxStateFile = 64 << 20

const (
	torrentExt = ".torrent"
	recordExt  = ".json"
)

// ErrUnknown means that there is no torrent of that identifier.
var ErrUnknown = errors.New("torrent is not known")

// State keeps the torrents of a data folder and what is to be remembered of
// them, in small files that are replaced atomically and survive a power cut.
// It is apart from the piece database, which is disposable. Its owner must
// have the folder's lock.
type State struct{ dir string }

// Record is what is remembered of a torrent.
type Record struct {
	Name       string    `json:"name"` // under which it was shown
	Added      time.Time `json:"added"`
	Uploaded   int64     `json:"uploaded"`   // bytes, of all runs
	Downloaded int64     `json:"downloaded"` // bytes, of all runs
	// Pinned are files of the torrent, by their place in it, that are to be
	// completed and kept.
	Pinned []Span `json:"pinned,omitempty"`
}

// OpenState opens the torrents of a data folder, below dir/torrents.
func OpenState(dir string) (*State, error) {
	s := &State{dir: filepath.Join(dir, "torrents")}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, fmt.Errorf("create torrent folder: %w", err)
	}
	return s, nil
}

// Put stores a torrent file under its infohash.
func (s *State) Put(id [20]byte, torrent []byte) error {
	if len(torrent) > maxStateFile {
		return fmt.Errorf("store torrent: %d bytes are more than %d", len(torrent), maxStateFile)
	}
	return s.replace(id, torrentExt, torrent)
}

// Get returns a torrent file. The error is [ErrUnknown] if there is none.
func (s *State) Get(id [20]byte) ([]byte, error) { return s.read(id, torrentExt) }

// PutRecord stores what is to be remembered of a torrent.
func (s *State) PutRecord(id [20]byte, r Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("store record of torrent: %w", err)
	}
	return s.replace(id, recordExt, append(data, '\n'))
}

// Record returns what is remembered of a torrent. The error is [ErrUnknown] if
// there is nothing.
func (s *State) Record(id [20]byte) (Record, error) {
	var r Record
	data, err := s.read(id, recordExt)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("read record of torrent: %w", err)
	}
	return r, nil
}

// List returns the torrents there are, in the order of their infohashes. What
// else lies in the folder is ignored.
func (s *State) List() ([][20]byte, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list torrents: %w", err)
	}
	var ids [][20]byte
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), torrentExt)
		if !ok || !e.Type().IsRegular() || len(name) != 40 || strings.ToLower(name) != name {
			continue
		}
		var id [20]byte
		if _, err := hex.Decode(id[:], []byte(name)); err == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Delete removes a torrent and its record. It is no error if there is none.
func (s *State) Delete(id [20]byte) error {
	for _, ext := range []string{torrentExt, recordExt} {
		if err := os.Remove(s.path(id, ext)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("delete torrent: %w", err)
		}
	}
	return syncDir(s.dir)
}

func (s *State) path(id [20]byte, ext string) string {
	return filepath.Join(s.dir, hex.EncodeToString(id[:])+ext)
}

func (s *State) read(id [20]byte, ext string) ([]byte, error) {
	f, err := openRegular(s.path(id, ext))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("read torrent: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxStateFile+1))
	if err != nil {
		return nil, fmt.Errorf("read torrent: %w", err)
	}
	if len(data) > maxStateFile {
		return nil, fmt.Errorf("read torrent: %s is larger than %d bytes", f.Name(), maxStateFile)
	}
	return data, nil
}

// replace writes a file so that after a crash there is the old one or the new.
func (s *State) replace(id [20]byte, ext string, data []byte) error {
	path := s.path(id, ext)
	err := replaceFile(path, data)
	if err != nil {
		return fmt.Errorf("store torrent: %w", err)
	}
	return syncDir(s.dir)
}

func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // what is left is ignored by List
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// openRegular opens a regular file for reading. Without O_NONBLOCK a FIFO of
// that name would block for ever.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
