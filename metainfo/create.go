package metainfo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anacrolix/torrent/bencode"
)

const opCreate = "create torrent"

// CreateOptions says what goes into a new torrent beside its files. The zero
// value makes a public torrent without trackers.
type CreateOptions struct {
	// Name is the torrent's name; default the last name of the path.
	Name string
	// PieceLength is the length of a piece in bytes, 1 to MaxPieceLength;
	// default what PieceLengthFor gives. Small pieces start a stream sooner,
	// large ones make a small torrent.
	PieceLength int64
	// Private keeps the torrent to its trackers (BEP 27).
	Private bool
	// Source changes the infohash, so that one tracker's torrent is not
	// another's.
	Source string

	Trackers  [][]string // tiers of http, https and udp URLs (BEP 12)
	WebSeeds  []string   // http and https URLs (BEP 19)
	Comment   string
	CreatedBy string
	// CreationDate is written in whole seconds; zero leaves it out, which
	// makes the same torrent from the same files at any time.
	CreationDate time.Time

	// Workers is how many pieces are hashed at once; default GOMAXPROCS.
	Workers int
	// Progress is told how many of all bytes are hashed, from one goroutine
	// at a time and in order; it must not block. May be nil.
	Progress func(done, total int64)
}

// PieceLengthFor returns the piece length for so many bytes: a power of two
// from 16 KiB to 16 MiB that makes 1,000 to 2,000 pieces where it can.
func PieceLengthFor(length int64) int64 {
	n := int64(BlockSize)
	for n < 16<<20 && length/n > 2000 {
		n *= 2
	}
	return n
}

// Create makes a v1 torrent of a file, or of all files below a folder in the
// order of their names. Symbolic links inside a folder stay links (BEP 47);
// what is no file, folder or such a link is refused by name, and so is a file
// that changes meanwhile. The error is an *InputError for what a user can
// change, or of the disk, or context.Cause(ctx).
func Create(ctx context.Context, path string, o CreateOptions) (*Torrent, error) {
	if err := o.check(); err != nil {
		return nil, inputError(opCreate, err)
	}
	src, err := openSource(ctx, path, o.Name)
	if err != nil {
		return nil, err
	}
	layout := Layout{PieceLength: o.PieceLength, Length: src.length}
	if layout.PieceLength == 0 {
		layout.PieceLength = PieceLengthFor(src.length)
	}
	if n := (layout.Length - 1) / layout.PieceLength; n > MaxSize/20 {
		return nil, &InputError{opCreate, fmt.Sprintf("%d pieces of %d bytes are too many: choose a greater piece length", n+1, layout.PieceLength)}
	}
	sums, err := src.hash(ctx, layout, o.Workers, o.Progress)
	if err != nil {
		return nil, err
	}
	raw, err := encode(src.info(layout, sums, &o))
	if err != nil {
		return nil, err
	}
	// Through Parse, so that nobody can create what nobody could read.
	t := &Torrent{
		Info: &Info{Raw: raw}, Trackers: o.Trackers, WebSeeds: o.WebSeeds,
		CreationDate: o.CreationDate, Comment: o.Comment, CreatedBy: o.CreatedBy,
	}
	data, err := t.Marshal()
	if err != nil {
		return nil, err
	}
	t, err = parse(data)
	return t, inputError(opCreate, err)
}

// check refuses options that Parse would drop without a word.
func (o *CreateOptions) check() error {
	if o.PieceLength < 0 || o.PieceLength > MaxPieceLength {
		return badf("the piece length is %d bytes, not 1 to %d", o.PieceLength, MaxPieceLength)
	}
	for _, u := range slices.Concat(o.Trackers...) {
		if _, ok := cleanURL(u, trackerSchemes); !ok {
			return badf("tracker %s is not an http, https or udp URL with a host (and for udp a port)", quote(u))
		}
	}
	for _, u := range o.WebSeeds {
		if _, ok := cleanURL(u, webSchemes); !ok {
			return badf("web seed %s is not an http or https URL", quote(u))
		}
	}
	return nil
}

// info returns the info dictionary as the library encodes it: keys sorted.
func (s *source) info(l Layout, sums []byte, o *CreateOptions) map[string]any {
	info := map[string]any{
		"name":         s.name,
		"piece length": l.PieceLength,
		"pieces":       sums,
	}
	if o.Private {
		info["private"] = 1
	}
	setText(info, "source", o.Source)
	if s.single {
		info["length"] = s.length
		setText(info, "attr", s.files[0].attr())
		return info
	}
	list := make([]bencode.Bytes, len(s.files))
	for i := range s.files {
		list[i] = s.files[i].encode()
	}
	info["files"] = list
	return info
}

func (f *sourceFile) attr() string {
	switch {
	case f.target != nil:
		return "l"
	case f.executable:
		return "x"
	}
	return ""
}

// encode writes one element of the list of files, keys sorted.
func (f *sourceFile) encode() []byte {
	var b strings.Builder
	b.WriteByte('d')
	if a := f.attr(); a != "" {
		fmt.Fprintf(&b, "4:attr%d:%s", len(a), a)
	}
	fmt.Fprintf(&b, "6:lengthi%de4:path", f.length)
	writePath(&b, f.path)
	if f.target != nil {
		b.WriteString("12:symlink path")
		writePath(&b, f.target)
	}
	b.WriteByte('e')
	return []byte(b.String())
}

func writePath(b *strings.Builder, path []string) {
	b.WriteByte('l')
	for _, name := range path {
		fmt.Fprintf(b, "%d:%s", len(name), name)
	}
	b.WriteByte('e')
}
