package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFilesToImportAreFoundByPathAndSize(t *testing.T) {
	for name, tc := range map[string]struct {
		do   func(dir string) error // dir is the torrent's folder, of a of 40000 and d/b of 20000 bytes
		want [2]string              // below its parent; "": none
	}{
		"complete":        {func(string) error { return nil }, [2]string{"folder/a", "folder/d/b"}},
		"another size":    {func(dir string) error { return os.Truncate(dir+"/a", 39999) }, [2]string{"", "folder/d/b"}},
		"longer":          {func(dir string) error { return os.Truncate(dir+"/d/b", 20001) }, [2]string{"folder/a", ""}},
		"qBittorrent's":   {func(dir string) error { return os.Rename(dir+"/a", dir+"/a.!qB") }, [2]string{"folder/a.!qB", "folder/d/b"}},
		"Transmission's":  {func(dir string) error { return os.Rename(dir+"/a", dir+"/a.part") }, [2]string{"folder/a.part", "folder/d/b"}},
		"aria2's file":    {func(dir string) error { return truncateBeside(dir+"/a", dir+"/a.aria2") }, [2]string{"folder/a", "folder/d/b"}},
		"aria2's folder":  {func(dir string) error { return truncateBeside(dir+"/a", dir+".aria2") }, [2]string{"folder/a", "folder/d/b"}},
		"a part too long": {func(dir string) error { return truncateRename(dir+"/a", dir+"/a.part", 40001) }, [2]string{"", "folder/d/b"}},
		"a link":          {func(dir string) error { return linkAway(dir+"/a", dir+"/elsewhere") }, [2]string{"folder/a", "folder/d/b"}},
		"into the mount":  {func(dir string) error { return linkAway(dir+"/a", filepath.Dir(dir)+"/mnt/a") }, [2]string{"", "folder/d/b"}},
		"a folder":        {func(dir string) error { return os.Rename(dir+"/d", dir+"/e") }, [2]string{"folder/a", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, info := makeFolder(t)
			parent := filepath.Dir(dir)
			mnt := filepath.Join(parent, "mnt")
			if err := os.Mkdir(mnt, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := tc.do(dir); err != nil {
				t.Fatal(err)
			}
			for _, from := range []string{parent, dir} { // where the torrent's folder is, and that folder
				if from == dir && name == "aria2's folder" {
					continue // beside it is not looked
				}
				f := &importFinder{dirs: []string{t.TempDir(), from}, mount: mnt}
				extents := f.extents(info)
				i := 0
				for n, file := range info.Files {
					if file.Length == 0 {
						continue
					}
					want := tc.want[i]
					if want != "" {
						want = filepath.Join(parent, want)
					}
					if e := extents[n]; e.Path != want || e.Offset != file.Offset || e.Length != file.Length || e.Zero {
						t.Errorf("%v from %s: got %+v, want %q", file.Path, from, e, want)
					}
					i++
				}
			}
		})
	}
}

func truncateBeside(path, control string) error {
	if err := os.Truncate(path, 1000); err != nil {
		return err
	}
	return os.WriteFile(control, nil, 0o600)
}

func truncateRename(path, to string, size int64) error {
	if err := os.Truncate(path, size); err != nil {
		return err
	}
	return os.Rename(path, to)
}

func linkAway(path, to string) error {
	if err := os.Rename(path, to); err != nil {
		return err
	}
	return os.Symlink(to, path)
}
