package metainfotest

import (
	"maps"
	"sync"
)

// A Case is one crafted torrent or magnet link and what must become of it.
type Case struct {
	Name   string // of its file: "….torrent" or "….magnet"
	Group  string // bencode, structure, path, v2, size, legal, magnet
	Why    string // what it is about
	Accept bool
	// Must tells a verdict that is required from one that is our policy, where
	// a client of good name decides otherwise. Invariants hold for both.
	Must bool
	// V2Only is an honest torrent that only a v2 reader can accept.
	V2Only bool
	// Big is one of tens of megabytes: leave it out of short tests.
	Big bool

	// For those accepted: what a reader must show, byte for byte.
	Hash, Hash2 string // hex, "" for none
	Tree        []Entry

	data func() []byte
}

// Data returns the file's bytes.
func (c Case) Data() []byte { return c.data() }

// Invariant is what no name of any tree may be, whatever the verdict.
func Invariant(name string) bool {
	if name == "" || name == "." || name == ".." || len(name) > 255 {
		return false
	}
	for i := range len(name) {
		if name[i] == '/' || name[i] == 0 {
			return false
		}
	}
	return true
}

// Cases returns the crafted set. It is shared: do not change it.
var Cases = sync.OnceValue(func() []Case {
	var s set
	s.bencode()
	s.structure()
	s.paths()
	s.v2()
	s.sizes()
	s.legalLayouts()
	s.legalNames()
	s.legalRoots()
	s.legalExtras()
	s.magnets()
	return s
})

type set []Case

func bytesOf(b []byte) func() []byte { return func() []byte { return b } }

// reject adds a torrent that must be refused.
func (s *set) reject(group, name string, data []byte, why string) *Case {
	*s = append(*s, Case{Name: name + ".torrent", Group: group, Why: why, Must: true, data: bytesOf(data)})
	return s.last()
}

// accept adds a torrent that must be accepted, and show its tree.
func (s *set) accept(name string, t *Torrent, why string) *Case {
	*s = append(*s, Case{
		Name: name + ".torrent", Group: "legal", Why: why, Accept: true, Must: true,
		V2Only: t.Mode == V2, Hash: t.Hash(), Hash2: t.Hash2(), Tree: t.Tree(), data: t.Bytes,
	})
	return s.last()
}

func (s *set) magnet(name, link string, accept bool, why string) *Case {
	*s = append(*s, Case{
		Name: name + ".magnet", Group: "magnet", Why: why, Accept: accept, Must: true,
		data: bytesOf([]byte(link + "\n")),
	})
	return s.last()
}

func (s *set) last() *Case { return &(*s)[len(*s)-1] }

// should marks a verdict as our policy.
func (c *Case) should() *Case { c.Must = false; return c }

// base is a small honest torrent of two files.
func base(m Mode) *Torrent {
	return New(Spec{Name: "base", Files: []File{F("a.bin", 40000), F("d/b.bin", 5000)}, Mode: m})
}

// one is a small honest torrent of a single file.
func one(name string, size int, m Mode) *Torrent {
	return New(Spec{Name: name, Files: []File{{Size: size}}, Single: true, Mode: m})
}

// dir is a small honest v1 torrent of the given files.
func dir(name string, files ...File) *Torrent { return New(Spec{Name: name, Files: files}) }

// with changes keys of a torrent's info dictionary.
func (t *Torrent) with(info Dict) *Torrent { maps.Copy(t.Info, info); return t }

// withRoot changes keys of a torrent beside its info dictionary.
func (t *Torrent) withRoot(root Dict) *Torrent { maps.Copy(t.Root, root); return t }

// without takes keys out of the info dictionary.
func (t *Torrent) without(keys ...string) *Torrent {
	for _, k := range keys {
		delete(t.Info, k)
	}
	return t
}

func (t *Torrent) withoutAnnounce() *Torrent { delete(t.Root, "announce"); return t }
