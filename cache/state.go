package cache

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxStateFile bounds what is read of one file, in bytes. The largest torrents
// in the wild have about 20 MiB.
const maxStateFile = 64 << 20

// What is in the folder: one index of the records, the metainfo of each torrent,
// and of programs before format 2 a torrent file and a record for each.
const (
	indexName    = "index"
	metainfoExt  = ".meta"
	oldMetaExt   = ".torrent"
	oldRecordExt = ".json"
)

// ErrUnknown means that there is no torrent of that identifier.
var ErrUnknown = errors.New("torrent is not known")

// State keeps the torrents of a data folder and what is to be remembered of
// them, apart from the piece database, which is disposable. Each file of it is
// sealed by a checksum and has a copy beside it; a damaged one is written anew
// from the other, and said in the log. Records are kept in memory until Save.
// Its owner must have the folder's lock.
type State struct {
	dir string
	log *slog.Logger

	saving sync.Mutex // held by Save and Refresh, around mu: one writer of the index

	mu      sync.Mutex
	records map[[20]byte]Record
	sealed  map[[20]byte]bool // torrents whose metainfo is there; false: as an old file
	changed bool              // records are not what the index says
	stored  bool              // there is an index
}

// Record is what is remembered of a torrent.
type Record struct {
	Name       string    `json:"name"` // under which it was shown
	Added      time.Time `json:"added"`
	Uploaded   int64     `json:"uploaded"`         // bytes, of all runs
	Downloaded int64     `json:"downloaded"`       // bytes, of all runs, all that came
	Wasted     int64     `json:"wasted,omitempty"` // of these: bad, not asked for, or twice
	// Pinned are files of the torrent, by their place in it, that are to be
	// completed and kept.
	Pinned []Span `json:"pinned,omitempty"`
	// Imported is what its files of others were found to hold.
	Imported ImportRecord `json:"imported,omitzero"`
}

func (r Record) equal(o Record) bool {
	return slices.Equal(r.Pinned, o.Pinned) && r.Imported.equal(o.Imported) && r.Added.Equal(o.Added) && r.Name == o.Name &&
		r.Uploaded == o.Uploaded && r.Downloaded == o.Downloaded && r.Wasted == o.Wasted
}

// OpenState opens the torrents of a data folder, below dir/torrents. A folder
// that cannot be made or read is an empty one, which Save tries to make. The
// error is a [*FormatError].
func OpenState(dir string, log *slog.Logger) (*State, error) {
	s := &State{
		dir: filepath.Join(dir, "torrents"), log: cmp.Or(log, slog.New(slog.DiscardHandler)),
		records: make(map[[20]byte]Record), sealed: make(map[[20]byte]bool),
	}
	old := s.look()
	switch err := s.loadIndex(); {
	case errors.As(err, new(*FormatError)):
		return nil, err
	case err != nil:
		s.loadOld(old)
	}
	return s, nil
}

// checkFormat returns a *FormatError when a newer program wrote to a data folder.
func checkFormat(dir string) error {
	_, _, err := twin(filepath.Join(dir, "torrents", indexName)).read(false)
	if errors.As(err, new(*FormatError)) {
		return err
	}
	return nil
}

// look lists the folder, and returns the torrents that have an old record.
func (s *State) look() (old [][20]byte) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.log.Warn("torrents cannot be listed", "dir", s.dir, "error", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if strings.HasPrefix(e.Name(), tempPrefix) {
			_ = os.Remove(filepath.Join(s.dir, e.Name())) // a crash left it; if it stays, it is in nobody's way
		}
		name, ext := cutExt(strings.TrimSuffix(e.Name(), backupExt))
		id, ok := parseID(name)
		switch {
		case !ok:
		case ext == metainfoExt:
			s.sealed[id] = true
		case ext == oldMetaExt:
			if _, known := s.sealed[id]; !known {
				s.sealed[id] = false
			}
		case ext == oldRecordExt:
			old = append(old, id)
		}
	}
	return old
}

func cutExt(name string) (base, ext string) {
	ext = filepath.Ext(name)
	return strings.TrimSuffix(name, ext), ext
}

func parseID(name string) (id [20]byte, ok bool) {
	if len(name) != 2*len(id) || strings.ToLower(name) != name {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(name))
	return id, err == nil
}

// index is the content of the index file. Keys are identifiers in hex.
type index struct {
	Torrents map[string]Record `json:"torrents"`
}

func (s *State) indexFile() twin { return twin(filepath.Join(s.dir, indexName)) }

// loadIndex reads the records. The error says that there are none to be had.
func (s *State) loadIndex() error {
	payload, found, err := s.indexFile().read(true)
	if err != nil {
		if !errors.As(err, new(*FormatError)) && !found.absent() {
			s.log.Warn("list of torrents is lost: both copies are bad; it is begun anew", "file", s.indexFile(), "error", err)
			s.keepBad()
		}
		return err
	}
	var in index
	if err := json.Unmarshal(payload, &in); err != nil {
		return fmt.Errorf("read %s: %w", s.indexFile(), err) // a bug: the sum is right
	}
	for name, r := range in.Torrents {
		if id, ok := parseID(name); ok {
			s.records[id] = r
		}
	}
	s.repair(s.indexFile(), payload, found)
	s.stored = true
	return nil
}

// keepBad moves the copies of an index that cannot be read out of the way of
// the next one: a disk that fails to read today may do it tomorrow.
func (s *State) keepBad() {
	for _, path := range s.indexFile().copies() {
		_ = os.Rename(path, path+".damaged") // it may not be there
	}
}

// repair writes a file anew when a copy of it is not as it should be.
func (s *State) repair(file twin, payload []byte, found condition) {
	for i, err := range found {
		if err == nil {
			continue
		}
		path := file.copies()[i]
		if werr := file.write(payload); werr != nil {
			s.log.Warn("file of the data folder is damaged, its copy is good", "file", path, "error", err, "repair", werr)
		} else if !errors.Is(err, errOlder) {
			s.log.Warn("file of the data folder was damaged and is repaired from its copy", "file", path, "error", err)
		}
		return // both copies are written
	}
}

// loadOld takes the records over from one file each, as format 1 had them.
// Those that cannot be read are lost.
func (s *State) loadOld(ids [][20]byte) {
	for _, id := range ids {
		var r Record
		data, err := readBounded(s.path(id, oldRecordExt))
		if err == nil {
			err = json.Unmarshal(data, &r)
		}
		if err != nil {
			s.log.Warn("record of a torrent is lost", "torrent", hex.EncodeToString(id[:]), "error", err)
			continue
		}
		s.records[id] = r
	}
	s.changed = len(s.records) > 0
}

// Refresh notices that the folder was deleted, or is another one now: what it
// does not hold is not Sealed any more, and Save has something to do.
func (s *State) Refresh() {
	s.saving.Lock()
	defer s.saving.Unlock()
	_, err := os.Stat(string(s.indexFile()))
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stored || !errors.Is(err, os.ErrNotExist) {
		return
	}
	clear(s.sealed)
	s.stored, s.changed = false, true
}

// Put stores the metainfo of a torrent.
func (s *State) Put(id [20]byte, metainfo []byte) error {
	if err := s.makeDir(); err != nil {
		return err
	}
	if err := s.metainfo(id).write(metainfo); err != nil {
		return err
	}
	_ = os.Remove(s.path(id, oldMetaExt)) // not read any more
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed[id] = true
	return nil
}

// Sealed says whether the metainfo of a torrent is there in the present format.
func (s *State) Sealed(id [20]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sealed[id]
}

// Get returns the metainfo of a torrent. The error is [ErrUnknown] if there is
// none, a [*FormatError] if a newer program wrote it. What an old file holds is
// not checked by any sum.
func (s *State) Get(id [20]byte) ([]byte, error) {
	data, found, err := s.metainfo(id).read(false)
	switch {
	case err == nil:
		s.repair(s.metainfo(id), data, found)
		return data, nil
	case errors.As(err, new(*FormatError)):
		return nil, err
	}
	old, olderr := readBounded(s.path(id, oldMetaExt))
	switch {
	case olderr == nil:
		return old, nil
	case found.absent() && errors.Is(olderr, os.ErrNotExist):
		return nil, ErrUnknown
	case found.absent():
		err = olderr
	}
	return nil, fmt.Errorf("read torrent: %w", err)
}

// Record returns what is remembered of a torrent, false if there is nothing.
func (s *State) Record(id [20]byte) (Record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[id]
	r.Pinned = slices.Clone(r.Pinned)
	return r, ok
}

// SetRecord changes what is remembered of a torrent, on disk from the next Save on.
func (s *State) SetRecord(id [20]byte, r Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.records[id]; ok && old.equal(r) {
		return
	}
	r.Pinned = slices.Clone(r.Pinned)
	s.records[id] = r
	s.changed = true
}

// Save writes the records, if they have changed, twice: about 400 bytes for
// each torrent. On an error they are written by the next Save.
func (s *State) Save() error {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.Lock()
	if !s.changed {
		s.mu.Unlock()
		return nil
	}
	in := index{Torrents: make(map[string]Record, len(s.records))}
	for id, r := range s.records {
		in.Torrents[hex.EncodeToString(id[:])] = r // nobody changes Pinned in place
	}
	s.changed = false
	s.mu.Unlock()

	err := s.save(in)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.changed = true
	} else {
		s.stored = true
	}
	return err
}

func (s *State) save(in index) error {
	payload, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("store list of torrents: %w", err)
	}
	if err := s.makeDir(); err != nil {
		return err
	}
	if err := s.indexFile().write(append(payload, '\n')); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(s.dir, "*"+oldRecordExt))
	for _, path := range old {
		_ = os.Remove(path) // the index has what it said
	}
	return err
}

// Check reads all metainfo, repairs copies that are bad, and returns the
// torrents of which both are: they are as unknown from then on.
func (s *State) Check(ctx context.Context) (lost [][20]byte) {
	for _, id := range s.List() {
		if ctx.Err() != nil {
			break
		}
		if !s.Sealed(id) {
			continue
		}
		payload, found, err := s.metainfo(id).read(true)
		switch {
		case err == nil:
			s.repair(s.metainfo(id), payload, found)
		case !errors.As(err, new(*FormatError)):
			s.log.Warn("metainfo of a torrent is lost: both copies are bad", "file", s.metainfo(id), "error", err)
			s.mu.Lock()
			s.sealed[id] = false
			s.mu.Unlock()
			lost = append(lost, id)
		}
	}
	return lost
}

// List returns the torrents whose metainfo is there, in the order of their
// identifiers. What else lies in the folder is ignored.
func (s *State) List() [][20]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([][20]byte, 0, len(s.sealed))
	for id := range s.sealed {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b [20]byte) int { return slices.Compare(a[:], b[:]) })
	return ids
}

func (s *State) metainfo(id [20]byte) twin { return twin(s.path(id, metainfoExt)) }

func (s *State) path(id [20]byte, ext string) string {
	return filepath.Join(s.dir, hex.EncodeToString(id[:])+ext)
}

func (s *State) makeDir() error {
	// Only this one: whether the data folder is made again is the store's choice.
	if err := os.Mkdir(s.dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("create torrent folder: %w", err)
	}
	return nil
}
