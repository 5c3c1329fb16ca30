package webseed

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"swarmfs/metainfo"
)

// Kind is what a server understands.
type Kind uint8

// The kinds of web seeds.
const (
	Files  Kind = iota // a server of the files: url-list (BEP 19)
	Pieces             // a script that is asked for parts of pieces: httpseeds (BEP 17)
)

// Source is one web seed of one torrent: where its bytes are. It is immutable.
type Source struct {
	kind   Kind
	base   string
	query  bool // the URL that the torrent names has a query
	info   *metainfo.Info
	layout metainfo.Layout
}

// NewSource returns the Source of a URL that a torrent names. An error says that
// no bytes can be had from it.
func NewSource(kind Kind, rawURL string, info *metainfo.Info) (*Source, error) {
	base, _, _ := strings.Cut(rawURL, "#")
	u, err := url.Parse(base)
	if err != nil {
		return nil, errors.New("the URL of a web seed cannot be read") // the cause repeats it
	}
	if err := checkURL(u); err != nil {
		return nil, err
	}
	return &Source{kind: kind, base: base, query: u.RawQuery != "", info: info, layout: info.Layout()}, nil
}

// Part is a stretch of the torrent that one request brings.
type Part struct {
	// URL is where it is; "" for padding, which is all zeros and never fetched.
	URL string
	// From and To are the bytes of the resource, To not included. They are named
	// in a Range header, but for Pieces, whose URL says them.
	From, To int64
	// Size is how long the resource is in all.
	Size int64
	// File is its index in Info.Files; -1 for Pieces.
	File int
}

// Len returns how many bytes it has.
func (p Part) Len() int64 { return p.To - p.From }

// Part returns the part that begins at a byte of the torrent and ends before
// another, or earlier: at the end of the file, or of the piece for Pieces.
func (s *Source) Part(off, end int64) Part {
	if s.kind == Pieces {
		return s.piecePart(off, end)
	}
	i := s.fileAt(off)
	f := &s.info.Files[i]
	p := Part{From: off - f.Offset, To: min(end-f.Offset, f.Length), Size: f.Length, File: i}
	if !f.Pad {
		p.URL = s.fileURL(f)
	}
	return p
}

// fileAt returns the file that holds a byte. Empty files hold none.
func (s *Source) fileAt(off int64) int {
	files := s.info.Files
	i, _ := slices.BinarySearchFunc(files, off, func(f metainfo.File, off int64) int {
		if f.Offset+f.Length <= off {
			return -1
		}
		return 1
	})
	return i
}

// fileURL is BEP 19's: the path of the file is added to that of a folder, by
// component, so that no name can mean anything else than a name.
func (s *Source) fileURL(f *metainfo.File) string {
	if s.info.SingleFile && !strings.HasSuffix(s.base, "/") {
		return s.base
	}
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(s.base, "/"))
	b.WriteByte('/')
	escape(&b, s.info.Name)
	for _, name := range f.Path {
		b.WriteByte('/')
		escape(&b, name)
	}
	return b.String()
}

// piecePart asks the script of BEP 17 for a part of one piece.
func (s *Source) piecePart(off, end int64) Part {
	piece := off / s.layout.PieceLength
	start := piece * s.layout.PieceLength
	size := int64(s.layout.PieceSize(int(piece)))
	p := Part{From: off - start, To: min(end-start, size), Size: size, File: -1}
	var b strings.Builder
	b.WriteString(s.base)
	if s.query {
		b.WriteByte('&')
	} else {
		b.WriteByte('?')
	}
	b.WriteString("info_hash=")
	escape(&b, string(s.info.Hash[:]))
	fmt.Fprintf(&b, "&piece=%d&ranges=%d-%d", piece, p.From, p.To-1)
	p.URL = b.String()
	return p
}

// pieceEnd returns where the piece that holds a byte ends.
func (s *Source) pieceEnd(off int64) int64 {
	end := (off/s.layout.PieceLength + 1) * s.layout.PieceLength
	return min(end, s.layout.Length)
}

// escape writes what is not unreserved in percent-encoding (RFC 3986 section 2.3).
func escape(b *strings.Builder, s string) {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteString(strings.ToUpper(strconv.FormatUint(uint64(c)|0x100, 16)[1:]))
		}
	}
}
