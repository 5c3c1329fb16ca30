package metainfo

import "bytes"

// setFiles reads the v1 list of files: "length" for a single file, "files" for
// a directory.
func (i *Info) setFiles(f *infoFields) error {
	switch single, multi := f[keyLength], f[keyFiles]; {
	case single != nil && multi != nil:
		// Two readings of one infohash: we would show another tree than others.
		return bad("it has both a length and a list of files")
	case single != nil:
		return i.setSingle(single, f[keyAttr])
	case multi.isList():
		return i.setList(multi)
	}
	return bad("it has neither a length nor a list of files")
}

func (i *Info) setSingle(length, attr value) error {
	n, ok := length.integer()
	if !ok {
		return bad("its length is not a number")
	}
	if err := i.addLength(n); err != nil {
		return err
	}
	a := parseAttr(attr)
	if a.link {
		return bad("its only file is a symbolic link")
	}
	i.SingleFile = true
	i.Files = []File{{Length: n, Executable: a.executable}}
	return nil
}

// setList reads the list of files in two passes: the first checks and counts,
// so that the second allocates once, and nothing that is refused costs memory.
func (i *Info) setList(list value) error {
	files, comps := 0, 0
	for v := range list.list() {
		e, err := parseEntry(v)
		if err != nil {
			return err
		}
		if err := i.addLength(e.length); err != nil {
			return err
		}
		files++
		comps += e.comps
	}
	if files == 0 {
		return bad("its list of files is empty")
	}
	store := newNames(comps, len(list))
	i.Files = make([]File, 0, files)
	var prev []string
	var offset int64
	for v := range list.list() {
		e, _ := parseEntry(v)
		f := File{Offset: offset, Length: e.length, Pad: e.attr.pad, Executable: e.attr.executable}
		if e.path != nil {
			f.Path = store.add(e.path, prev)
			prev = f.Path
		}
		if e.target != nil {
			f.Symlink = store.add(e.target, prev)
		}
		offset += f.Length
		i.Files = append(i.Files, f)
	}
	return nil
}

// entry is one element of the list of files, checked, with its strings still
// in the input.
type entry struct {
	length int64
	path   value // nil for a pad file without a name
	target value // nil unless a symbolic link
	comps  int   // components in both
	attr   attr
}

var entryKeys = []string{"length", "path", "path.utf-8", "attr", "symlink path"}

func parseEntry(v value) (e entry, err error) {
	if !v.isDict() {
		return e, bad("its list of files holds something that is not a dictionary")
	}
	var f [5]value
	if err := v.fields(entryKeys, f[:]); err != nil {
		return e, err
	}
	e.attr = parseAttr(f[3])
	n, ok := f[0].integer()
	switch {
	case !ok && !(e.attr.link && f[0] == nil):
		return e, bad("a file's length is missing or not a number")
	case e.attr.link && n != 0:
		return e, bad("a symbolic link has content")
	}
	e.length = n
	if e.path = preferUTF8Path(f[1], f[2]); e.path != nil || !e.attr.pad {
		if e.comps, err = checkPath(e.path); err != nil {
			return e, err
		}
	}
	if e.attr.link {
		n, err := checkTarget(f[4])
		if err != nil {
			return e, err
		}
		e.target = f[4]
		e.comps += n
	}
	return e, nil
}

// checkTarget checks the target of a symbolic link. Since every component is a
// plain name, the path that it spells from the torrent's root cannot leave it.
func checkTarget(v value) (int, error) {
	n, err := checkPath(v)
	if err != nil {
		return 0, badf("a symbolic link leads out of the torrent or nowhere: %v", err)
	}
	return n, nil
}

// attr is a file's attributes (BEP 47): a string of letters, of which unknown
// ones mean nothing.
type attr struct{ pad, executable, link bool }

func parseAttr(v value) attr {
	s, _ := v.str()
	a := attr{
		pad:        bytes.IndexByte(s, 'p') >= 0,
		executable: bytes.IndexByte(s, 'x') >= 0,
		link:       bytes.IndexByte(s, 'l') >= 0,
	}
	a.link = a.link && !a.pad
	return a
}
