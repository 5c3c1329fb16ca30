package fs

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"pgregory.net/rapid"
)

// lookup resolves a path from the root without a kernel.
func lookup(f *filesystem, path string) (out fuse.EntryOut, status fuse.Status) {
	out.NodeId = rootID
	for _, name := range strings.Split(path, "/") {
		in := &fuse.InHeader{NodeId: out.NodeId}
		out = fuse.EntryOut{}
		if status := f.Lookup(nil, in, name, &out); !status.Ok() || out.NodeId == 0 {
			return out, status
		}
	}
	return out, fuse.OK
}

func mustLookup(tb testing.TB, f *filesystem, path string) fuse.EntryOut {
	tb.Helper()
	out, status := lookup(f, path)
	if !status.Ok() || out.NodeId == 0 {
		tb.Fatalf("look up %s: %v, node %d", path, status, out.NodeId)
	}
	return out
}

// list reads a directory from an offset with a buffer of size bytes.
func list(tb testing.TB, f *filesystem, id, offset uint64, size int) []fuse.DirEntry {
	tb.Helper()
	out := fuse.NewDirEntryList(make([]byte, size), offset)
	if status := f.ReadDir(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: id}, Offset: offset}, out); !status.Ok() {
		tb.Fatalf("list %d from %d: %v", id, offset, status)
	}
	entries, err := fuse.ParseDirEntries(out.Bytes())
	if err != nil {
		tb.Fatal(err)
	}
	return entries
}

// listAll reads a whole directory in steps of size bytes.
func listAll(tb testing.TB, f *filesystem, id uint64, size int) (all []fuse.DirEntry) {
	tb.Helper()
	var offset uint64
	for {
		step := list(tb, f, id, offset, size)
		if len(step) == 0 {
			return all
		}
		all = append(all, step...)
		offset = step[len(step)-1].Off
	}
}

func sample(tb testing.TB) (*Server, *fakeTorrent) {
	tb.Helper()
	s := New(Options{Logger: testLog(tb)})
	f := newFake(newInfo(
		tb, "show",
		spec{path: "a/one", length: 1000},
		spec{path: "a/b/two", length: 513},
		spec{path: "run.sh", length: 10, attr: "x"},
		spec{path: ".pad/7", length: 7, attr: "p"},
		spec{path: "a/link", attr: "l", target: []string{"run.sh"}},
		spec{path: "empty", length: 0},
	))
	mustAdd(tb, s, f)
	mustAdd(tb, s, newFake(newInfo(tb, "film.mkv", spec{length: 5 << 30})))
	return s, f
}

func TestAttributes(t *testing.T) {
	s, _ := sample(t)
	const mtime = 1_600_000_000
	for _, c := range []struct {
		path         string
		mode         uint32
		size, blocks uint64
		nlink        uint32
	}{
		{"show", syscall.S_IFDIR | 0o555, 0, 0, 3},
		{"show/a", syscall.S_IFDIR | 0o555, 0, 0, 3},
		{"show/a/b", syscall.S_IFDIR | 0o555, 0, 0, 2},
		{"show/a/one", syscall.S_IFREG | 0o444, 1000, 2, 1},
		{"show/a/b/two", syscall.S_IFREG | 0o444, 513, 2, 1},
		{"show/run.sh", syscall.S_IFREG | 0o555, 10, 1, 1},
		{"show/empty", syscall.S_IFREG | 0o444, 0, 0, 1},
		{"show/a/link", syscall.S_IFLNK | 0o777, 9, 0, 1},
		{"film.mkv", syscall.S_IFREG | 0o444, 5 << 30, 10 << 20, 1},
	} {
		e := mustLookup(t, s.fs, c.path)
		a := e.Attr
		if a.Mode != c.mode || a.Size != c.size || a.Blocks != c.blocks || a.Nlink != c.nlink || a.Mtime != mtime {
			t.Errorf("%s: got mode %o, size %d, blocks %d, nlink %d, mtime %d", c.path, a.Mode, a.Size, a.Blocks, a.Nlink, a.Mtime)
		}
		if a.Ino != e.NodeId || a.Ino>>63 != 0 || a.Ino < maxEntries {
			t.Errorf("%s: inode %d of node %d", c.path, a.Ino, e.NodeId)
		}
		var again fuse.AttrOut
		if s.fs.GetAttr(nil, &fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: e.NodeId}}, &again); again.Attr != a {
			t.Errorf("%s: GetAttr and Lookup differ: %v, %v", c.path, again.Attr, a)
		}
	}
}

func TestASymbolicLinkCountsFromItsOwnDirectory(t *testing.T) {
	s, _ := sample(t)
	id := mustLookup(t, s.fs, "show/a/link").NodeId
	target, status := s.fs.Readlink(nil, &fuse.InHeader{NodeId: id})
	if string(target) != "../run.sh" || !status.Ok() {
		t.Errorf("got %q, %v, want ../run.sh", target, status)
	}
	if _, status := s.fs.Readlink(nil, &fuse.InHeader{NodeId: mustLookup(t, s.fs, "show/run.sh").NodeId}); status != fuse.EINVAL {
		t.Errorf("readlink of a file: got %v, want EINVAL", status)
	}
}

func TestInodesAreTheSameInAnyOrderAndAreUnique(t *testing.T) {
	a := newFake(newInfo(t, "a", spec{path: "x/1", length: 5}, spec{path: "x/2", length: 5}))
	b := newFake(newInfo(t, "b", spec{length: 5}))
	seen := make(map[string]uint64)
	for _, order := range [][]*fakeTorrent{{a, b}, {b, a}} {
		s := New(Options{})
		for _, f := range order {
			mustAdd(t, s, f)
		}
		unique := make(map[uint64]bool)
		for _, path := range []string{"a", "a/x", "a/x/1", "a/x/2", "b"} {
			ino := mustLookup(t, s.fs, path).Ino
			if unique[ino] {
				t.Errorf("inode %d of %s is not unique", ino, path)
			}
			unique[ino] = true
			if was, ok := seen[path]; ok && was != ino {
				t.Errorf("inode of %s: got %d, then %d", path, was, ino)
			}
			seen[path] = ino
		}
	}
}

func TestNamesThatDoNotExistMayBeRemembered(t *testing.T) {
	s, _ := sample(t)
	for _, path := range []string{"nothing", "show/nothing", "show/a/two"} {
		out, status := lookup(s.fs, path)
		if !status.Ok() || out.NodeId != 0 || out.EntryTimeout() != cacheTime {
			t.Errorf("%s: got %v, node %d, timeout %v", path, status, out.NodeId, out.EntryTimeout())
		}
	}
	if _, status := lookup(s.fs, "show/"+strings.Repeat("x", 256)); status != fuse.Status(syscall.ENAMETOOLONG) {
		t.Errorf("name of 256 bytes: got %v, want ENAMETOOLONG", status)
	}
}

func TestAFileHandleFindsItsFileAgain(t *testing.T) {
	s, _ := sample(t)
	for path, parent := range map[string]uint64{
		"show/a/b/two": mustLookup(t, s.fs, "show/a/b").NodeId,
		"show/a":       mustLookup(t, s.fs, "show").NodeId,
		"show":         rootID,
		"film.mkv":     rootID,
		".swarmfs":     rootID,
	} {
		e := mustLookup(t, s.fs, path)
		var self, up fuse.EntryOut
		in := &fuse.InHeader{NodeId: e.NodeId}
		if status := s.fs.Lookup(nil, in, ".", &self); !status.Ok() || self.NodeId != e.NodeId || self.Attr != e.Attr {
			t.Errorf("%s: \".\" gives %v, node %d, want %d", path, status, self.NodeId, e.NodeId)
		}
		if status := s.fs.Lookup(nil, in, "..", &up); !status.Ok() || up.NodeId != parent {
			t.Errorf("%s: \"..\" gives %v, node %d, want %d", path, status, up.NodeId, parent)
		}
	}
}

func TestARemovedTorrentIsStale(t *testing.T) {
	s, _ := sample(t)
	dir, file := mustLookup(t, s.fs, "show/a").NodeId, mustLookup(t, s.fs, "show/a/one").NodeId
	s.Remove("show")
	s.Remove("show") // not there any more
	stale := fuse.Status(syscall.ESTALE)
	h := fuse.InHeader{NodeId: file}
	if got := s.fs.GetAttr(nil, &fuse.GetAttrIn{InHeader: h}, new(fuse.AttrOut)); got != stale {
		t.Errorf("getattr: got %v", got)
	}
	if got := s.fs.Open(nil, &fuse.OpenIn{InHeader: h}, new(fuse.OpenOut)); got != stale {
		t.Errorf("open: got %v", got)
	}
	if _, got := s.fs.Readlink(nil, &h); got != stale {
		t.Errorf("readlink: got %v", got)
	}
	for _, name := range []string{".", "..", "one"} {
		if got := s.fs.Lookup(nil, &fuse.InHeader{NodeId: dir}, name, new(fuse.EntryOut)); got != stale {
			t.Errorf("look up %s: got %v", name, got)
		}
	}
	if got := s.fs.OpenDir(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: dir}}, new(fuse.OpenOut)); got != stale {
		t.Errorf("opendir: got %v", got)
	}
	in := &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: dir}}
	if got := s.fs.ReadDir(nil, in, fuse.NewDirEntryList(make([]byte, 4096), 0)); got != stale {
		t.Errorf("readdir: got %v", got)
	}
	var st fuse.StatfsOut
	if s.fs.StatFs(nil, &h, &st); st.Files != 1 || st.Blocks != 5<<30/blockSize {
		t.Errorf("statfs: got %d files, %d blocks, want those of film.mkv", st.Files, st.Blocks)
	}
}

func TestNodeIDsOfNobodyAreStale(t *testing.T) {
	s, _ := sample(t)
	root := mustLookup(t, s.fs, "show").NodeId
	for _, id := range []uint64{0, 3, 99, maxEntries - 1, root + 99, root ^ 1<<40, 1<<64 - 1} {
		h := fuse.InHeader{NodeId: id}
		if got := s.fs.GetAttr(nil, &fuse.GetAttrIn{InHeader: h}, new(fuse.AttrOut)); got != fuse.Status(syscall.ESTALE) {
			t.Errorf("getattr of %d: got %v", id, got)
		}
		if got := s.fs.Open(nil, &fuse.OpenIn{InHeader: h}, new(fuse.OpenOut)); got != fuse.Status(syscall.ESTALE) {
			t.Errorf("open of %d: got %v", id, got)
		}
		if got := s.fs.Lookup(nil, &h, "x", new(fuse.EntryOut)); got != fuse.Status(syscall.ESTALE) {
			t.Errorf("lookup in %d: got %v", id, got)
		}
	}
}

func TestListingsGoOnFromAnyOffsetWithAnyBuffer(t *testing.T) {
	s, _ := sample(t)
	for path, want := range map[string][]string{
		"show":     {".", "..", "a", "run.sh", "empty"},
		"show/a":   {".", "..", "one", "b", "link"},
		"show/a/b": {".", "..", "two"},
	} {
		id := mustLookup(t, s.fs, path).NodeId
		for _, size := range []int{40, 100, 4096} {
			var names []string
			for _, e := range listAll(t, s.fs, id, size) {
				names = append(names, e.Name)
				if e.Name != "." && e.Name != ".." {
					if x := mustLookup(t, s.fs, path+"/"+e.Name); x.Ino != e.Ino || x.Mode&syscall.S_IFMT != e.Mode {
						t.Errorf("%s/%s: listed as inode %d type %o, is %d type %o", path, e.Name, e.Ino, e.Mode, x.Ino, x.Mode)
					}
				}
			}
			slices.Sort(names)
			want := slices.Sorted(slices.Values(want))
			if !slices.Equal(names, want) {
				t.Errorf("%s with %d bytes: got %v, want %v", path, size, names, want)
			}
		}
		whole := list(t, s.fs, id, 0, 4096)
		for i, e := range whole {
			if rest := list(t, s.fs, id, e.Off, 4096); !slices.Equal(rest, whole[i+1:]) {
				t.Errorf("%s from %d: got %v, want %v", path, e.Off, rest, whole[i+1:])
			}
		}
		if rest := list(t, s.fs, id, 1<<63, 4096); len(rest) != 0 {
			t.Errorf("%s beyond its end: got %v", path, rest)
		}
	}
}

func TestAListingCanCarryTheLookUps(t *testing.T) {
	s, _ := sample(t)
	id := mustLookup(t, s.fs, "show").NodeId
	out := fuse.NewDirEntryList(make([]byte, 4096), 0)
	if status := s.fs.ReadDirPlus(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: id}}, out); !status.Ok() {
		t.Fatal(status)
	}
	names, entries, err := fuse.ParseDirLookupEntries(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range names {
		switch {
		case e.Name == "." || e.Name == "..":
			if entries[i].NodeId != 0 {
				t.Errorf("%s was looked up", e.Name)
			}
		case entries[i] != mustLookup(t, s.fs, "show/"+e.Name):
			t.Errorf("%s: got %v", e.Name, entries[i])
		}
	}
}

// Whatever comes and goes while the root is read, what is there all the time
// is seen exactly once.
func TestTheRootIsListedRightWhileItChanges(t *testing.T) {
	infos := make([]*fakeTorrent, 40)
	for i := range infos {
		infos[i] = newFake(newInfo(t, fmt.Sprintf("torrent %02d", i), spec{length: 1}))
	}
	rapid.Check(t, func(rt *rapid.T) {
		s := New(Options{})
		there := make(map[int]bool)
		toggle := func(i int) {
			if there[i] {
				s.Remove(infos[i].info.Name)
			} else if _, err := s.Add(infos[i], ""); err != nil {
				rt.Fatal(err)
			}
			there[i] = !there[i]
		}
		for _, i := range rapid.SliceOfDistinct(rapid.IntRange(0, len(infos)-1), rapid.ID[int]).Draw(rt, "at first") {
			toggle(i)
		}
		always := make(map[string]bool)
		for i := range infos {
			if there[i] {
				always[infos[i].info.Name] = true
			}
		}
		seen := make(map[string]int)
		var offset uint64
		for {
			step := list(t, s.fs, rootID, offset, rapid.IntRange(40, 300).Draw(rt, "buffer"))
			if len(step) == 0 {
				break
			}
			for _, e := range step {
				seen[e.Name]++
			}
			offset = step[len(step)-1].Off
			for range rapid.IntRange(0, 3).Draw(rt, "changes") {
				i := rapid.IntRange(0, len(infos)-1).Draw(rt, "which")
				delete(always, infos[i].info.Name)
				toggle(i)
			}
		}
		for name := range always {
			if seen[name] != 1 {
				rt.Errorf("%s was there all the time and seen %d times", name, seen[name])
			}
		}
	})
}

func TestEveryRequestThatChangesSomethingIsRefused(t *testing.T) {
	s, _ := sample(t)
	f := s.fs
	h := fuse.InHeader{NodeId: rootID}
	_, write := f.Write(nil, &fuse.WriteIn{}, nil)
	_, writev := f.Writev(nil, &fuse.WriteIn{}, nil)
	file := fuse.InHeader{NodeId: mustLookup(t, f, "show/a/one").NodeId}
	for name, got := range map[string]fuse.Status{
		"setattr":          f.SetAttr(nil, &fuse.SetAttrIn{}, nil),
		"mknod":            f.Mknod(nil, &fuse.MknodIn{}, "x", nil),
		"mkdir":            f.Mkdir(nil, &fuse.MkdirIn{}, "x", nil),
		"unlink":           f.Unlink(nil, &h, "show"),
		"rmdir":            f.Rmdir(nil, &h, "show"),
		"symlink":          f.Symlink(nil, &h, "x", "y", nil),
		"rename":           f.Rename(nil, &fuse.RenameIn{}, "x", "y"),
		"link":             f.Link(nil, &fuse.LinkIn{}, "x", nil),
		"setxattr":         f.SetXAttr(nil, &fuse.SetXAttrIn{}, "user.x", nil),
		"removexattr":      f.RemoveXAttr(nil, &h, "user.x"),
		"create":           f.Create(nil, &fuse.CreateIn{}, "x", nil),
		"tmpfile":          f.Tmpfile(nil, &fuse.CreateIn{}, nil),
		"write":            write,
		"writev":           writev,
		"fallocate":        f.Fallocate(nil, &fuse.FallocateIn{}),
		"open":             f.Open(nil, &fuse.OpenIn{InHeader: file, Flags: syscall.O_RDWR}, new(fuse.OpenOut)),
		"open to truncate": f.Open(nil, &fuse.OpenIn{InHeader: file, Flags: syscall.O_WRONLY | syscall.O_TRUNC}, new(fuse.OpenOut)),
	} {
		if got != fuse.EROFS {
			t.Errorf("%s: got %v, want EROFS", name, got)
		}
	}
}
