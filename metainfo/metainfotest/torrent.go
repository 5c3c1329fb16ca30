package metainfotest

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strconv"
	"strings"
)

// Block is the length of a block, bytes.
const Block = 16 << 10

// Mode is which views a torrent has.
type Mode int

// The modes.
const (
	V1 Mode = iota
	V2
	Hybrid
)

// A File is one file of a torrent to be made.
type File struct {
	Path    []string // below the torrent's name; unused for Single
	Size    int
	Attr    string // BEP 47
	Symlink []string
	Extra   Dict   // further keys of its entry in the v1 list
	Data    []byte // default Payload, or zeros for padding
}

// F is a File of a given path, its names joined by slashes.
func F(path string, size int) File {
	return File{Path: strings.Split(path, "/"), Size: size}
}

// A Spec says what torrent to make.
type Spec struct {
	Name        string
	Files       []File
	PieceLength int // default Block
	Mode        Mode
	Single      bool // Files has one, whose only name is Name
}

// A Torrent is an honest torrent. Its dictionaries may be changed before Bytes
// is called.
type Torrent struct {
	Spec        // with PieceLength and all Data set
	Info   Dict // as it goes into Root
	Root   Dict // without "info"
	Stream []byte
	// InfoOrder, if set, is the order in which the keys of Info are written.
	InfoOrder []string
}

// An Entry is a file or link that a reader must show.
type Entry struct {
	Path    []string // from the torrent's name on
	Size    int64
	SHA256  string   // of its content, hex; "" for a link or if nobody has the content
	Symlink []string // target from the torrent's root
}

// New makes the torrent.
func New(s Spec) *Torrent {
	if s.PieceLength == 0 {
		s.PieceLength = Block
	}
	files := make([]File, len(s.Files))
	for i, f := range s.Files {
		if s.Single {
			f.Path = []string{s.Name}
		}
		switch {
		case f.Data != nil:
		case strings.Contains(f.Attr, "p"):
			f.Data = make([]byte, f.Size)
		case strings.Contains(f.Attr, "l"):
		default:
			f.Data = Payload(s.Name+"|"+strings.Join(f.Path, "|"), f.Size)
		}
		files[i] = f
	}
	s.Files = files
	t := &Torrent{
		Spec: s,
		Info: Dict{"name": s.Name, "piece length": s.PieceLength},
		Root: Dict{"announce": "http://tracker.invalid/announce", "created by": "hostile-gen"},
	}
	if s.Mode != V2 {
		t.addV1()
	}
	if s.Mode != V1 {
		t.addV2()
	}
	return t
}

// Payload returns pseudo-random content that depends on seed only.
func Payload(seed string, size int) []byte {
	var b []byte
	for n := 0; len(b) < size; n++ {
		h := sha256.Sum256([]byte(seed + "/" + strconv.Itoa(n)))
		b = append(b, h[:]...)
	}
	return b[:size]
}

func (t *Torrent) addV1() {
	var list []File
	for i, f := range t.Files {
		list = append(list, f)
		t.Stream = append(t.Stream, f.Data...)
		gap := (t.PieceLength - len(t.Stream)%t.PieceLength) % t.PieceLength
		if t.Mode == Hybrid && gap > 0 && i+1 < len(t.Files) && f.Size > 0 {
			list = append(list, File{Path: []string{".pad", strconv.Itoa(gap)}, Size: gap, Attr: "p"})
			t.Stream = append(t.Stream, make([]byte, gap)...)
		}
	}
	var pieces []byte
	for rest := t.Stream; len(rest) > 0; {
		n := min(len(rest), t.PieceLength)
		h := sha1.Sum(rest[:n])
		pieces = append(pieces, h[:]...)
		rest = rest[n:]
	}
	t.Info["pieces"] = pieces
	if t.Single {
		f := list[0]
		t.Info["length"] = f.Size
		if f.Attr != "" {
			t.Info["attr"] = f.Attr
		}
		maps.Copy(t.Info, f.Extra)
		return
	}
	entries := make(List, len(list))
	for i, f := range list {
		entries[i] = f.entry()
	}
	t.Info["files"] = entries
}

func (f File) entry() Dict {
	d := Dict{"length": f.Size, "path": f.Path}
	if f.Attr != "" {
		d["attr"] = f.Attr
	}
	if f.Symlink != nil {
		d["symlink path"] = f.Symlink
	}
	maps.Copy(d, f.Extra)
	return d
}

func (t *Torrent) addV2() {
	tree, layers := Dict{}, Dict{}
	for _, f := range t.Files {
		if strings.Contains(f.Attr, "p") {
			continue
		}
		at := tree
		for _, name := range f.Path {
			if at[name] == nil {
				at[name] = Dict{}
			}
			at = at[name].(Dict)
		}
		leaf := Dict{"length": f.Size}
		if f.Attr != "" {
			leaf["attr"] = f.Attr
		}
		if f.Symlink != nil {
			leaf["symlink path"] = f.Symlink
		}
		if f.Size > 0 {
			root, layer := V2Hashes(f.Data, t.PieceLength)
			leaf["pieces root"] = root
			if layer != nil {
				layers[string(root)] = layer
			}
		}
		at[""] = leaf
	}
	t.Info["meta version"] = 2
	t.Info["file tree"] = tree
	t.Root["piece layers"] = layers
}

// V2Hashes returns the pieces root of a file that is not empty and its piece
// layer, nil if it has only one piece (BEP 52). It is the definition written
// down: whole rows, padded to a power of two.
func V2Hashes(data []byte, pieceLength int) (root, layer []byte) {
	var leaves [][]byte
	for rest := data; len(rest) > 0; {
		n := min(len(rest), Block)
		h := sha256.Sum256(rest[:n])
		leaves = append(leaves, h[:])
		rest = rest[n:]
	}
	if len(data) <= pieceLength {
		return merkleRoot(leaves, 1), nil
	}
	per := max(1, pieceLength/Block)
	var row [][]byte
	for i := 0; i < len(leaves); i += per {
		sub := merkleRoot(leaves[i:min(i+per, len(leaves))], per)
		row = append(row, sub)
		layer = append(layer, sub...)
	}
	n := 1
	for n < len(row) {
		n *= 2
	}
	for len(row) < n {
		row = append(row, merkleRoot(nil, per))
	}
	return merkleRoot(row, 1), layer
}

// merkleRoot pads the leaves with zeros to a power of two, but at least to n.
func merkleRoot(leaves [][]byte, n int) []byte {
	for n < len(leaves) {
		n *= 2
	}
	row := append([][]byte(nil), leaves...)
	for len(row) < n {
		row = append(row, make([]byte, sha256.Size))
	}
	for ; len(row) > 1; row = row[:len(row)/2] {
		for i := 0; i < len(row); i += 2 {
			h := sha256.Sum256(append(append([]byte(nil), row[i]...), row[i+1]...))
			row[i/2] = h[:]
		}
	}
	return row[0]
}

// InfoBytes returns the info dictionary.
func (t *Torrent) InfoBytes() []byte {
	if t.InfoOrder == nil {
		return Encode(t.Info)
	}
	var p Pairs
	for _, k := range t.InfoOrder {
		p = append(p, Pair{k, t.Info[k]})
	}
	return Encode(p)
}

// Bytes returns the .torrent file.
func (t *Torrent) Bytes() []byte {
	root := Dict{"info": Raw(t.InfoBytes())}
	maps.Copy(root, t.Root)
	return Encode(root)
}

// Hash returns the v1 infohash in hex, "" if the torrent has none.
func (t *Torrent) Hash() string {
	if t.Mode == V2 {
		return ""
	}
	h := sha1.Sum(t.InfoBytes())
	return hex.EncodeToString(h[:])
}

// Hash2 returns the v2 infohash in hex, "" if the torrent has none.
func (t *Torrent) Hash2() string {
	if t.Mode == V1 {
		return ""
	}
	h := sha256.Sum256(t.InfoBytes())
	return hex.EncodeToString(h[:])
}

// Tree returns what a reader must show: all but pad files, in order.
func (t *Torrent) Tree() []Entry {
	var list []Entry
	for _, f := range t.Files {
		if strings.Contains(f.Attr, "p") {
			continue
		}
		e := Entry{Path: append([]string{t.Name}, f.Path...), Size: int64(f.Size), Symlink: f.Symlink}
		if t.Single {
			e.Path = e.Path[:1]
		}
		if f.Symlink == nil {
			h := sha256.Sum256(f.Data)
			e.SHA256 = hex.EncodeToString(h[:])
		}
		list = append(list, e)
	}
	return list
}
