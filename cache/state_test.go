package cache

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStateKeepsTorrentsAndRecords(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenState(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, b := [20]byte{0xab, 1}, [20]byte{0x01}
	for _, id := range [][20]byte{a, b} {
		if err := errors.Join(s.Put(id, []byte("old")), s.Put(id, id[:])); err != nil {
			t.Fatal(err)
		}
	}
	rec := Record{Name: "näme\n", Added: time.Unix(1e9, 0).UTC(), Uploaded: 1 << 40, Downloaded: 7, Pinned: []Span{{0, 3}, {9, 10}}}
	if err := s.PutRecord(a, rec); err != nil {
		t.Fatal(err)
	}
	if s, err = OpenState(dir); err != nil {
		t.Fatal(err)
	}
	ids, err := s.List()
	if err != nil || !slices.Equal(ids, [][20]byte{b, a}) {
		t.Errorf("list: %x, %v", ids, err)
	}
	if got, err := s.Get(a); err != nil || !bytes.Equal(got, a[:]) {
		t.Errorf("get: %q, %v", got, err)
	}
	if got, err := s.Record(a); err != nil || !reflect.DeepEqual(got, rec) {
		t.Errorf("record: %+v, %v", got, err)
	}
	if _, err := s.Record(b); !errors.Is(err, ErrUnknown) {
		t.Errorf("record of one that has none: %v", err)
	}
	if err := errors.Join(s.Delete(a), s.Delete(a)); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(a); !errors.Is(err, ErrUnknown) {
		t.Errorf("get after delete: %v", err)
	}
	if _, err := s.Record(a); !errors.Is(err, ErrUnknown) {
		t.Errorf("record after delete: %v", err)
	}
}

func TestHostileFilesAmongTheTorrentsAreIgnored(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenState(dir)
	if err != nil {
		t.Fatal(err)
	}
	name := func(n int, c string) string { return filepath.Join(dir, "torrents", strings.Repeat(c, n)+torrentExt) }
	err = errors.Join(
		os.WriteFile(name(39, "a"), nil, 0o644), os.WriteFile(name(41, "a"), nil, 0o644),
		os.WriteFile(name(40, "A"), nil, 0o644), os.WriteFile(name(40, "g"), nil, 0o644),
		os.WriteFile(filepath.Join(dir, "torrents", ".new-1"), nil, 0o644),
		os.Mkdir(name(40, "b"), 0o755), unix.Mkfifo(name(40, "c"), 0o644),
		os.Symlink("/dev/zero", name(40, "d")),
	)
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := s.List(); err != nil || len(ids) != 0 {
		t.Errorf("list: %x, %v", ids, err)
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
}
