package fs

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"swarmfs/metainfo"
)

// A spec is a file of a torrent made for a test. The path is below the
// torrent's name; empty for a single-file torrent.
type spec struct {
	path   string
	length int64
	attr   string   // BEP 47: "x" executable, "l" symbolic link, "p" pad
	target []string // of a link
}

// newInfo makes the info dictionary of a torrent.
func newInfo(tb testing.TB, name string, files ...spec) *metainfo.Info {
	tb.Helper()
	const pieceLength = 16 << 20
	var b bytes.Buffer
	str := func(s string) { fmt.Fprintf(&b, "%d:%s", len(s), s) }
	list := func(path []string) {
		b.WriteByte('l')
		for _, p := range path {
			str(p)
		}
		b.WriteByte('e')
	}
	var total int64
	b.WriteByte('d')
	if len(files) == 1 && files[0].path == "" {
		total = files[0].length
		fmt.Fprintf(&b, "6:lengthi%de", total)
	} else {
		b.WriteString("5:filesl")
		for _, f := range files {
			total += f.length
			b.WriteByte('d')
			if f.attr != "" {
				str("attr")
				str(f.attr)
			}
			fmt.Fprintf(&b, "6:lengthi%de4:path", f.length)
			list(strings.Split(f.path, "/"))
			if f.target != nil {
				str("symlink path")
				list(f.target)
			}
			b.WriteByte('e')
		}
		b.WriteByte('e')
	}
	str("name")
	str(name)
	fmt.Fprintf(&b, "12:piece lengthi%de", pieceLength)
	str("pieces")
	str(strings.Repeat("\x00", 20*int((total+pieceLength-1)/pieceLength)))
	b.WriteByte('e')
	info, err := metainfo.ParseInfo(b.Bytes())
	if err != nil {
		tb.Fatalf("parse info of the test torrent: %v", err)
	}
	return info
}

// A fakeTorrent serves made-up content from memory.
type fakeTorrent struct {
	info    *metainfo.Info
	created time.Time
	openErr error
	// read, if set, comes before the content is given; it may wait on ctx.
	read func(ctx context.Context, file int, off int64, n int) error

	opened  atomic.Int64 // handles that are open
	waiting atomic.Int64 // reads in read
}

func newFake(info *metainfo.Info) *fakeTorrent {
	return &fakeTorrent{info: info, created: time.Unix(1_600_000_000, 0)}
}

func (f *fakeTorrent) Info() *metainfo.Info { return f.info }
func (f *fakeTorrent) Created() time.Time   { return f.created }

func (f *fakeTorrent) Open(file int) (File, error) {
	if f.openErr != nil {
		return nil, f.openErr
	}
	f.opened.Add(1)
	return &fakeFile{f: f, file: file}, nil
}

type fakeFile struct {
	f    *fakeTorrent
	file int
	once sync.Once
}

func (x *fakeFile) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if x.f.read != nil {
		x.f.waiting.Add(1)
		err := x.f.read(ctx, x.file, off, len(p))
		x.f.waiting.Add(-1)
		if err != nil {
			return 0, err
		}
	}
	if end := x.f.info.Files[x.file].Length; off+int64(len(p)) > end {
		return 0, fmt.Errorf("asked for %d bytes at %d of %d", len(p), off, end)
	}
	fill(p, x.file, off)
	return len(p), nil
}

func (x *fakeFile) Close() error {
	x.once.Do(func() { x.f.opened.Add(-1) })
	return nil
}

// heads holds the first bytes of files, made once: making them is slow with the
// race detector.
var heads sync.Map // file number to []byte

const headSize = 5 << 20

// fill writes the content of a file from off on.
func fill(p []byte, file int, off int64) {
	if off+int64(len(p)) <= headSize {
		head, ok := heads.Load(file)
		if !ok {
			b := make([]byte, headSize)
			generate(b, file, 0)
			head, _ = heads.LoadOrStore(file, b)
		}
		copy(p, head.([]byte)[off:])
		return
	}
	generate(p, file, off)
}

// generate makes content: each 8 bytes are a mix of their place and the file's
// number.
func generate(p []byte, file int, off int64) {
	var word [8]byte
	for len(p) > 0 {
		x := uint64(off/8)*0x9e3779b97f4a7c15 + uint64(file)<<56
		x ^= x >> 29
		skip := int(off % 8)
		if skip == 0 && len(p) >= 8 {
			binary.LittleEndian.PutUint64(p, x)
			p, off = p[8:], off+8
			continue
		}
		binary.LittleEndian.PutUint64(word[:], x)
		n := copy(p, word[skip:])
		p, off = p[n:], off+int64(n)
	}
}

// content is a whole file as an io.ReaderAt.
type content struct {
	file int
	size int64
}

func (c content) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), max(0, c.size-off))
	fill(p[:n], c.file, off)
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// stall waits until the read is ended; it is what a file does whose data no
// peer has.
func stall(ctx context.Context, _ int, _ int64, _ int) error {
	<-ctx.Done()
	return context.Cause(ctx)
}
