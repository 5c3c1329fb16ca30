package fs

import (
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"swarmfs/metainfo"
)

const (
	xattrInfohash = "user.swarmfs.infohash" // 40 hex digits
	xattrPath     = "user.swarmfs.path"     // as the torrent names it, its own name first
)

// GetXAttr is part of fuse.RawFileSystem. It is asked only with Options.XAttrs.
func (f *filesystem) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	b, n, ok := f.find(in.NodeId)
	if !ok {
		return 0, fuse.ENODATA
	}
	switch attr {
	case xattrInfohash:
		return putXAttr(dest, b.info.Hash.String())
	case xattrPath:
		path := b.info.Name
		if n != metainfo.Root {
			path += "/" + b.tree.Path(n)
		}
		return putXAttr(dest, path)
	}
	return 0, fuse.ENODATA
}

// ListXAttr is part of fuse.RawFileSystem.
func (f *filesystem) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	if _, _, ok := f.find(in.NodeId); !ok {
		return 0, fuse.OK
	}
	return putXAttr(dest, strings.Join([]string{xattrInfohash, xattrPath, ""}, "\x00"))
}

// putXAttr copies a value; listxattr(2): when it does not fit, its size is
// returned.
func putXAttr(dest []byte, value string) (uint32, fuse.Status) {
	if len(value) > len(dest) {
		return uint32(len(value)), fuse.Status(syscall.ERANGE)
	}
	return uint32(copy(dest, value)), fuse.OK
}
