package metainfo

import (
	"hash/maphash"
	"math/bits"
	"strings"
)

// A Node numbers one entry of a Tree. Numbers are dense, from Root to Len-1.
type Node int32

// Root is the torrent itself: a directory that bears its name, or the one file
// of a single-file torrent.
const Root Node = 0

// A Tree is the torrent's names as a file system shows them: every directory,
// file and symbolic link, without pad files (BEP 47). It is the only place
// where paths become names, so that everybody shows the same ones. No name in
// it is ".", "..", empty, longer than 255 bytes, or holds "/" or NUL, none
// stands twice in its directory, and no link leaves the torrent.
//
// It is built once and immutable, safe for concurrent use, and takes about 40
// bytes an entry beside Info.Files. Passing a Node that is not of this Tree
// panics.
type Tree struct {
	nodes []node
	// Directories, by ^node.ref, and their children, grouped by directory.
	dirs []dir
	kids []Node
	// Open addressing over nodes, keyed by parent and name; -1 is free. The
	// seed is random, or a torrent could be made to fill one chain.
	table []Node
	seed  maphash.Seed
	files []File
}

type node struct {
	name   string
	parent Node
	ref    int32 // >= 0: index into files; < 0: directory ^ref
}

type dir struct{ first, count int32 }

// Len returns the number of entries.
func (t *Tree) Len() int { return len(t.nodes) }

// Name returns the entry's name; the torrent's for Root.
func (t *Tree) Name(n Node) string { return t.nodes[n].name }

// Parent returns the directory the entry is in; Root for Root.
func (t *Tree) Parent(n Node) Node { return t.nodes[n].parent }

// IsDir reports whether the entry is a directory.
func (t *Tree) IsDir(n Node) bool { return t.nodes[n].ref < 0 }

// File returns the entry's index in Info.Files, or -1 for a directory.
func (t *Tree) File(n Node) int { return max(int(t.nodes[n].ref), -1) }

// IsSymlink reports whether the entry is a symbolic link.
func (t *Tree) IsSymlink(n Node) bool {
	return !t.IsDir(n) && t.files[t.nodes[n].ref].Symlink != nil
}

// Children returns the entries of a directory in the order in which the
// torrent names them, so that whoever copies in readdir order reads the
// torrent from its start to its end. The caller must not change it. It is
// empty for anything but a directory.
func (t *Tree) Children(n Node) []Node {
	if !t.IsDir(n) {
		return nil
	}
	d := t.dirs[^t.nodes[n].ref]
	return t.kids[d.first : d.first+d.count : d.first+d.count]
}

// Lookup finds a name in a directory, in constant time.
func (t *Tree) Lookup(dir Node, name string) (Node, bool) {
	_, n := t.find(dir, name)
	return n, n >= 0
}

// Path returns the names from below Root down to the entry, joined by slashes;
// "" for Root.
func (t *Tree) Path(n Node) string {
	return strings.Join(t.components(n), "/")
}

func (t *Tree) components(n Node) []string {
	depth := 0
	for x := n; x != Root; x = t.Parent(x) {
		depth++
	}
	path := make([]string, depth)
	for x := n; x != Root; x = t.Parent(x) {
		depth--
		path[depth] = t.Name(x)
	}
	return path
}

// Target returns what readlink gives for a symbolic link: a path relative to
// the link's directory that stays inside the torrent; "" for anything else.
func (t *Tree) Target(n Node) string {
	if !t.IsSymlink(n) {
		return ""
	}
	// BEP 47 counts the target from the torrent's root.
	return relative(t.components(t.Parent(n)), t.files[t.nodes[n].ref].Symlink)
}

// relative returns the way from a directory to a target, both counted from
// the same root. All of from are real directories, so ".." leads back along it.
func relative(from, target []string) string {
	same := 0
	for same < len(from) && same < len(target) && from[same] == target[same] {
		same++
	}
	up := len(from) - same
	if up == 0 && same == len(target) {
		return "."
	}
	return strings.TrimSuffix(strings.Repeat("../", up)+strings.Join(target[same:], "/"), "/")
}

// find returns the slot of a name in the table and its node, or a free slot
// and -1.
func (t *Tree) find(dir Node, name string) (slot int, n Node) {
	mask := len(t.table) - 1
	h := maphash.String(t.seed, name) + uint64(dir)*0x9e3779b97f4a7c15
	for slot = int((h ^ h>>32) & uint64(mask)); ; slot = (slot + 1) & mask {
		n = t.table[slot]
		if n < 0 || t.nodes[n].parent == dir && t.nodes[n].name == name {
			return slot, n
		}
	}
}

// tableSize returns a power of two that keeps n entries under three quarters.
func tableSize(n int) int { return 1 << bits.Len(uint(n+n/3)) }
