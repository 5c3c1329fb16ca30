package metainfo

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"math"
)

// An Info is an info dictionary (BEP 3): what a torrent is, whoever tracks it.
// Only Parse, ParseInfo and Create make one. It is immutable and safe for
// concurrent use; its slices must not be changed.
type Info struct {
	Name        string // one name, checked like those of Tree
	PieceLength int64  // bytes
	Length      int64  // of all files with pad files, bytes; at least 1
	Files       []File // in the order of their bytes; one if SingleFile
	SingleFile  bool   // the torrent is a file, not a directory
	Private     bool   // BEP 27: no DHT, no PEX, no LSD
	Source      string // as trackers write it to tell their torrents apart

	Hash  Hash
	Hash2 Hash2 // of a hybrid, if HasV2
	HasV2 bool  // the v2 view was checked against the v1 view

	Raw []byte // the dictionary as it stood; what the hashes are of

	pieces []byte // in Raw
	tree   *Tree
}

// A File is one entry of a torrent's list of files.
type File struct {
	Path       []string // below Info.Name; nil when SingleFile, or for a pad file without a name
	Offset     int64    // of its first byte in the torrent, bytes
	Length     int64    // bytes; 0 for a symbolic link
	Pad        bool     // BEP 47: takes its place in the pieces and is not shown
	Executable bool     // BEP 47

	// Symlink is the target of a symbolic link, counted from the torrent's
	// root (BEP 47); nil for anything else. Tree.Target gives what readlink
	// should. Links that lead nowhere are here but not in the Tree.
	Symlink []string
}

// PieceSums returns the SHA-1 of every piece, 20 bytes each, one after the
// other. It aliases Raw.
func (i *Info) PieceSums() []byte { return i.pieces }

// Layout returns how the torrent's bytes are cut.
func (i *Info) Layout() Layout { return Layout{PieceLength: i.PieceLength, Length: i.Length} }

// NumPieces returns the number of pieces.
func (i *Info) NumPieces() int { return i.Layout().NumPieces() }

// Tree returns the torrent's names as a file system shows them.
func (i *Info) Tree() *Tree { return i.tree }

// ParseInfo reads an info dictionary on its own, as it comes from a peer
// (BEP 9). Its verdict is Parse's. It keeps no reference to raw. The error is
// an *InputError.
func ParseInfo(raw []byte) (*Info, error) {
	err := scan(raw)
	if err != nil {
		return nil, inputError(opInfo, err)
	}
	i, err := parseInfo(raw, nil)
	if err != nil {
		return nil, inputError(opInfo, err)
	}
	return i, nil
}

// The keys of an info dictionary that are read.
var infoKeys = []string{
	"name", "name.utf-8", "piece length", "pieces", "length", "files",
	"private", "source", "attr", "meta version", "file tree",
}

const (
	keyName = iota
	keyNameUTF8
	keyPieceLength
	keyPieces
	keyLength
	keyFiles
	keyPrivate
	keySource
	keyAttr
	keyMetaVersion
	keyFileTree
	numInfoKeys
)

type infoFields [numInfoKeys]value

// parseInfo reads a scanned info dictionary. layers are the "piece layers" of
// the file it came in, if it came in one.
func parseInfo(raw, layers value) (*Info, error) {
	if !raw.isDict() {
		return nil, bad("the info dictionary is missing or not a dictionary")
	}
	raw = bytes.Clone(raw) // on its own, or one name would keep the whole file
	var f infoFields
	if err := raw.fields(infoKeys, f[:]); err != nil {
		return nil, err
	}
	i := &Info{Raw: raw}
	if err := i.setBasics(&f); err != nil {
		return nil, err
	}
	v2, err := hasV2(f[keyMetaVersion])
	if err != nil {
		return nil, err
	}
	if v2 && f[keyPieces] == nil {
		if err := checkV2(i, f[keyFileTree], layers); err != nil {
			return nil, err
		}
		return nil, bad("it is a v2 torrent, which is not supported yet: " +
			"a v1 or hybrid torrent of the same files will do")
	}
	if err := i.setFiles(&f); err != nil {
		return nil, err
	}
	if err := i.setPieces(f[keyPieces]); err != nil {
		return nil, err
	}
	if i.tree, err = buildTree(i); err != nil {
		return nil, err
	}
	if v2 {
		if err := checkV2(i, f[keyFileTree], layers); err != nil {
			return nil, err
		}
		i.HasV2, i.Hash2 = true, sha256.Sum256(raw)
	}
	i.Hash = sha1.Sum(raw)
	return i, nil
}

// setBasics reads what v1 and v2 share.
func (i *Info) setBasics(f *infoFields) error {
	name, ok := preferUTF8(f[keyName], f[keyNameUTF8]).str()
	if !ok {
		return bad("its name is missing or not a string")
	}
	if err := checkName(name); err != nil {
		return err
	}
	i.Name = string(name)
	if i.PieceLength, ok = f[keyPieceLength].integer(); !ok {
		return bad("its piece length is missing or not a number")
	}
	if i.PieceLength < 1 || i.PieceLength > MaxPieceLength {
		return badf("its piece length is %d bytes, not 1 to %d", i.PieceLength, MaxPieceLength)
	}
	// Whatever is not plainly 0 keeps the torrent to its trackers: the wrong
	// way round, a private torrent would be announced to the world.
	i.Private = f[keyPrivate] != nil && string(f[keyPrivate]) != "i0e"
	i.Source = text(f[keySource])
	return nil
}

func (i *Info) setPieces(v value) error {
	pieces, ok := v.str()
	if !ok {
		return bad("its piece hashes are missing or not a string")
	}
	if len(pieces)%sha1.Size != 0 {
		return badf("its piece hashes are %d bytes, which is no multiple of %d", len(pieces), sha1.Size)
	}
	if i.Length == 0 {
		return bad("it has no content: all files are empty")
	}
	// Too few would leave bytes that nothing verifies.
	if got, want := len(pieces)/sha1.Size, (i.Length-1)/i.PieceLength+1; int64(got) != want {
		return badf("it has %d piece hashes, but its %d bytes need %d", got, i.Length, want)
	}
	i.pieces = pieces
	return nil
}

// addLength counts a file's bytes into the total.
func (i *Info) addLength(n int64) error {
	if n < 0 {
		return badf("a file's length is %d bytes", n)
	}
	if n > math.MaxInt64-i.Length { // attack: lengths that wrap to a small sum
		return bad("its files are longer than 64 bits can count")
	}
	i.Length += n
	return nil
}
