package fs

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"swarmfs/metainfo"
)

// checkName refuses what cannot be a name in a directory.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("%q cannot be the name of a file", name)
	case len(name) > maxName:
		return fmt.Errorf("name %.20q… is longer than %d bytes", name, maxName)
	}
	return nil
}

// add puts a branch into the root.
func (f *filesystem) add(b *branch, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, other := range f.branches {
		if other.info.Hash == b.info.Hash {
			return ErrExists
		}
	}
	if b.prefix = f.freePrefix(b.info.Hash); b.prefix == 0 {
		return errors.New("its infohash collides with that of other torrents")
	}
	var ok bool
	if b.name, ok = f.freeName(name, b.info.Hash.String(), b.tree.IsDir(metainfo.Root)); !ok {
		return errors.New("all names for it are taken")
	}
	f.position++
	b.position = f.position
	f.branches[b.prefix] = b
	f.names[b.name] = b
	f.listed = append(f.listed, b)
	f.bytes += b.size()
	f.files += uint64(b.tree.Len())
	return nil
}

// freePrefix returns the first of the four 39-bit numbers in an infohash that
// is free, 0 if none is: a torrent can be made to collide with another one.
func (f *filesystem) freePrefix(h metainfo.Hash) uint64 {
	for i := 0; i+5 <= len(h); i += 5 {
		var p uint64
		for _, c := range h[i : i+5] {
			p = p<<8 | uint64(c)
		}
		p &= 1<<prefixBits - 1
		if _, taken := f.branches[p]; !taken && p != 0 {
			return p
		}
	}
	return 0
}

// freeName returns name, or name with as many digits of the infohash as needed
// to be unique.
func (f *filesystem) freeName(name, hash string, dir bool) (string, bool) {
	for _, digits := range []int{0, 8, 16, len(hash)} {
		candidate := name
		if digits > 0 {
			candidate = suffixed(name, " ["+hash[:digits]+"]", dir)
		}
		if _, taken := f.names[candidate]; !taken && candidate != controlName {
			return candidate, true
		}
	}
	return "", false
}

// suffixed puts a suffix at the end of a name, before the extension of a file,
// and shortens the name as needed.
func suffixed(name, suffix string, dir bool) string {
	ext := ""
	if !dir {
		if ext = path.Ext(name); len(ext) > 16 || ext == name {
			ext = ""
		}
	}
	stem := strings.TrimSuffix(name, ext)
	if room := maxName - len(suffix) - len(ext); len(stem) > room {
		stem = stem[:room]
		for len(stem) > 0 && !utf8.ValidString(stem[max(0, len(stem)-utf8.UTFMax):]) && !utf8.RuneStart(stem[len(stem)-1]) {
			stem = stem[:len(stem)-1]
		}
	}
	return stem + suffix + ext
}

// remove takes a name out of the root; it reports whether it was there.
func (f *filesystem) remove(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.names[name]
	if b == nil {
		return false
	}
	delete(f.names, name)
	delete(f.branches, b.prefix)
	f.listed = slices.DeleteFunc(f.listed, func(x *branch) bool { return x == b })
	f.bytes -= b.size()
	f.files -= uint64(b.tree.Len())
	return true
}

// size is the sum of the files that are shown.
func (b *branch) size() (sum uint64) {
	for i := range b.info.Files {
		if f := &b.info.Files[i]; !f.Pad {
			sum += uint64(f.Length)
		}
	}
	return sum
}
