package metainfo

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// source is what a torrent is made from: the files below a path, in order.
type source struct {
	name   string
	single bool
	length int64
	files  []sourceFile
}

type sourceFile struct {
	disk       string   // where to read it
	path       []string // below the torrent's name
	target     []string // of a symbolic link, from the torrent's root
	offset     int64
	length     int64
	executable bool
}

// openSource lists what is at path, without reading it.
func openSource(ctx context.Context, path, name string) (*source, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", opCreate, err)
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", opCreate, err)
	}
	if name == "" {
		name = filepath.Base(path)
	}
	if err := checkName([]byte(name)); err != nil {
		return nil, inputError(opCreate, err)
	}
	s := &source{name: name, single: !st.IsDir()}
	if s.single {
		err = s.add(path, nil, st)
	} else {
		err = s.walk(ctx, path)
	}
	if err != nil {
		return nil, err
	}
	if s.length == 0 {
		return nil, &InputError{opCreate, fmt.Sprintf("%s has no content to hash", quote(path))}
	}
	return s, nil
}

// walk adds what is below a folder, sorted by names.
func (s *source) walk(ctx context.Context, root string) error {
	// The path may itself be a link to the folder, which WalkDir would not enter.
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return fmt.Errorf("%s: %w", opCreate, err)
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", opCreate, err)
		}
		if d.IsDir() {
			return nil
		}
		below, err := filepath.Rel(root, path)
		if err != nil {
			return fmt.Errorf("%s: %w", opCreate, err)
		}
		names := strings.Split(below, "/")
		if d.Type()&fs.ModeSymlink != 0 {
			return s.addLink(root, path, names)
		}
		st, err := d.Info()
		if err != nil {
			return fmt.Errorf("%s: %w", opCreate, err)
		}
		return s.add(path, names, st)
	})
}

func (s *source) add(disk string, names []string, st fs.FileInfo) error {
	if !st.Mode().IsRegular() {
		return &InputError{opCreate, fmt.Sprintf("%s is neither a file nor a folder", quote(disk))}
	}
	s.files = append(s.files, sourceFile{
		disk: disk, path: names, offset: s.length, length: st.Size(), executable: st.Mode()&0o100 != 0,
	})
	s.length += st.Size()
	return nil
}

// addLink adds a symbolic link, whose target must lie in the folder.
func (s *source) addLink(root, path string, names []string) error {
	target, err := os.Readlink(path)
	if err != nil {
		return fmt.Errorf("%s: %w", opCreate, err)
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(path), target)
	}
	below, err := filepath.Rel(root, target)
	if err != nil || !filepath.IsLocal(below) || below == "." {
		return &InputError{opCreate, fmt.Sprintf("%s is a symbolic link that leaves the folder: "+
			"replace it by what it points to, or remove it", quote(path))}
	}
	s.files = append(s.files, sourceFile{
		path: names, target: strings.Split(below, "/"), offset: s.length,
	})
	return nil
}

// hash returns the SHA-1 of every piece. Each worker takes the next piece and
// streams it through a small buffer, so memory does not depend on the length
// of a piece.
func (s *source) hash(ctx context.Context, l Layout, workers int, progress func(done, total int64)) ([]byte, error) {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	n := l.NumPieces()
	sums := make([]byte, n*sha1.Size)
	var next atomic.Int64
	var mu sync.Mutex // guards done and the calls of progress
	var done int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(workers, n) {
		group.Go(func() error {
			r := sourceReader{source: s, buf: make([]byte, 256<<10)}
			defer r.close()
			h := sha1.New()
			for {
				piece := int(next.Add(1) - 1)
				if piece >= n {
					return nil
				}
				h.Reset()
				if err := r.copyTo(ctx, h, l.PieceOffset(piece), int64(l.PieceSize(piece))); err != nil {
					return err
				}
				h.Sum(sums[:piece*sha1.Size])
				mu.Lock()
				done += int64(l.PieceSize(piece))
				if progress != nil {
					progress(done, s.length)
				}
				mu.Unlock()
			}
		})
	}
	return sums, group.Wait()
}

// sourceReader reads ranges of the torrent from its files. It keeps the last
// file open, as the next range mostly goes on in it.
type sourceReader struct {
	source *source
	buf    []byte
	file   *os.File
	index  int
}

func (r *sourceReader) close() {
	if r.file != nil {
		_ = r.file.Close() // was only read
		r.file = nil
	}
}

func (r *sourceReader) copyTo(ctx context.Context, w io.Writer, off, n int64) error {
	files := r.source.files
	// The last file that starts at off or before; empty files at off come first.
	i := sort.Search(len(files), func(k int) bool { return files[k].offset > off }) - 1
	for ; n > 0; i++ {
		f := &files[i]
		from := off - f.offset
		part := min(n, f.length-from)
		if part <= 0 {
			continue
		}
		if err := r.open(i); err != nil {
			return err
		}
		for end := from + part; from < end; {
			if ctx.Err() != nil {
				return fmt.Errorf("%s: %w", opCreate, context.Cause(ctx))
			}
			b := r.buf[:min(int64(len(r.buf)), end-from)]
			got, err := r.file.ReadAt(b, from)
			if got < len(b) {
				return readError(f.disk, err)
			}
			_, _ = w.Write(b) // a hash never fails
			from += int64(got)
		}
		off += part
		n -= part
	}
	return nil
}

func (r *sourceReader) open(i int) error {
	if r.file != nil && r.index == i {
		return nil
	}
	r.close()
	f := &r.source.files[i]
	file, err := os.Open(f.disk)
	if err != nil {
		return fmt.Errorf("%s: %w", opCreate, err)
	}
	r.file, r.index = file, i
	st, err := file.Stat()
	if err != nil {
		return fmt.Errorf("%s: %w", opCreate, err)
	}
	if st.Size() != f.length {
		return readError(f.disk, io.EOF)
	}
	return nil
}

func readError(path string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return &InputError{opCreate, fmt.Sprintf("%s changed while it was read: try again when nobody writes to it", quote(path))}
	}
	return fmt.Errorf("%s: %w", opCreate, err)
}
