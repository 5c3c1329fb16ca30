package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"swarmfs/metainfo"
)

// makeFolder makes a folder of three files and its torrent, in pieces of 16 KiB.
func makeFolder(t *testing.T) (string, *metainfo.Info) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "folder")
	for name, size := range map[string]int{"a": 40000, "d/b": 20000, "d/empty": 0} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	torrent, err := metainfo.Create(t.Context(), dir, metainfo.CreateOptions{PieceLength: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return dir, torrent.Info
}

func TestFilesAreFoundInTheFolderAndInItsParent(t *testing.T) {
	dir, info := makeFolder(t)
	want := []string{filepath.Join(dir, "a"), filepath.Join(dir, "d/b"), filepath.Join(dir, "d/empty")}
	for _, path := range []string{dir, filepath.Dir(dir)} {
		got, err := onDisk(info, path)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("onDisk(%q): got %q, %v, want %q", path, got, err, want)
		}
	}
}

func TestAFolderOfTheTorrentsNameInsideItIsNotMistakenForIt(t *testing.T) {
	dir, info := makeFolder(t)
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := onDisk(info, dir)
	if err != nil || got[0] != filepath.Join(dir, "a") {
		t.Errorf("got %q, %v, want the outer folder's files", got, err)
	}
}

func TestAMissingFileMakesThePiecesAbsentThatNeedIt(t *testing.T) {
	dir, info := makeFolder(t)
	if err := os.Truncate(filepath.Join(dir, "d/b"), 19999); err != nil {
		t.Fatal(err)
	}
	files, err := openOnDisk(info, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	if want := []string{filepath.Join(dir, "d/b")}; !slices.Equal(files.missing, want) {
		t.Errorf("missing: got %q, want %q", files.missing, want)
	}
	// 40000 bytes of a end in the third of four pieces.
	if want := uint64(0b1100); files.absent[0] != want {
		t.Errorf("absent: got %b, want %b", files.absent[0], want)
	}
}
