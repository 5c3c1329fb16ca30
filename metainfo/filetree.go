package metainfo

import (
	"bytes"
	"crypto/sha256"
	"math/bits"
)

// metaVersion is the "meta version" of BEP 52; 1 was never assigned, and is
// read as what v1 makers mean by it.
const metaVersion = 2

// hasV2 reports whether a dictionary has a v2 view that must be looked at.
func hasV2(version value) (bool, error) {
	if version == nil {
		return false, nil
	}
	switch n, ok := version.integer(); {
	case ok && n == 1:
		return false, nil
	case ok && n == metaVersion:
		return true, nil
	}
	// BEP 52: an unknown version must not be read as a known one.
	return false, bad("its meta version is not 1 or 2: it needs a newer program")
}

// checkV2 checks the v2 view of a torrent: its file tree, its piece layers
// against the roots, and for a hybrid, whose v1 files are in i already, that
// both views show the same. layers are nil if they are not known, as for a
// dictionary that came from a peer.
func checkV2(i *Info, tree, layers value) error {
	if i.PieceLength < BlockSize || bits.OnesCount64(uint64(i.PieceLength)) != 1 {
		return badf("its piece length is %d bytes, which v2 does not allow: "+
			"it must be a power of two from %d on", i.PieceLength, BlockSize)
	}
	if !tree.isDict() {
		return bad("its v2 file tree is missing or not a dictionary")
	}
	c := v2Check{info: i, hybrid: i.Files != nil, rest: tree, pad: piecePad(i.PieceLength)}
	if err := c.setLayers(layers); err != nil {
		return err
	}
	if err := c.directory(); err != nil {
		return err
	}
	if c.files == 0 {
		return bad("its v2 file tree is empty")
	}
	if c.hybrid && c.nextShown() >= 0 {
		return bad("its v1 list of files holds more than its v2 file tree")
	}
	return nil
}

// v2Check walks a file tree. It recurses as deep as the tree is, which scan
// has bounded.
type v2Check struct {
	info   *Info
	hybrid bool
	rest   value // of the file tree, still to be checked
	next   int   // v1 file to compare with the next v2 one
	files  int
	total  int64
	path   [][]byte
	pad    Hash2

	layers  map[string]value // by root; nil if not known
	checked map[string]int   // layers found right, and their size
}

func (c *v2Check) setLayers(layers value) error {
	if layers == nil {
		return nil
	}
	if !layers.isDict() {
		return bad("its v2 piece layers are not a dictionary")
	}
	c.layers = make(map[string]value)
	c.checked = make(map[string]int)
	for root, layer := range layers.dict() {
		if _, twice := c.layers[string(root)]; twice {
			return bad("a v2 piece layer stands twice")
		}
		c.layers[string(root)] = layer
	}
	return nil
}

// directory checks the directory that c.rest starts with, and passes it. It
// goes over the input once: taking the length of every directory first would
// cost its size once for each level above it.
func (c *v2Check) directory() error {
	c.rest = c.rest[1:]
	var prev []byte
	for c.rest[0] != 'e' {
		n := span(c.rest)
		name := []byte(c.rest[colon(c.rest)+1 : n])
		c.rest = c.rest[n:]
		if err := checkName(name); err != nil {
			return err
		}
		// Bencode asks for sorted keys. Here the order is the files' order, so
		// it is required, and with it no name can stand twice.
		if bytes.Compare(prev, name) >= 0 {
			return badf("its v2 file tree is not sorted at %s", quote(name))
		}
		prev = name
		if !c.rest.isDict() {
			return badf("%s in its v2 file tree is not a dictionary", quote(name))
		}
		c.path = append(c.path, name)
		if err := c.child(name); err != nil {
			return err
		}
		c.path = c.path[:len(c.path)-1]
	}
	c.rest = c.rest[1:]
	return nil
}

// child checks what stands under a name: a file is a dictionary whose only key
// is the empty string.
func (c *v2Check) child(name []byte) error {
	if !bytes.HasPrefix(c.rest, []byte("d0:")) {
		return c.directory()
	}
	leaf := c.rest[len("d0:"):]
	n := span(leaf)
	c.rest = leaf[n:]
	if c.rest[0] != 'e' {
		return badf("%s in its v2 file tree is both a file and a directory", quote(name))
	}
	c.rest = c.rest[1:]
	return c.file(name, leaf[:n])
}

var leafKeys = []string{"length", "pieces root", "attr", "symlink path"}

func (c *v2Check) file(name []byte, v value) error {
	var f [4]value
	if !v.isDict() {
		return badf("file %s in its v2 file tree is not a dictionary", quote(name))
	}
	if err := v.fields(leafKeys, f[:]); err != nil {
		return err
	}
	a := parseAttr(f[2])
	length, ok := f[0].integer()
	if a.link && f[0] == nil {
		length, ok = 0, true
	}
	if !ok || length < 0 || length > maxV2Length-c.total {
		return badf("file %s has a bad length in its v2 file tree", quote(name))
	}
	c.total += length
	c.files++
	if a.link {
		if _, err := checkTarget(f[3]); err != nil {
			return err
		}
	}
	if length > 0 {
		if err := c.hashes(name, length, f[1]); err != nil {
			return err
		}
	}
	if !c.hybrid {
		return nil
	}
	return c.compare(name, length, a, f[3])
}

// maxV2Length bounds the sum of lengths, so that nothing wraps.
const maxV2Length = 1 << 62

// hashes checks a file's root and, if it has more than one piece, that its
// piece layer is whole and hashes to the root.
func (c *v2Check) hashes(name []byte, length int64, rootValue value) error {
	root, _ := rootValue.str()
	if len(root) != sha256.Size {
		return badf("file %s has no pieces root of %d bytes to verify it with", quote(name), sha256.Size)
	}
	if length <= c.info.PieceLength || c.layers == nil {
		return nil
	}
	layer, ok := c.layers[string(root)].str()
	if !ok {
		return badf("file %s has no v2 piece layer", quote(name))
	}
	pieces := (length-1)/c.info.PieceLength + 1
	if int64(len(layer)) != pieces*sha256.Size { // pieces is at most 2^48
		return badf("the v2 piece layer of file %s is %d bytes, not %d", quote(name), len(layer), pieces*sha256.Size)
	}
	if c.checked[string(root)] == len(layer) {
		return nil // attack: many files that name one large layer
	}
	if got := layerRoot(layer, c.pad); !bytes.Equal(got[:], root) {
		return badf("the v2 piece layer of file %s does not hash to its root", quote(name))
	}
	c.checked[string(root)] = len(layer)
	return nil
}

// compare checks a v2 file against the v1 file in its place: readers of either
// view must see the same files in the same pieces.
func (c *v2Check) compare(name []byte, length int64, a attr, target value) error {
	n := c.nextShown()
	if n < 0 {
		return badf("file %s is in its v2 file tree, but not in its v1 list of files", quote(name))
	}
	c.next++
	f := &c.info.Files[n]
	if !c.samePath(f) {
		return badf("its v1 and v2 views name a file differently: v2 has %s", quote(name))
	}
	if f.Length != length {
		return badf("its v1 and v2 views give file %s different lengths: %d and %d", quote(name), f.Length, length)
	}
	if a.link != (f.Symlink != nil) || a.link && !samePath(f.Symlink, target) {
		return badf("its v1 and v2 views do not agree that %s is a symbolic link", quote(name))
	}
	if length > 0 && f.Offset%c.info.PieceLength != 0 {
		return badf("file %s does not start a piece in its v1 view, as it does in v2", quote(name))
	}
	return nil
}

// nextShown returns the index of the next v1 file that is no padding, or -1.
func (c *v2Check) nextShown() int {
	for ; c.next < len(c.info.Files); c.next++ {
		if !c.info.Files[c.next].Pad {
			return c.next
		}
	}
	return -1
}

func (c *v2Check) samePath(f *File) bool {
	if c.info.SingleFile {
		return len(c.path) == 1 && string(c.path[0]) == c.info.Name
	}
	if len(f.Path) != len(c.path) {
		return false
	}
	for k, name := range c.path {
		if f.Path[k] != string(name) {
			return false
		}
	}
	return true
}

func samePath(path []string, v value) bool {
	n := 0
	for e := range v.list() {
		s, _ := e.str()
		if n == len(path) || path[n] != string(s) {
			return false
		}
		n++
	}
	return n == len(path)
}
