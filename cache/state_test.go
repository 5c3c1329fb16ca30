package cache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openState opens a state; the function returns what was logged, a line each.
func openState(t testing.TB, dir string) (*State, func() []string) {
	t.Helper()
	var log bytes.Buffer
	s, err := OpenState(dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s, func() []string { return strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n") }
}

var (
	idA = [20]byte{0xab, 1}
	idB = [20]byte{0x01}
)

// filledState is a data folder with two torrents, of which one has a record.
func filledState(t testing.TB, dir string) Record {
	t.Helper()
	s, _ := openState(t, dir)
	for _, id := range [][20]byte{idA, idB} {
		if err := errors.Join(s.Put(id, []byte("old")), s.Put(id, id[:])); err != nil {
			t.Fatal(err)
		}
	}
	rec := Record{Name: "näme\n", Added: time.Unix(1e9, 0).UTC(), Uploaded: 1 << 40, Downloaded: 7, Wasted: 3, Pinned: []Span{{0, 3}, {9, 10}}}
	s.SetRecord(idA, rec)
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	return rec
}

// wantFilled fails unless a state has all that filledState made.
func wantFilled(t testing.TB, s *State, rec Record) {
	t.Helper()
	if ids := s.List(); !slices.Equal(ids, [][20]byte{idB, idA}) {
		t.Errorf("list: %x", ids)
	}
	for _, id := range [][20]byte{idA, idB} {
		if got, err := s.Get(id); err != nil || !bytes.Equal(got, id[:]) {
			t.Errorf("get %x: %q, %v", id, got, err)
		}
	}
	if got, ok := s.Record(idA); !ok || !reflect.DeepEqual(got, rec) {
		t.Errorf("record: %+v, %v, want %+v", got, ok, rec)
	}
}

func TestStateKeepsTorrentsAndRecords(t *testing.T) {
	dir := t.TempDir()
	rec := filledState(t, dir)
	s, _ := openState(t, dir)
	wantFilled(t, s, rec)
	if _, ok := s.Record(idB); ok {
		t.Error("there is a record of a torrent that has none")
	}
	if _, err := s.Get([20]byte{9}); !errors.Is(err, ErrUnknown) {
		t.Errorf("get of an unknown one: %v", err)
	}
}

// damages are what can become of a file.
var damages = map[string]func(rng *rand.Rand, path string, data []byte) error{
	"missing": func(_ *rand.Rand, path string, _ []byte) error { return os.Remove(path) },
	"empty":   func(_ *rand.Rand, path string, _ []byte) error { return os.Truncate(path, 0) },
	"cut": func(rng *rand.Rand, path string, data []byte) error {
		return os.Truncate(path, rng.Int64N(int64(len(data))))
	},
	"longer": func(_ *rand.Rand, path string, data []byte) error {
		return os.WriteFile(path, append(data, 'x'), 0o600)
	},
	"unaligned": func(_ *rand.Rand, path string, data []byte) error { return os.WriteFile(path, data[1:], 0o600) },
	"overwritten": func(rng *rand.Rand, path string, data []byte) error {
		for i := rng.IntN(len(data)); i < len(data); i++ {
			data[i] = 0xff
		}
		return os.WriteFile(path, data, 0o600)
	},
	"a flipped bit": func(rng *rand.Rand, path string, data []byte) error {
		data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
		return os.WriteFile(path, data, 0o600)
	},
}

func TestDamageToOneOfTwoCopiesCostsNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	rec := filledState(t, dir)
	files, err := filepath.Glob(filepath.Join(dir, "torrents", "*"))
	if err != nil || len(files) != 6 {
		t.Fatalf("files: %q, %v, want two copies of three", files, err)
	}
	for _, path := range files {
		for name, damage := range damages {
			for range 20 {
				data, err := os.ReadFile(path)
				if err == nil {
					err = damage(rng, path, bytes.Clone(data))
				}
				if err != nil {
					t.Fatal(err)
				}
				s, logged := openState(t, dir)
				if lost := s.Check(t.Context()); len(lost) > 0 {
					t.Errorf("%s of %s: lost %x", name, path, lost)
				}
				wantFilled(t, s, rec)
				after, err := os.ReadFile(path)
				if err != nil || !bytes.Equal(after, data) {
					t.Errorf("%s of %s: not repaired: %v", name, path, err)
				}
				if lines := logged(); len(lines) != 1 || !strings.Contains(lines[0], path) {
					t.Errorf("%s of %s: logged %q, want one line with its name", name, path, lines)
				}
				if t.Failed() {
					return
				}
			}
		}
	}
}

func TestGetRepairsWhatItFindsDamaged(t *testing.T) {
	dir := t.TempDir()
	rec := filledState(t, dir)
	s, _ := openState(t, dir)
	path := string(s.metainfo(idA))
	if err := os.Truncate(path, 3); err != nil {
		t.Fatal(err)
	}
	wantFilled(t, s, rec)
	if err := os.Remove(path + backupExt); err != nil {
		t.Fatal(err)
	}
	wantFilled(t, s, rec)
}

func TestWhatIsLostInBothCopiesIsSaidAndNothingElseIsLost(t *testing.T) {
	dir := t.TempDir()
	filledState(t, dir)
	s, logged := openState(t, dir)
	for _, path := range s.metainfo(idA).copies() {
		if err := os.Truncate(path, 5); err != nil {
			t.Fatal(err)
		}
	}
	if lost := s.Check(t.Context()); !slices.Equal(lost, [][20]byte{idA}) || s.Sealed(idA) || !s.Sealed(idB) {
		t.Errorf("lost %x, sealed %v and %v", lost, s.Sealed(idA), s.Sealed(idB))
	}
	if lines := logged(); len(lines) != 1 || !strings.Contains(lines[0], string(s.metainfo(idA))) {
		t.Errorf("logged %q", lines)
	}
	if _, err := s.Get(idA); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("get: %v", err)
	}
	if err := s.Put(idA, idA[:]); err != nil {
		t.Fatal(err)
	}

	for _, path := range s.indexFile().copies() {
		if err := os.Truncate(path, 40); err != nil {
			t.Fatal(err)
		}
	}
	s, logged = openState(t, dir)
	if _, ok := s.Record(idA); ok || len(s.List()) != 2 {
		t.Errorf("record %v, list %x", ok, s.List())
	}
	if lines := logged(); len(lines) != 1 || !strings.Contains(lines[0], string(s.indexFile())) {
		t.Errorf("logged %q", lines)
	}
	if _, err := os.Stat(string(s.indexFile()) + ".damaged"); err != nil {
		t.Errorf("the bad index is not kept: %v", err)
	}
	s.SetRecord(idA, Record{Name: "again"})
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	s, logged = openState(t, dir)
	if r, _ := s.Record(idA); r.Name != "again" || logged()[0] != "" {
		t.Errorf("after another start: %+v, logged %q", r, logged())
	}
}

// A crash between the two copies leaves the new one and the old one.
func TestTheFirstCopyIsTheNewest(t *testing.T) {
	dir := t.TempDir()
	filledState(t, dir)
	s, _ := openState(t, dir)
	bak := s.indexFile().copies()[1]
	old, err := os.ReadFile(bak)
	if err != nil {
		t.Fatal(err)
	}
	s.SetRecord(idB, Record{Name: "b"})
	if err := errors.Join(s.Save(), os.WriteFile(bak, old, 0o600)); err != nil {
		t.Fatal(err)
	}
	s, logged := openState(t, dir)
	if r, ok := s.Record(idB); !ok || r.Name != "b" || logged()[0] != "" {
		t.Errorf("got %+v, %v, logged %q", r, ok, logged())
	}
	if now, err := os.ReadFile(bak); err != nil || bytes.Equal(now, old) {
		t.Errorf("the backup is still the old one: %v", err)
	}
}

// What the format was before there were checksums and copies.
func TestTheFormatBeforeIsReadAndReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "torrents"), 0o755); err != nil {
		t.Fatal(err)
	}
	rec := Record{Name: "x", Added: time.Unix(1e9, 0).UTC(), Uploaded: 1, Downloaded: 2, Pinned: []Span{{1, 2}}}
	text, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range [][20]byte{idA, idB} {
		base := filepath.Join(dir, "torrents", fmt.Sprintf("%x", id))
		if err := errors.Join(os.WriteFile(base+".torrent", id[:], 0o600), os.WriteFile(base+".json", text, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // before Save, and again: nothing is lost by a start
		s, _ := openState(t, dir)
		wantFilled(t, s, rec)
		if s.Sealed(idA) {
			t.Error("an old file counts as sealed")
		}
	}
	s, _ := openState(t, dir)
	if err := errors.Join(s.Put(idA, idA[:]), s.Save()); err != nil {
		t.Fatal(err)
	}
	s, _ = openState(t, dir)
	wantFilled(t, s, rec)
	if left, _ := filepath.Glob(filepath.Join(dir, "torrents", "*.[jt]*")); len(left) != 1 || !strings.Contains(left[0], "/01") {
		t.Errorf("left of the old files: %q, want the torrent that was not stored again", left)
	}
}

func TestANewerFormatIsRefused(t *testing.T) {
	for i := range 2 {
		dir := t.TempDir()
		filledState(t, dir)
		path := twin(filepath.Join(dir, "torrents", indexName)).copies()[i]
		if i == 1 { // the first is bad: the second decides
			if err := os.Truncate(strings.TrimSuffix(path, backupExt), 9); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, seal(stateFormat+1, []byte("{}")), 0o600); err != nil {
			t.Fatal(err)
		}
		var newer *FormatError
		if _, err := OpenState(dir, nil); !errors.As(err, &newer) || newer.Path != path || newer.Format != stateFormat+1 {
			t.Errorf("copy %d: got %v", i, err)
		}
		if s, err := Open(Options{Dir: dir}); !errors.As(err, &newer) {
			t.Errorf("copy %d: the cache opens: %v", i, err)
			if err == nil {
				closeStore(t, s)
			}
		}
		// Refusing leaves the folder to whom it belongs.
		if lock, err := Lock(dir); err != nil {
			t.Error(err)
		} else if err := lock.Unlock(); err != nil {
			t.Error(err)
		}
	}
}

func TestAStateThatDidNotChangeIsNotWritten(t *testing.T) {
	dir := t.TempDir()
	s, _ := openState(t, dir)
	const torrents = 5000
	rec := Record{Name: strings.Repeat("n", 100), Added: time.Now(), Uploaded: 1 << 40, Downloaded: 1 << 41, Wasted: 1 << 30}
	for i := range torrents {
		s.SetRecord([20]byte{byte(i), byte(i >> 8)}, rec)
	}
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(string(s.indexFile()))
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(torrents * 400); before.Size() > most {
		t.Errorf("the index of %d torrents has %d bytes, want at most %d", torrents, before.Size(), most)
	}
	s.SetRecord([20]byte{1}, rec)
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(string(s.indexFile()))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("it was written again: %v", err)
	}
}

func TestAStateWhoseFolderWasDeletedIsStoredAgain(t *testing.T) {
	dir := t.TempDir()
	rec := filledState(t, dir)
	s, _ := openState(t, dir)
	if err := os.RemoveAll(filepath.Join(dir, "torrents")); err != nil {
		t.Fatal(err)
	}
	s.Refresh()
	for _, id := range [][20]byte{idA, idB} {
		if s.Sealed(id) {
			t.Errorf("%x counts as stored", id)
		}
		if err := s.Put(id, id[:]); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	s, _ = openState(t, dir)
	wantFilled(t, s, rec)
}

func TestHostileFilesAmongTheTorrentsAreIgnored(t *testing.T) {
	for _, ext := range []string{metainfoExt, oldMetaExt} {
		dir := t.TempDir()
		s, _ := openState(t, dir)
		if err := s.makeDir(); err != nil {
			t.Fatal(err)
		}
		name := func(n int, c string) string { return filepath.Join(dir, "torrents", strings.Repeat(c, n)+ext) }
		err := errors.Join(
			os.WriteFile(name(39, "a"), nil, 0o644), os.WriteFile(name(41, "a"), nil, 0o644),
			os.WriteFile(name(40, "A"), nil, 0o644), os.WriteFile(name(40, "g"), nil, 0o644),
			os.WriteFile(filepath.Join(dir, "torrents", ".new-1"), nil, 0o644),
			os.Mkdir(name(40, "b"), 0o755), unix.Mkfifo(name(40, "c"), 0o644),
			os.Symlink("/dev/zero", name(40, "d")),
		)
		if err != nil {
			t.Fatal(err)
		}
		s, _ = openState(t, dir)
		if ids := s.List(); len(ids) != 0 {
			t.Errorf("list: %x", ids)
		}
		for _, b := range []byte{0xbb, 0xcc, 0xdd} {
			if _, err := s.Get([20]byte(bytes.Repeat([]byte{b}, 20))); err == nil {
				t.Errorf("%x: read", b)
			}
		}
		huge, err := os.Create(name(40, "e"))
		if err != nil {
			t.Fatal(err)
		}
		defer huge.Close()
		if err := huge.Truncate(maxStateFile + 1); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get([20]byte(bytes.Repeat([]byte{0xee}, 20))); err == nil || !strings.Contains(err.Error(), "larger") {
			t.Errorf("a huge file: %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, "torrents", ".new-1")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("what a crash left is still there: %v", err)
		}
	}
}
