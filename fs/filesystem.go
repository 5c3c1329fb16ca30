package fs

import (
	"slices"
	"sort"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"swarmfs/metainfo"
)

const (
	// cacheTime is how long the kernel may keep names and attributes. They
	// never change, except names in the root, and those are told to it.
	cacheTime = time.Hour
	blockSize = 4096
	maxName   = 255

	// A node ID is the torrent's prefix and the entry's number. The top bit
	// stays free: not everybody who stores inode numbers has unsigned ones.
	prefixBits = 39
	entryBits  = 24
	entryMask  = 1<<entryBits - 1
	maxEntries = 1 << entryBits

	rootID = fuse.FUSE_ROOT_ID // prefix 0, as are the nodes of .swarmfs
)

// A filesystem answers the kernel's requests. It is go-fuse's raw interface
// because the tree is immutable: nodes that live as long as the kernel
// remembers them, which is what go-fuse's other interface manages, would only
// cost memory.
type filesystem struct {
	readOnly

	// Set at start, read-only after.
	uid, gid uint32
	started  time.Time
	control  *control
	handles  handles

	mu       sync.RWMutex
	branches map[uint64]*branch // by prefix
	names    map[string]*branch // by name in the root
	listed   []*branch          // by position
	position uint64             // of the newest
	bytes    uint64             // sum of all sizes
	files    uint64             // number of all entries
}

// A branch is one torrent in the tree.
type branch struct {
	torrent  Torrent
	info     *metainfo.Info
	tree     *metainfo.Tree
	name     string
	prefix   uint64 // not 0
	position uint64 // in the root's listing: never reused, so that an offset stays valid
	mtime    uint64 // seconds since 1970
}

func (b *branch) id(n metainfo.Node) uint64 { return b.prefix<<entryBits | uint64(n) }

// path is where an entry is in the mount.
func (b *branch) path(n metainfo.Node) string {
	if n == metainfo.Root {
		return b.name
	}
	return b.name + "/" + b.tree.Path(n)
}

// find resolves a node ID of a torrent. It fails for one that was removed.
func (f *filesystem) find(id uint64) (*branch, metainfo.Node, bool) {
	f.mu.RLock()
	b := f.branches[id>>entryBits]
	f.mu.RUnlock()
	n := metainfo.Node(id & entryMask)
	if b == nil || int(n) >= b.tree.Len() {
		return nil, 0, false
	}
	return b, n, true
}

// String is part of fuse.RawFileSystem.
func (f *filesystem) String() string { return subtype }

// Lookup is part of fuse.RawFileSystem.
func (f *filesystem) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	switch {
	case name == ".": // a file handle that the kernel no longer knows
		return f.self(in.NodeId, out)
	case name == "..":
		return f.parent(in.NodeId, out)
	case len(name) > maxName:
		return fuse.Status(syscall.ENAMETOOLONG)
	case in.NodeId == rootID:
		return f.lookupRoot(name, out)
	case in.NodeId < maxEntries:
		return f.control.lookup(in.NodeId, name, out)
	}
	b, dir, ok := f.find(in.NodeId)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	n, ok := b.tree.Lookup(dir, name)
	if !ok {
		return negative(out)
	}
	f.entry(b, n, out)
	return fuse.OK
}

// negative says that the name does not exist and that the kernel may remember
// it.
func negative(out *fuse.EntryOut) fuse.Status {
	out.NodeId = 0
	out.SetEntryTimeout(cacheTime)
	return fuse.OK
}

func (f *filesystem) lookupRoot(name string, out *fuse.EntryOut) fuse.Status {
	if name == controlName {
		f.control.entry(controlID, out)
		return fuse.OK
	}
	f.mu.RLock()
	b := f.names[name]
	f.mu.RUnlock()
	if b == nil {
		return negative(out)
	}
	f.entry(b, metainfo.Root, out)
	return fuse.OK
}

func (f *filesystem) self(id uint64, out *fuse.EntryOut) fuse.Status {
	if id == rootID {
		out.NodeId = rootID
		f.rootAttr(&out.Attr)
		return fuse.OK
	}
	if id < maxEntries {
		return f.control.self(id, out)
	}
	b, n, ok := f.find(id)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	f.entry(b, n, out)
	return fuse.OK
}

func (f *filesystem) parent(id uint64, out *fuse.EntryOut) fuse.Status {
	b, n, ok := f.find(id)
	switch {
	case !ok && id >= maxEntries:
		return fuse.Status(syscall.ESTALE)
	case !ok || n == metainfo.Root:
		return f.self(rootID, out)
	}
	f.entry(b, b.tree.Parent(n), out)
	return fuse.OK
}

// entry fills in an answer to a look-up. The generation is fixed: a node ID
// stands for the same content for ever.
func (f *filesystem) entry(b *branch, n metainfo.Node, out *fuse.EntryOut) {
	out.NodeId = b.id(n)
	out.Generation = 1
	out.SetEntryTimeout(cacheTime)
	out.SetAttrTimeout(cacheTime)
	f.attr(b, n, &out.Attr)
}

// GetAttr is part of fuse.RawFileSystem.
func (f *filesystem) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if in.NodeId == rootID {
		// Cached, or every path walk would ask: the kernel checks permissions
		// itself. What invalidates a name in the root also invalidates this.
		out.SetTimeout(cacheTime)
		f.rootAttr(&out.Attr)
		return fuse.OK
	}
	if in.NodeId < maxEntries {
		return f.control.getattr(in.NodeId, out)
	}
	b, n, ok := f.find(in.NodeId)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	out.SetTimeout(cacheTime)
	f.attr(b, n, &out.Attr)
	return fuse.OK
}

func (f *filesystem) attr(b *branch, n metainfo.Node, a *fuse.Attr) {
	a.Ino = b.id(n)
	a.Nlink = 1
	a.Uid, a.Gid = f.uid, f.gid
	a.Mtime, a.Ctime, a.Atime = b.mtime, b.mtime, b.mtime
	a.Blksize = blockSize
	switch i := b.tree.File(n); {
	case i < 0:
		a.Mode = syscall.S_IFDIR | 0o555
		a.Nlink = 2
		for _, c := range b.tree.Children(n) {
			if b.tree.IsDir(c) {
				a.Nlink++ // its ".."
			}
		}
	case b.tree.IsSymlink(n):
		a.Mode = syscall.S_IFLNK | 0o777
		a.Size = uint64(len(b.tree.Target(n)))
	default:
		file := &b.info.Files[i]
		a.Mode = syscall.S_IFREG | 0o444
		if file.Executable {
			a.Mode |= 0o111
		}
		a.Size = uint64(file.Length)
		// All of it, whether here or still in the swarm: a file with fewer
		// blocks looks sparse, and cp and tar would write zeros for the rest.
		a.Blocks = (a.Size + 511) / 512
	}
}

func (f *filesystem) rootAttr(a *fuse.Attr) {
	a.Ino = rootID
	a.Mode = syscall.S_IFDIR | 0o555
	a.Uid, a.Gid = f.uid, f.gid
	a.Blksize = blockSize
	sec := uint64(f.started.Unix())
	a.Mtime, a.Ctime, a.Atime = sec, sec, sec
	a.Nlink = 2
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, b := range f.listed {
		if b.tree.IsDir(metainfo.Root) {
			a.Nlink++
		}
	}
}

// OpenDir is part of fuse.RawFileSystem. The listing of a directory in a
// torrent is the kernel's to keep.
func (f *filesystem) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.NodeId < maxEntries {
		return fuse.OK
	}
	if _, _, ok := f.find(in.NodeId); !ok {
		return fuse.Status(syscall.ESTALE)
	}
	out.OpenFlags = fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

// ReadDir is part of fuse.RawFileSystem.
func (f *filesystem) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in.NodeId, in.Offset, listing{out: out})
}

// ReadDirPlus is part of fuse.RawFileSystem: a listing with a look-up of each
// entry.
func (f *filesystem) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(in.NodeId, in.Offset, listing{out: out, plus: true})
}

// A listing is an answer to ReadDir or ReadDirPlus.
type listing struct {
	out  *fuse.DirEntryList
	plus bool
}

// add appends an entry; ok is false when the answer is full. If entry is not
// nil, the kernel also wants what a look-up would say.
func (l listing) add(e fuse.DirEntry) (entry *fuse.EntryOut, ok bool) {
	if !l.plus {
		return nil, l.out.AddDirEntry(e)
	}
	entry = l.out.AddDirLookupEntry(e)
	return entry, entry != nil
}

// list adds the entries of a directory that follow offset: 0 is the start, 1
// follows ".", 2 follows "..", 2+i the entry at position i. So every offset
// stays valid, whatever is added or removed.
func (f *filesystem) list(id, offset uint64, l listing) fuse.Status {
	var up uint64 = rootID
	b, dir, ok := f.find(id)
	switch {
	case ok && !b.tree.IsDir(dir):
		return fuse.ENOTDIR
	case ok && dir != metainfo.Root:
		up = b.id(b.tree.Parent(dir))
	case !ok && id >= maxEntries:
		return fuse.Status(syscall.ESTALE)
	}
	for i, e := range []fuse.DirEntry{{Name: ".", Ino: id}, {Name: "..", Ino: up}} {
		if offset > uint64(i) {
			continue
		}
		e.Mode, e.Off = syscall.S_IFDIR, uint64(i+1)
		if _, ok := l.add(e); !ok { // these two are not looked up
			return fuse.OK
		}
	}
	offset = max(offset, 2) - 2
	switch {
	case id == rootID:
		f.listRoot(offset, l)
	case !ok:
		return f.control.list(id, offset, l)
	default:
		f.listBranch(b, dir, offset, l)
	}
	return fuse.OK
}

func (f *filesystem) listRoot(after uint64, l listing) {
	f.mu.RLock()
	first := sort.Search(len(f.listed), func(i int) bool { return f.listed[i].position > after })
	listed := slices.Clone(f.listed[first:])
	f.mu.RUnlock()
	for _, b := range listed {
		e := fuse.DirEntry{Name: b.name, Ino: b.id(metainfo.Root), Mode: b.mode(metainfo.Root), Off: b.position + 2}
		entry, ok := l.add(e)
		if !ok {
			return
		}
		if entry != nil {
			f.entry(b, metainfo.Root, entry)
		}
	}
}

func (f *filesystem) listBranch(b *branch, dir metainfo.Node, after uint64, l listing) {
	children := b.tree.Children(dir)
	for i := after; i < uint64(len(children)); i++ {
		n := children[i]
		e := fuse.DirEntry{Name: b.tree.Name(n), Ino: b.id(n), Mode: b.mode(n), Off: i + 3}
		entry, ok := l.add(e)
		if !ok {
			return
		}
		if entry != nil {
			f.entry(b, n, entry)
		}
	}
}

// mode returns the type bits.
func (b *branch) mode(n metainfo.Node) uint32 {
	switch {
	case b.tree.IsDir(n):
		return syscall.S_IFDIR
	case b.tree.IsSymlink(n):
		return syscall.S_IFLNK
	}
	return syscall.S_IFREG
}

// Readlink is part of fuse.RawFileSystem.
func (f *filesystem) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	b, n, ok := f.find(in.NodeId)
	if !ok {
		return nil, fuse.Status(syscall.ESTALE)
	}
	if !b.tree.IsSymlink(n) {
		return nil, fuse.EINVAL
	}
	return []byte(b.tree.Target(n)), fuse.OK
}

// StatFs is part of fuse.RawFileSystem. It is the same for every node: the sum
// of all sizes, nothing free.
func (f *filesystem) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	f.mu.RLock()
	defer f.mu.RUnlock()
	out.Bsize, out.Frsize = blockSize, blockSize
	out.Blocks = (f.bytes + blockSize - 1) / blockSize
	out.Files = f.files
	out.NameLen = maxName
	return fuse.OK
}
