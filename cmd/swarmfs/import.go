package main

import (
	"os"
	"path/filepath"
	"strings"

	"swarmfs/cache"
	"swarmfs/metainfo"
)

// importFinder finds the files of torrents in the folders of --import.
type importFinder struct {
	dirs  []string // absolute
	mount string   // the mountpoint, without symbolic links: nothing in it is imported
}

// checkImports makes the folders of --import absolute.
func checkImports(dirs []string) error {
	for i, dir := range dirs {
		st, err := os.Stat(dir)
		if err == nil && !st.IsDir() {
			return failf(exitUsage, "mount: --import %s: not a directory: give a folder that holds downloads", dir)
		}
		if err != nil {
			return failf(exitUsage, "mount: --import %s: %w: give a folder that holds downloads", dir, cause(err))
		}
		if dirs[i], err = filepath.Abs(dir); err != nil {
			return failf(exitUsage, "mount: --import %s: %w", dir, err)
		}
	}
	return nil
}

// openImported lays the files that are found beneath what the cache holds of a torrent.
func (m *mounter) openImported(t *shownTorrent) error {
	info := t.torrent.Info
	v, err := m.store.Volume(info.Hash, geometry(info))
	if err != nil {
		return err
	}
	finder := &importFinder{dirs: m.flags.imports, mount: m.realDir}
	t.imported = m.imports.Open(v, t.record.Imported, func() []cache.Extent { return finder.extents(info) })
	return nil
}

// closeImported ends the use of the files.
func (t *shownTorrent) closeImported() {
	if t.imported != nil {
		t.imported.Close()
	}
}

// partialExts are what clients add to the names of files they have not completed:
// qBittorrent, Transmission.
var partialExts = [...]string{".!qB", ".part"}

// aria2Ext is what aria2 adds to the name of a download for a file beside it, which is
// there until the download is complete.
const aria2Ext = ".aria2"

// extents returns where the files of a torrent are; without a path where none is, of
// the size in the torrent, or less and known to be incomplete. They may hold anything.
func (f *importFinder) extents(info *metainfo.Info) []cache.Extent {
	extents := make([]cache.Extent, len(info.Files))
	for i := range info.Files {
		file := &info.Files[i]
		extents[i] = cache.Extent{Offset: file.Offset, Length: file.Length, Zero: file.Pad}
	}
	roots := f.roots(info)
	if len(roots) == 0 {
		return extents
	}
	tree := info.Tree()
	outside := make(map[string]bool)
	for n := range metainfo.Node(tree.Len()) {
		if tree.IsDir(n) || tree.IsSymlink(n) {
			continue
		}
		i := tree.File(n)
		if info.Files[i].Length == 0 {
			continue
		}
		names := []string{filepath.FromSlash(tree.Path(n))}
		// The name that is shown may differ from the one that was recorded.
		if recorded := filepath.Join(info.Files[i].Path...); recorded != names[0] && filepath.IsLocal(recorded) {
			names = append(names, recorded)
		}
		if info.SingleFile {
			names = []string{""}
		}
		extents[i].Path = f.file(roots, names, info.Files[i].Length, outside)
	}
	return extents
}

// roots returns what may be the torrent's folder, or its file without the suffix of an
// incomplete one.
func (f *importFinder) roots(info *metainfo.Info) (roots []string) {
	if !filepath.IsLocal(info.Name) {
		return nil
	}
	for _, dir := range f.dirs {
		root := filepath.Join(dir, info.Name)
		switch {
		case info.SingleFile || isDir(root):
			roots = append(roots, root)
		default: // what the torrent was made from
			roots = append(roots, dir)
		}
	}
	return roots
}

// file returns the path of a file of that length, or else of a part of it; "" if there
// is none. outside caches which folders are not in the mount.
func (f *importFinder) file(roots, names []string, length int64, outside map[string]bool) string {
	partial := ""
	for _, root := range roots {
		for _, name := range names {
			path := filepath.Join(root, name)
			size, ok := f.size(path, outside)
			if ok && size == length {
				return path
			}
			if partial == "" && ok && size < length && (exists(path+aria2Ext) || exists(root+aria2Ext)) {
				partial = path
			}
			for _, ext := range partialExts {
				if partial != "" {
					break
				}
				if size, ok := f.size(path+ext, outside); ok && size <= length {
					partial = path + ext
				}
			}
		}
	}
	return partial
}

// size returns the length of a file that may be used.
func (f *importFinder) size(path string, outside map[string]bool) (int64, bool) {
	st, err := os.Lstat(path)
	if err != nil {
		return 0, false
	}
	dir := filepath.Dir(path)
	if st.Mode().Type() == os.ModeSymlink {
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return 0, false
		}
		dir = filepath.Dir(path)
		if st, err = os.Lstat(path); err != nil {
			return 0, false
		}
	}
	ok, known := outside[dir]
	if !known {
		real, err := filepath.EvalSymlinks(dir)
		ok = err == nil && real != f.mount && !strings.HasPrefix(real, f.mount+string(filepath.Separator))
		outside[dir] = ok
	}
	return st.Size(), ok && st.Mode().IsRegular()
}
