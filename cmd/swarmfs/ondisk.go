package main

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"strings"

	"swarmfs/cache"
	"swarmfs/metainfo"
)

// onDisk returns where the files of a torrent are, in the order of Info.Files:
// "" for what has no file, such as padding. PATH is what the torrent was made
// from, or the folder that holds it. A file that is not there still has its
// path: it counts as missing, not as an error.
func onDisk(info *metainfo.Info, path string) ([]string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, failf(exitInput, "%s: %w: give what the torrent was made from, or its folder", path, cause(err))
	}
	switch {
	case info.SingleFile && !st.IsDir():
		return []string{path}, nil
	case info.SingleFile:
		return []string{filepath.Join(path, info.Name)}, nil
	case !st.IsDir():
		return nil, failf(exitInput, "%s: %w: the torrent is a folder", path, errors.New("not a directory"))
	}
	best, bestHere := filesBelow(info, path)
	if inner, here := filesBelow(info, filepath.Join(path, info.Name)); here > bestHere {
		best = inner
	}
	return best, nil
}

// filesBelow returns the paths of a torrent's files below root, and how many of
// them are there.
func filesBelow(info *metainfo.Info, root string) (paths []string, here int) {
	paths = make([]string, len(info.Files))
	tree := info.Tree()
	for n := range metainfo.Node(tree.Len()) {
		if tree.IsDir(n) || tree.IsSymlink(n) {
			continue
		}
		i := tree.File(n)
		paths[i] = filepath.Join(root, filepath.FromSlash(tree.Path(n)))
		if exists(paths[i]) {
			here++
			continue
		}
		// The name that is shown may differ from the one that was recorded.
		recorded := filepath.Join(info.Files[i].Path...)
		if filepath.IsLocal(recorded) && exists(filepath.Join(root, recorded)) {
			paths[i] = filepath.Join(root, recorded)
			here++
		}
	}
	return paths, here
}

func exists(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// diskFiles are the files of a torrent on disk.
type diskFiles struct {
	*cache.Files
	// missing are those that are not there, or too short.
	missing []string
	// absent are the pieces that need one of the missing; bit i%64 of word
	// i/64 is piece i.
	absent []uint64
}

// allAbsent reports whether no piece can be there.
func (d *diskFiles) allAbsent(pieces int) bool {
	n := 0
	for _, w := range d.absent {
		n += bits.OnesCount64(w)
	}
	return n == pieces
}

// openOnDisk makes a volume of the files at path. What of it is good only
// Verify tells.
func openOnDisk(info *metainfo.Info, path string) (*diskFiles, error) {
	paths, err := onDisk(info, path)
	if err != nil {
		return nil, err
	}
	layout := info.Layout()
	d := &diskFiles{absent: make([]uint64, (layout.NumPieces()+63)/64)}
	extents := make([]cache.Extent, len(paths))
	for i, p := range paths {
		f := &info.Files[i]
		extents[i] = cache.Extent{Path: p, Offset: f.Offset, Length: f.Length, Zero: p == ""}
		if p == "" || longEnough(p, f.Length) {
			continue
		}
		d.missing = append(d.missing, p)
		first, end := layout.Pieces(f.Offset, f.Length)
		for piece := first; piece < end; piece++ {
			d.absent[piece/64] |= 1 << (piece % 64)
		}
	}
	d.Files, err = cache.OpenFiles(extents, geometry(info))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return d, nil
}

func longEnough(path string, length int64) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Size() >= length
}

// geometry is how a torrent is cut, as cache takes it.
func geometry(info *metainfo.Info) cache.Geometry {
	return cache.Geometry{PieceLength: info.PieceLength, Length: info.Length, Sums: info.PieceSums()}
}

// heldText is "3 of 10 pieces".
func heldText(held, all int) string { return fmt.Sprintf("%d of %s", held, plural(all, "piece")) }

// someOf names the first few of many.
func someOf(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}
