package metainfo

import (
	"strings"
	"unicode/utf8"
)

// maxName is the longest name that Linux file systems and FUSE take, in bytes.
const maxName = 255

// maxPathDepth is the most components in a path, below the torrent's name.
const maxPathDepth = 100

// checkName refuses what cannot be one name of a directory. Everything else is
// a legal POSIX name and stays as it is, byte for byte: a name that is not
// UTF-8, composed or decomposed, or holds control characters is still the name
// that other clients see.
func checkName(name []byte) error {
	switch {
	case len(name) == 0:
		return bad("a name is empty")
	case string(name) == ".", string(name) == "..":
		return badf("a name is %s", quote(name))
	case len(name) > maxName:
		return badf("name %s is longer than %d bytes", quote(name), maxName)
	}
	for _, c := range name {
		if c == '/' || c == 0 {
			return badf("name %s holds a slash or a NUL byte", quote(name))
		}
	}
	return nil
}

// preferUTF8 picks the ".utf-8" twin of a name, which old makers wrote beside
// one in a local encoding, if it is what it says.
func preferUTF8(plain, twin value) value {
	if s, ok := twin.str(); ok && len(s) > 0 && utf8.Valid(s) {
		return twin
	}
	return plain
}

// preferUTF8Path does the same for a path.
func preferUTF8Path(plain, twin value) value {
	n := 0
	for e := range twin.list() {
		if s, ok := e.str(); !ok || !utf8.Valid(s) {
			return plain
		}
		n++
	}
	if n == 0 {
		return plain
	}
	return twin
}

// checkPath checks a path of the input and returns its number of components.
func checkPath(path value) (n int, err error) {
	if !path.isList() {
		return 0, bad("a file's path is missing or not a list")
	}
	for e := range path.list() {
		name, ok := e.str()
		if !ok {
			return 0, bad("a file's path holds something that is not a string")
		}
		if err := checkName(name); err != nil {
			return 0, err
		}
		if n++; n > maxPathDepth {
			return 0, badf("a file lies more than %d directories deep", maxPathDepth)
		}
	}
	if n == 0 {
		return 0, bad("a file's path is empty")
	}
	return n, nil
}

// names holds the components of all paths: their bytes in a few large strings
// and their headers in one array, as 20,000 files would be 60,000 allocations
// otherwise.
type names struct {
	comps []string
	text  strings.Builder
	chunk int // bytes to allocate at once
}

// newNames makes room for n components of an input of the given size.
func newNames(n, inputSize int) *names {
	return &names{comps: make([]string, 0, n), chunk: min(inputSize, 64<<10)}
}

// add stores a checked path. It shares the strings of prev, the path before,
// as files of one directory stand together.
func (s *names) add(path value, prev []string) []string {
	start := len(s.comps)
	for e := range path.list() {
		name, _ := e.str()
		if k := len(s.comps) - start; k < len(prev) && prev[k] == string(name) {
			s.comps = append(s.comps, prev[k])
			continue
		}
		s.comps = append(s.comps, s.intern(name))
	}
	return s.comps[start:len(s.comps):len(s.comps)]
}

func (s *names) intern(name []byte) string {
	if s.text.Cap()-s.text.Len() < len(name) {
		s.text.Reset() // strings cut from the old chunk keep it alive
		s.text.Grow(max(s.chunk, len(name)))
	}
	start := s.text.Len()
	s.text.Write(name)
	return s.text.String()[start:]
}
