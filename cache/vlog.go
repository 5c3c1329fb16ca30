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
	defer b.guard(&err)()
	txn := b.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	for len(p) > 0 {
		item, size, err := k.chunkAt(txn, off)
		if err != nil {
			return err
		}
		in := off % k.chunk
		n := min(len(p), size-in)
		if err := b.readValue(item, size, p[:n], in); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// chunkAt looks up the chunk of an offset, and says how large it must be.
func (k pieceKey) chunkAt(txn *badger.Txn, off int) (*badger.Item, int, error) {
	chunk := off / k.chunk
	key := binary.BigEndian.AppendUint16(piecePrefix(k.id, k.piece), uint16(chunk))
	item, err := txn.Get(key)
	return item, min(k.chunk, k.size-chunk*k.chunk), err
}

// readValue copies from a value of a size, from off on.
func (b *badgerDisk) readValue(item *badger.Item, size int, p []byte, off int) error {
	if size < inlineBelow {
		return item.Value(func(v []byte) error {
			if len(v) != size {
				return errStale
			}
			copy(p, v[off:])
			return nil
		})
	}
	at, err := placeOf(item, size)
	if err != nil {
		return err
	}
	return b.logs.readAt(b.logPath(at.file), p, at.off+int64(off))
}

// ahead lets the kernel read the first bytes of a piece.
func (b *badgerDisk) ahead(k pieceKey, bytes int) {
	var err error // nobody depends on it
	defer b.guard(&err)()
	txn := b.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	var run place // chunks that lie one after the other
	flush := func() {
		if run.len > 0 {
			b.logs.willNeed(b.logPath(run.file), run.off, run.len)
		}
	}
	for off := 0; off < min(bytes, k.size); off += k.chunk {
		item, size, err := k.chunkAt(txn, off)
		if err != nil || size < inlineBelow {
			break
		}
		at, err := placeOf(item, size)
		if err != nil {
			break
		}
		if gap := at.off - run.off - run.len; at.file == run.file && gap >= 0 && gap < pageSize {
			run.len += gap + at.len
			continue
		}
		flush()
		run = at
	}
	flush()
}

// pageSize is small beside a chunk: a gap of it is read along.
const pageSize = 4 << 10

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

func (b *badgerDisk) logPath(file uint32) string {
	return filepath.Join(b.dir, fmt.Sprintf("%06d.vlog", file))
}

// guard turns a panic into an error. The index is memory maps too, and Badger
// panics on some damage. It is to be deferred twice over: defer guard(&err)().
func (b *badgerDisk) guard(err *error) func() {
	before := debug.SetPanicOnFault(true) // of this goroutine
	return func() {
		debug.SetPanicOnFault(before)
		if r := recover(); r != nil {
			*err = fmt.Errorf("badger panicked: %v", r)
		}
	}
}
