package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"runtime/debug"

	"github.com/dgraph-io/badger/v4"
)

// Reading the database. Its index says in which log file a value is and where;
// the bytes come from the file. An error of the disk is an error then, and not
// the end of the process, a wait for the disk holds no thread of the scheduler,
// and large reads are large ones for the kernel too.

// errStale is a value that is not what its key promises: it was collected
// under the reader, or cut by a power failure.
var errStale = errors.New("stored piece is incomplete")

func (b *badgerDisk) read(k pieceKey, p []byte, off int) error {
	err := b.tryRead(k, p, off)
	if err != nil { // collected under us: the key points elsewhere now
		err = b.tryRead(k, p, off)
	}
	return err
}

func (b *badgerDisk) tryRead(k pieceKey, p []byte, off int) (err error) {
	defer guard(&err)()
	txn := b.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	var r run
	for len(p) > 0 {
		item, size, err := k.chunkAt(txn, off)
		if err != nil {
			return err
		}
		in := off % k.chunk
		n := min(len(p), size-in)
		if size < inlineBelow {
			err = inlineValue(item, size, p[:n], in)
		} else {
			err = b.readValue(&r, item, size, p[:n], in)
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return b.readRun(&r)
}

// chunkAt looks up the chunk of an offset, and says how large it must be.
func (k pieceKey) chunkAt(txn *badger.Txn, off int) (*badger.Item, int, error) {
	chunk := off / k.chunk
	key := binary.BigEndian.AppendUint16(piecePrefix(k.id, k.piece), uint16(chunk))
	item, err := txn.Get(key)
	return item, min(k.chunk, k.size-chunk*k.chunk), err
}

// inlineValue copies from a value that lies beside its key.
func inlineValue(item *badger.Item, size int, p []byte, off int) error {
	return item.Value(func(v []byte) error {
		if len(v) != size {
			return errStale
		}
		copy(p, v[off:])
		return nil
	})
}

// A run is what is read by one system call: parts of values that lie in a file
// one after the other, and what is between them.
type run struct {
	file     uint32
	off, end int64
	bufs     [][]byte
	gap      [maxGap]byte // nobody looks at it
}

const (
	// maxGap is how far apart values may lie in a run, in bytes. The checksum of
	// one and the head of the next take less than 60.
	maxGap = 64
	// maxRun bounds the buffers of a run. The kernel takes 1024.
	maxRun = 512
)

// readValue has a part of a value read with the run, or with the next one.
func (b *badgerDisk) readValue(r *run, item *badger.Item, size int, p []byte, off int) error {
	at, err := placeOf(item, size)
	if err != nil {
		return err
	}
	from := at.off + int64(off)
	if gap := from - r.end; len(r.bufs) > 0 && at.file == r.file && 0 <= gap && gap <= maxGap && len(r.bufs) < maxRun {
		r.bufs = append(r.bufs, r.gap[:gap])
	} else {
		if err := b.readRun(r); err != nil {
			return err
		}
		r.file, r.off, r.bufs = at.file, from, r.bufs[:0]
	}
	r.bufs = append(r.bufs, p)
	r.end = from + int64(len(p))
	return nil
}

func (b *badgerDisk) readRun(r *run) error {
	if len(r.bufs) == 0 {
		return nil
	}
	return b.logs.readAt(logPath(b.dir, r.file), r.off, r.bufs...)
}

// ahead lets the kernel read the first bytes of a piece, unless it lies behind the
// one before, where the kernel looks by itself.
func (b *badgerDisk) ahead(k pieceKey, bytes int) {
	var err error // nobody depends on it
	defer guard(&err)()
	txn := b.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	before := k
	before.piece--
	end, ok := b.lookup(txn, before, (k.size-1)/k.chunk*k.chunk)
	first, ok2 := b.lookup(txn, k, 0)
	if gap := first.off - end.off - end.len; !ok || !ok2 || first.file == end.file && 0 <= gap && gap <= maxGap {
		return
	}
	last, ok := b.lookup(txn, k, min(bytes, k.size)-1)
	if ok && last.file == first.file && last.off > first.off {
		b.logs.willNeed(logPath(b.dir, first.file), first.off, last.off+last.len-first.off)
	}
}

// lookup returns where the chunk of an offset lies.
func (b *badgerDisk) lookup(txn *badger.Txn, k pieceKey, off int) (place, bool) {
	item, size, err := k.chunkAt(txn, off)
	if err != nil || size < inlineBelow {
		return place{}, false
	}
	at, err := placeOf(item, size)
	return at, err == nil
}

// place is where a value lies, without what is around it.
type place struct {
	file     uint32
	off, len int64 // bytes
}

// Badger keeps this for itself. That it is there, and means what we think, is
// tested; the sizes are compared at each use.
var pointerField = func() []int {
	f, ok := reflect.TypeFor[badger.Item]().FieldByName("vptr")
	if !ok || f.Type != reflect.TypeFor[[]byte]() {
		panic("cache: this version of Badger has no value pointers")
	}
	return f.Index
}()

// placeOf returns where the value of a size lies. In a log an entry is two bytes
// of flags, the lengths of key and value and the expiry as varints, the key with
// its version, the value, and its checksum.
func placeOf(item *badger.Item, size int) (place, error) {
	pointer := reflect.ValueOf(item).Elem().FieldByIndex(pointerField).Bytes()
	if len(pointer) != 12 {
		return place{}, errStale
	}
	file := binary.NativeEndian.Uint32(pointer)
	length := int64(binary.NativeEndian.Uint32(pointer[4:]))
	off := int64(binary.NativeEndian.Uint32(pointer[8:]))
	var varint [binary.MaxVarintLen64]byte
	head := int64(2 + 1 + binary.PutUvarint(varint[:], uint64(size)) + 1 + keySize + 8)
	if length != head+int64(size)+4 {
		return place{}, errStale
	}
	return place{file: file, off: off + head, len: int64(size)}, nil
}

func logPath(dir string, file uint32) string {
	return filepath.Join(dir, fmt.Sprintf("%06d.vlog", file))
}

// guard turns a panic into an error. The index is memory maps too, and Badger
// panics on some damage. It is to be deferred twice over: defer guard(&err)().
func guard(err *error) func() {
	before := debug.SetPanicOnFault(true) // of this goroutine
	return func() {
		debug.SetPanicOnFault(before)
		if r := recover(); r != nil {
			*err = fmt.Errorf("badger panicked: %v", r)
		}
	}
}
