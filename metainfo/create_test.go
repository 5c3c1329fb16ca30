package metainfo

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"swarmfs/metainfo/metainfotest"
)

// write fills a folder; names end in "/" for an empty folder.
func write(t interface{ Fatal(...any) }, root string, files map[string][]byte) {
	for name, data := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o777); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCreateReadsAFolderInTheOrderOfNames(t *testing.T) {
	root := filepath.Join(t.TempDir(), "folder")
	content := map[string][]byte{
		"b.bin": metainfotest.Payload("b", 40000), "a/z": metainfotest.Payload("z", 70000), "a/empty": nil,
		"a.txt": []byte("text"), "\xff": []byte("no utf-8"), "none/": nil,
	}
	write(t, root, content)
	if err := os.Chmod(filepath.Join(root, "a.txt"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../b.bin", filepath.Join(root, "a/link")); err != nil {
		t.Fatal(err)
	}
	var progress []int64
	date := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	got, err := Create(t.Context(), root+"/.", CreateOptions{
		PieceLength: 32 << 10, Private: true, Source: "S", Trackers: [][]string{{"http://a.invalid/"}, {"udp://b.invalid:1"}},
		WebSeeds: []string{"http://w.invalid/"}, Comment: "c", CreatedBy: "me", CreationDate: date, Workers: 3,
		Progress: func(done, total int64) {
			if total != 110012 {
				t.Errorf("total is %d", total)
			}
			progress = append(progress, done)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	// The honest maker of tests has no links and no attributes to compare, but
	// the same files in the same order.
	m := metainfotest.New(metainfotest.Spec{
		Name: "folder", PieceLength: 32 << 10,
		Files: []metainfotest.File{
			{Path: []string{"a", "empty"}},
			{Path: []string{"a", "link"}, Attr: "l", Symlink: []string{"b.bin"}},
			{Path: []string{"a", "z"}, Size: 70000, Data: content["a/z"]},
			{Path: []string{"a.txt"}, Size: 4, Data: content["a.txt"], Attr: "x"},
			{Path: []string{"b.bin"}, Size: 40000, Data: content["b.bin"]},
			{Path: []string{"\xff"}, Size: 8, Data: content["\xff"]},
		},
	})
	m.Info["private"], m.Info["source"] = 1, "S"
	if !bytes.Equal(got.Info.Raw, m.InfoBytes()) {
		t.Errorf("info: got %q\nwant %q", got.Info.Raw, m.InfoBytes())
	}
	want := &Torrent{
		Info: got.Info, Trackers: [][]string{{"http://a.invalid/"}, {"udp://b.invalid:1"}}, WebSeeds: []string{"http://w.invalid/"},
		CreationDate: date.Truncate(time.Second), Comment: "c", CreatedBy: "me",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	for i, done := range progress {
		if i > 0 && done <= progress[i-1] {
			t.Errorf("progress went from %d to %d", progress[i-1], done)
		}
	}
	if len(progress) == 0 || progress[len(progress)-1] != 110012 {
		t.Errorf("progress ended as %v", progress)
	}
}

func TestCreateReadsASingleFile(t *testing.T) {
	dir := t.TempDir()
	data := metainfotest.Payload("one", 3*BlockSize)
	write(t, dir, map[string][]byte{"one.bin": data})
	if err := os.Symlink("one.bin", filepath.Join(dir, "alias")); err != nil {
		t.Fatal(err)
	}
	for path, o := range map[string]CreateOptions{"one.bin": {}, "alias": {Name: "one.bin"}} {
		got, err := Create(t.Context(), filepath.Join(dir, path), o)
		if err != nil {
			t.Fatal(err)
		}
		m := metainfotest.New(metainfotest.Spec{Name: "one.bin", Files: []metainfotest.File{{Size: len(data), Data: data}}, Single: true})
		if !bytes.Equal(got.Info.Raw, m.InfoBytes()) {
			t.Errorf("%s: got %q\nwant %q", path, got.Info.Raw, m.InfoBytes())
		}
		if !got.CreationDate.IsZero() || got.Trackers != nil {
			t.Errorf("%s: got %+v", path, got)
		}
	}
}

func TestCreateRefusesWhatCannotBeSeeded(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string][]byte{"ok/a": []byte("x"), "empty/": nil, "zeros/a": nil, "zero": nil, "out/a": []byte("x"), "abs/a": []byte("x"), "pipe/a": []byte("x")})
	for link, target := range map[string]string{"out/l": "../ok/a", "abs/l": "/etc/passwd", "dangling": "nothing"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe/p"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		o    CreateOptions
		want string
	}{
		{"ok", CreateOptions{}, ""},
		{"empty", CreateOptions{}, "no content"},
		{"zeros", CreateOptions{}, "no content"},
		{"zero", CreateOptions{}, "no content"},
		{"out", CreateOptions{}, "leaves the folder"},
		{"abs", CreateOptions{}, "leaves the folder"},
		{"pipe", CreateOptions{}, "neither a file nor a folder"},
		{"pipe/p", CreateOptions{}, "neither a file nor a folder"},
		{"ok", CreateOptions{Name: "a/b"}, "slash"},
		{"ok", CreateOptions{PieceLength: -1}, "piece length"},
		{"ok", CreateOptions{PieceLength: MaxPieceLength + 1}, "piece length"},
		{"ok", CreateOptions{Trackers: [][]string{{"http://a/"}, {"file:///x"}}}, "file:///x"},
		{"ok", CreateOptions{WebSeeds: []string{"udp://a:1"}}, "udp://a:1"},
	} {
		_, err := Create(t.Context(), filepath.Join(dir, c.path), c.o)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.path, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", c.path, err, c.want)
		}
		checkInputError(t, err)
	}
	for _, path := range []string{"missing", "dangling"} {
		if _, err := Create(t.Context(), filepath.Join(dir, path), CreateOptions{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got error %v", path, err)
		}
	}
	// Sparse: the pieces of 16 TiB in bytes would not fit a .torrent.
	if err := os.Truncate(filepath.Join(dir, "ok/a"), 1<<40); err == nil {
		_, err := Create(t.Context(), filepath.Join(dir, "ok"), CreateOptions{PieceLength: 1})
		if err == nil || !strings.Contains(err.Error(), "too many") {
			t.Errorf("2^40 pieces: got error %v", err)
		}
	}
}

func TestCreateStopsWhenItsContextEnds(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string][]byte{"d/a": make([]byte, 1<<20)})
	cause := errors.New("had enough")
	for _, path := range []string{"d", "d/a"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		pieces := 0
		_, err := Create(ctx, filepath.Join(dir, path), CreateOptions{Workers: 1, PieceLength: 1 << 10, Progress: func(int64, int64) {
			if pieces++; pieces == 3 {
				cancel(cause)
			}
		}})
		if !errors.Is(err, cause) || pieces > 4 {
			t.Errorf("%s: got error %v after %d pieces", path, err, pieces)
		}
	}
}

func TestCreateNoticesAFileThatShrinks(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string][]byte{"d/a": make([]byte, 1<<20), "d/b": make([]byte, 1<<20)})
	done := false
	_, err := Create(t.Context(), filepath.Join(dir, "d"), CreateOptions{Workers: 1, PieceLength: 64 << 10, Progress: func(int64, int64) {
		if !done {
			done = true
			_ = os.Truncate(filepath.Join(dir, "d/a"), 100<<10)
			_ = os.WriteFile(filepath.Join(dir, "d/b"), nil, 0o666)
		}
	}})
	if err == nil || !strings.Contains(err.Error(), "changed while it was read") {
		t.Errorf("got error %v", err)
	}
}

func TestCreateHashesWhateverTheFilesAre(t *testing.T) {
	top := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		root := filepath.Join(top, fmt.Sprint(run))
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 3000)), 1, 8).Draw(t, "sizes")
		files := make(map[string][]byte)
		var stream []byte
		for i, n := range sizes {
			name := fmt.Sprintf("%02d", i)
			files[name] = metainfotest.Payload(name, n)
			stream = append(stream, files[name]...)
		}
		write(t, root, files)
		pieceLength := rapid.Int64Range(1, 2000).Draw(t, "piece length")
		got, err := Create(context.Background(), root, CreateOptions{PieceLength: pieceLength})
		if len(stream) == 0 {
			if err == nil {
				t.Fatal("no content was accepted")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		l := got.Info.Layout()
		for p := range l.NumPieces() {
			sum := sha1.Sum(stream[l.PieceOffset(p):][:l.PieceSize(p)])
			if !bytes.Equal(sum[:], got.Info.PieceSums()[20*p:][:20]) {
				t.Fatalf("piece %d has another hash", p)
			}
		}
	})
}

func TestThePieceLengthFollowsTheSize(t *testing.T) {
	for length, want := range map[int64]int64{
		0: 16 << 10, 1: 16 << 10, 31 << 20: 16 << 10, 1 << 30: 1 << 20, 4 << 30: 4 << 20, 16 << 30: 16 << 20, 1 << 50: 16 << 20,
	} {
		if got := PieceLengthFor(length); got != want {
			t.Errorf("%d bytes: got %d, want %d", length, got, want)
		}
	}
}
