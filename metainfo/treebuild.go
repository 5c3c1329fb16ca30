package metainfo

import "hash/maphash"

// freeDirs is how many directories any torrent may have; beyond them, one for
// every bytesPerDir bytes of the info dictionary. Honest torrents are far from
// it. Without it three bytes of input ("1:a") could make us keep a directory
// of forty.
const (
	freeDirs    = 10_000
	bytesPerDir = 32
)

// buildTree makes the tree of files whose names were checked. It refuses two
// files of one path and a name that is both a file and a directory, and leaves
// out links that lead nowhere.
func buildTree(i *Info) (*Tree, error) {
	if i.SingleFile {
		return &Tree{nodes: []node{{name: i.Name}}, table: []Node{-1}, seed: maphash.MakeSeed(), files: i.Files}, nil
	}
	t, err := addFiles(i, nil)
	if err != nil {
		return nil, err
	}
	if dead := t.deadLinks(); dead != nil {
		if t, err = addFiles(i, dead); err != nil {
			return nil, err
		}
	}
	t.group()
	return t, nil
}

// addFiles makes a tree of all entries but those in the set, by their index in
// Files; their directories are made all the same.
func addFiles(i *Info, without map[int32]bool) (*Tree, error) {
	limit := freeDirs + len(i.Raw)/bytesPerDir
	shown, dirs := measure(i.Files)
	dirs = min(dirs, limit) // exact if files of one directory stand together, else too many
	t := &Tree{
		nodes: make([]node, 1, 1+shown+dirs),
		dirs:  make([]dir, 1, 1+dirs),
		table: make([]Node, tableSize(shown+dirs)),
		seed:  maphash.MakeSeed(),
		files: i.Files,
	}
	for slot := range t.table {
		t.table[slot] = -1
	}
	t.nodes[Root] = node{name: i.Name, ref: ^0}
	b := treeBuilder{t: t, maxDirs: limit}
	for n := range i.Files {
		if i.Files[n].Pad {
			continue
		}
		if err := b.add(i.Files[n].Path, int32(n), without[int32(n)]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// measure counts the files shown and bounds the directories from above.
func measure(files []File) (shown, dirs int) {
	var prev []string
	for i := range files {
		if files[i].Pad {
			continue
		}
		shown++
		path := files[i].Path[:len(files[i].Path)-1]
		dirs += len(path) - commonPrefix(prev, path)
		prev = path
	}
	return shown, dirs
}

func commonPrefix(a, b []string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// treeBuilder adds paths to a tree. It remembers the directories of the path
// before, as files of one directory mostly stand together.
type treeBuilder struct {
	t        *Tree
	maxDirs  int
	prev     []string
	prevNode [maxPathDepth]Node
}

func (b *treeBuilder) add(path []string, file int32, leaveOut bool) error {
	last := len(path) - 1
	dirs, name := path[:last], path[last]
	at := Root
	same := commonPrefix(b.prev, dirs)
	if same > 0 {
		at = b.prevNode[same-1]
	}
	for k := same; k < last; k++ {
		n, err := b.enter(at, dirs[k])
		if err != nil {
			return err
		}
		b.prevNode[k] = n
		at = n
	}
	b.prev = dirs
	if leaveOut {
		return nil
	}
	slot, n := b.t.find(at, name)
	if n >= 0 {
		if b.t.IsDir(n) {
			return badf("%s is both a file and a directory", quote(name))
		}
		return badf("two files of one directory are named %s", quote(name))
	}
	b.insert(slot, node{name: name, parent: at, ref: file})
	return nil
}

// enter returns the directory of that name, which it may have to make.
func (b *treeBuilder) enter(at Node, name string) (Node, error) {
	slot, n := b.t.find(at, name)
	if n >= 0 {
		if !b.t.IsDir(n) {
			return 0, badf("%s is both a file and a directory", quote(name))
		}
		return n, nil
	}
	if len(b.t.dirs) > b.maxDirs {
		return 0, badf("it has more than %d directories, which no torrent of its size needs", b.maxDirs)
	}
	n = b.insert(slot, node{name: name, parent: at, ref: ^int32(len(b.t.dirs))})
	b.t.dirs = append(b.t.dirs, dir{})
	return n, nil
}

func (b *treeBuilder) insert(slot int, x node) Node {
	n := Node(len(b.t.nodes))
	b.t.nodes = append(b.t.nodes, x)
	b.t.table[slot] = n
	return n
}

// group lists the entries by their directory, keeping their order.
func (t *Tree) group() {
	for _, x := range t.nodes[1:] {
		t.dirs[^t.nodes[x.parent].ref].count++
	}
	var first int32
	for i := range t.dirs {
		d := &t.dirs[i]
		d.first, first = first, first+d.count
		d.count = 0
	}
	t.kids = make([]Node, first)
	for i, x := range t.nodes[1:] {
		d := &t.dirs[^t.nodes[x.parent].ref]
		t.kids[d.first+d.count] = Node(i + 1)
		d.count++
	}
}

// maxLinkHops is how many links the kernel follows before it gives up (ELOOP).
const maxLinkHops = 40

// maxTarget is the longest target that a symbolic link can have, in bytes.
const maxTarget = 4095

// deadLinks returns the links, by their index in files, that lead nowhere
// inside the torrent: to a name that is not there, to themselves, or through
// more links than the kernel follows. It returns nil if there are none.
//
// Each round resolves the links that go only through links resolved before, so
// the outcome does not depend on the order and nothing recurses.
func (t *Tree) deadLinks() map[int32]bool {
	var open []Node
	for n := range t.nodes {
		if t.IsSymlink(Node(n)) {
			open = append(open, Node(n))
		}
	}
	if open == nil {
		return nil
	}
	resolved := make(map[Node]Node, len(open))
	for round := 0; round < maxLinkHops && len(open) > 0; round++ {
		found := make(map[Node]Node)
		left := open[:0]
		for _, link := range open {
			if to, ok := t.follow(link, resolved); ok {
				found[link] = to
			} else {
				left = append(left, link)
			}
		}
		if len(found) == 0 {
			break
		}
		open = left
		for link, to := range found {
			resolved[link] = to
		}
	}
	dead := make(map[int32]bool, len(open))
	for _, link := range open {
		dead[t.nodes[link].ref] = true
	}
	if len(dead) == 0 {
		return nil
	}
	return dead
}

// follow walks a link's target down from Root.
func (t *Tree) follow(link Node, resolved map[Node]Node) (Node, bool) {
	at := Root
	for _, name := range t.files[t.nodes[link].ref].Symlink {
		if !t.IsDir(at) {
			return 0, false
		}
		_, n := t.find(at, name)
		if n < 0 {
			return 0, false
		}
		at = n
		if t.IsSymlink(n) {
			to, ok := resolved[n]
			if !ok {
				return 0, false
			}
			at = to
		}
	}
	return at, t.longestTarget(link) <= maxTarget
}

// longestTarget bounds the length of a link's target from above, in bytes.
// Spelling out all targets would cost a multiple of the input.
func (t *Tree) longestTarget(link Node) (n int) {
	for x := t.Parent(link); x != Root; x = t.Parent(x) {
		n += len("../")
	}
	for _, name := range t.files[t.nodes[link].ref].Symlink {
		n += len(name) + len("/")
	}
	return n
}
