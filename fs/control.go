package fs

import (
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

const (
	controlName = ".swarmfs"
	controlID   = rootID + 1
)

// A VirtualFile is a small text file in .swarmfs.
type VirtualFile struct {
	// Name is the path below .swarmfs, with slashes: "version",
	// "torrents/0123…/status". Directories come from the names.
	Name string
	// Content makes the text. It is called when the file is opened, must not
	// wait for the network, and may be called concurrently.
	Content func() []byte
}

// control is the directory .swarmfs. What is in it may change at any time, so
// the kernel keeps nothing of it.
type control struct {
	// Set at start, read-only after.
	uid, gid uint32
	started  time.Time
	files    func() []VirtualFile

	// Paths get an ID when they are first looked up, and keep it.
	mu    sync.Mutex
	ids   map[string]uint64
	paths []string // by ID - controlID
}

func newControl(uid, gid uint32, started time.Time, files func() []VirtualFile) *control {
	if files == nil {
		files = func() []VirtualFile { return nil }
	}
	return &control{
		uid: uid, gid: gid, started: started, files: files,
		ids: map[string]uint64{"": controlID}, paths: []string{""},
	}
}

// find returns the file of that path; nil is a directory.
func (c *control) find(path string) (file *VirtualFile, ok bool) {
	if path == "" {
		return nil, true
	}
	for _, v := range c.files() {
		if v.Name == path {
			return &v, true
		}
		if rest, under := strings.CutPrefix(v.Name, path); under && rest[0] == '/' {
			ok = true
		}
	}
	return nil, ok
}

// path returns the path of a node.
func (c *control) path(id uint64) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := id - controlID
	if i >= uint64(len(c.paths)) { // also for an ID below controlID
		return "", false
	}
	return c.paths[i], true
}

// id returns the node of a path, 0 if there are too many.
func (c *control) id(path string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, ok := c.ids[path]
	if !ok {
		if id = controlID + uint64(len(c.paths)); id >= maxEntries {
			return 0
		}
		c.ids[path] = id
		c.paths = append(c.paths, path)
	}
	return id
}

func (c *control) lookup(dir uint64, name string, out *fuse.EntryOut) fuse.Status {
	path, ok := c.path(dir)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	if path != "" {
		path += "/"
	}
	path += name
	file, ok := c.find(path)
	if !ok {
		return fuse.ENOENT
	}
	id := c.id(path)
	if id == 0 {
		return fuse.Status(syscall.ENFILE)
	}
	c.fill(id, file == nil, out)
	return fuse.OK
}

// entry fills in an answer to the look-up of .swarmfs itself.
func (c *control) entry(id uint64, out *fuse.EntryOut) {
	c.fill(id, true, out)
	out.SetEntryTimeout(cacheTime)
}

func (c *control) fill(id uint64, dir bool, out *fuse.EntryOut) {
	out.NodeId, out.Generation = id, 1
	c.attr(id, dir, &out.Attr)
}

func (c *control) self(id uint64, out *fuse.EntryOut) fuse.Status {
	path, ok := c.path(id)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	file, ok := c.find(path)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	c.fill(id, file == nil, out)
	return fuse.OK
}

func (c *control) getattr(id uint64, out *fuse.AttrOut) fuse.Status {
	var e fuse.EntryOut
	status := c.self(id, &e)
	out.Attr = e.Attr
	return status
}

// attr gives no size, as in /proc: the text is made when the file is opened.
func (c *control) attr(id uint64, dir bool, a *fuse.Attr) {
	a.Ino = id
	a.Uid, a.Gid = c.uid, c.gid
	sec := uint64(c.started.Unix())
	a.Mtime, a.Ctime, a.Atime = sec, sec, sec
	a.Blksize = blockSize
	a.Mode, a.Nlink = syscall.S_IFREG|0o444, 1
	if dir {
		a.Mode, a.Nlink = syscall.S_IFDIR|0o555, 2
	}
}

// list adds the entries of a directory after the first ones.
func (c *control) list(id, after uint64, l listing) fuse.Status {
	path, ok := c.path(id)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	if path != "" {
		path += "/"
	}
	var names []string
	for _, v := range c.files() {
		if rest, under := strings.CutPrefix(v.Name, path); under && rest != "" {
			name, _, dir := strings.Cut(rest, "/")
			if dir {
				name += "/"
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for i := after; i < uint64(len(names)); i++ {
		name, dir := strings.CutSuffix(names[i], "/")
		child := c.id(path + name)
		if child == 0 {
			return fuse.Status(syscall.ENFILE)
		}
		e := fuse.DirEntry{Name: name, Ino: child, Mode: syscall.S_IFREG, Off: i + 3}
		if dir {
			e.Mode = syscall.S_IFDIR
		}
		entry, ok := l.add(e)
		if !ok {
			return fuse.OK
		}
		if entry != nil {
			c.fill(child, dir, entry)
		}
	}
	return fuse.OK
}

// open makes the text of a file.
func (c *control) open(id uint64) ([]byte, fuse.Status) {
	path, ok := c.path(id)
	if !ok {
		return nil, fuse.Status(syscall.ESTALE)
	}
	file, ok := c.find(path)
	switch {
	case !ok:
		return nil, fuse.Status(syscall.ESTALE)
	case file == nil:
		return nil, fuse.Status(syscall.EISDIR)
	}
	return file.Content(), fuse.OK
}
