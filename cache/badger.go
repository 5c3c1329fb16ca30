package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// This is the only file that knows Badger. What it must keep to (measured with
// v4.9.6, and read in its source):
//   - A full disk kills the process, since values are written through sparse
//     memory maps: the caller looks at the free space first.
//   - Delete never gives space back for large values; DropPrefix does. But a
//     table of keys that all have one of the prefixes is dropped without counting
//     what its values take in the log files, which are never collected then. So
//     there are as few tables as can be, with a key at both ends that stays.
//   - A value that was collected under a reader is empty, with no error.
//   - The values of one transaction must fit one log file.
//   - Values are memory maps: what the disk refuses to read is a fault, which
//     ends the process, and each page costs a wait that holds a thread. So
//     values are read from the log files, and only their place is asked for.

// keySize: 'p', volume (20), piece (4), chunk (2).
const keySize = 1 + 20 + 4 + 2

// tableBytes is the size of a table, in bytes: one holds the keys of 30 GiB in
// chunks of 256 KiB. A builder of tables takes twice as much memory.
const tableBytes = 8 << 20

// txnBytes is how much goes into one transaction, in bytes, when pieces are
// smaller. Larger pieces have one of their own.
const txnBytes = 1 << 20

// inlineBelow is the size of a value, in bytes, from which on it lies in a log
// file, and not beside its key. Only the last piece of a volume can be smaller.
const inlineBelow = 1 << 10

// disk is the piece database. Tests wrap its functions to let them fail.
// write, drop, collect and clear are called by the writer, but collect also beside
// a write.
type disk struct {
	// scan returns the pieces there are, complete or not, in no order.
	scan func() ([]foundPiece, error)
	// write stores records; they can be read when it returns.
	write func(recs []record) error
	// read copies len(p) bytes of a piece from off on. p ends in the piece.
	read func(k pieceKey, p []byte, off int) error
	// ahead lets the kernel begin to read the first bytes of a piece.
	ahead func(k pieceKey, bytes int)
	// drop removes everything whose key has one of the prefixes.
	drop func(prefixes [][]byte) error
	// collect gives the space of dropped records back, that of one log file
	// of which at least this part is dropped; false when there is none.
	collect func(ratio float64) (bool, error)
	// clear removes everything, and gives all space back.
	clear func() error
	// sync waits until what was written is safe from a power cut.
	sync func() error
	// unsynced returns why a sync failed that was made beside, since it was last
	// asked.
	unsynced func() error
	close    func() error
}

// pieceKey names a piece and says how it is cut.
type pieceKey struct {
	id    [20]byte
	piece uint32
	size  int // bytes of the piece
	chunk int // bytes of a chunk
}

// record is a piece to be stored. The chunks are not kept.
type record struct {
	key    pieceKey
	chunks [][]byte
}

type foundPiece struct {
	id      [20]byte
	piece   uint32
	version uint64 // the order of writing
	diskPiece
}

type badgerDisk struct {
	db     *badger.DB
	dir    string
	maxTxn int     // bytes of values
	logs   fdCache // for reading

	// Owned by the writer.
	version uint64 // of the last transaction
	syncer  *syncer
}

func openBadger(dir string, logFile int64, log *slog.Logger) (d *disk, err error) {
	defer guard(&err)()
	o := badger.DefaultOptions(dir).
		WithValueThreshold(inlineBelow).
		WithMemTableSize(2 << 20).WithNumMemtables(2). // only keys land there
		WithBaseTableSize(tableBytes).
		WithNumLevelZeroTables(2).WithNumLevelZeroTablesStall(4).WithNumCompactors(2).
		WithCompression(options.None).WithBlockCacheSize(0).WithIndexCacheSize(0).
		WithValueLogFileSize(logFile).
		WithChecksumVerificationMode(options.OnBlockRead).
		WithDetectConflicts(false).WithMetricsEnabled(false).WithSyncWrites(false).
		WithLogger(badgerLog{log})
	if err := removeEmptyLogs(dir); err != nil {
		return nil, err
	}
	if err := mendDiscards(dir); err != nil {
		return nil, err
	}
	if err := checkTables(o); err != nil {
		return nil, err
	}
	// Managed: versions are ours, so a reader need not wait for the commit
	// under way, which may be in the middle of a sync.
	db, err := badger.OpenManaged(o)
	if err != nil {
		return nil, err
	}
	b := &badgerDisk{
		db: db, dir: dir, version: db.MaxVersion(),
		maxTxn: int(logFile / 2),
	}
	if err := b.fence(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	b.logs.open = make(map[string]*fd)
	b.syncer = startSyncer(db.Sync, func() { recycle(dir) }, min(syncBytes, logFile/8))
	return &disk{
		scan: b.scan, write: b.write, read: b.read, ahead: b.ahead, drop: b.drop,
		collect: b.collect, clear: b.clear, sync: db.Sync, unsynced: b.syncer.failed, close: b.close,
	}, nil
}

// removeEmptyLogs removes logs without a byte. Badger deletes a log by cutting
// it to nothing first, and makes one empty first; killed in between, it refuses
// to open with the error "Create a new file". What such a log held has been
// copied elsewhere before.
func removeEmptyLogs(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".vlog" && ext != ".mem" {
			continue
		}
		fi, err := e.Info()
		if err == nil && fi.Mode().IsRegular() && fi.Size() == 0 {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *badgerDisk) scan() ([]foundPiece, error) {
	txn := b.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{'p'}})
	defer it.Close()
	var found []foundPiece
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		key := item.Key()
		if len(key) != keySize {
			continue
		}
		id, piece := [20]byte(key[1:21]), binary.BigEndian.Uint32(key[21:25])
		n := len(found) - 1
		if n < 0 || found[n].piece != piece || found[n].id != id {
			found = append(found, foundPiece{id: id, piece: piece})
			n++
		}
		found[n].version = max(found[n].version, item.Version())
		found[n].chunks++
		found[n].bytes += uint32(valueSize(item))
	}
	return found, nil
}

// valueSize returns the length of a value without reading it. Badger's own
// figure counts the length field as two bytes; it takes three from 16 KiB on.
func valueSize(item *badger.Item) int64 {
	n := item.ValueSize()
	if n > 16<<10 {
		n--
	}
	return n
}

func (b *badgerDisk) write(recs []record) error {
	var entries []*badger.Entry
	var commits []*commit
	size := 0
	cut := func() {
		if len(entries) > 0 {
			commits = append(commits, b.commit(entries))
			crashpoint("transaction")
			entries, size = nil, 0
		}
	}
	for _, r := range recs {
		if size+r.key.size > txnBytes {
			cut()
		}
		prefix := piecePrefix(r.key.id, r.key.piece)
		for i, c := range r.chunks {
			if size+len(c) > b.maxTxn {
				cut() // a piece in several transactions counts when all are there
			}
			key := binary.BigEndian.AppendUint16(prefix[:len(prefix):len(prefix)], uint16(i))
			entries = append(entries, &badger.Entry{Key: key, Value: c})
			size += len(c)
		}
	}
	cut()
	var err error
	for _, c := range commits {
		err = errors.Join(err, b.wait(c))
	}
	var bytes int64
	for _, r := range recs {
		bytes += int64(r.key.size)
	}
	b.syncer.wrote(bytes)
	return err
}

// commit is a transaction under way.
type commit struct {
	keys, values [][]byte
	done         chan error
}

// commit starts a transaction. Several under way are written in one go.
func (b *badgerDisk) commit(entries []*badger.Entry) *commit {
	c := &commit{done: make(chan error, 1)}
	for _, e := range entries {
		c.keys, c.values = append(c.keys, e.Key), append(c.values, e.Value)
	}
	b.send(c)
	return c
}

func (b *badgerDisk) send(c *commit) {
	txn := b.db.NewTransactionAt(math.MaxUint64, true)
	defer txn.Discard()
	for i := range c.keys {
		if err := txn.SetEntry(&badger.Entry{Key: c.keys[i], Value: c.values[i]}); err != nil {
			c.done <- err
			return
		}
	}
	b.version++
	if err := txn.CommitAt(b.version, func(err error) { c.done <- err }); err != nil {
		c.done <- err
	}
}

func (b *badgerDisk) wait(c *commit) error {
	for range 1000 { // 2 s: a drop takes 12–150 ms
		err := <-c.done
		if !errors.Is(err, badger.ErrBlockedWrites) || b.db.IsClosed() {
			return err
		}
		time.Sleep(2 * time.Millisecond)
		b.send(c)
	}
	return <-c.done
}

// fence makes sure that there are keys before and behind those of all pieces.
func (b *badgerDisk) fence() error {
	txn := b.db.NewTransactionAt(math.MaxUint64, true)
	defer txn.Discard()
	for _, key := range []string{"a", "z"} {
		if _, err := txn.Get([]byte(key)); err == nil {
			continue
		}
		if err := txn.Set([]byte(key), []byte(key)); err != nil {
			return err
		}
	}
	b.version++
	return txn.CommitAt(b.version, nil)
}

func (b *badgerDisk) clear() error {
	if err := b.db.DropAll(); err != nil {
		return err
	}
	b.logs.forget() // Badger numbers them from 1 again
	return b.fence()
}

func (b *badgerDisk) drop(prefixes [][]byte) error {
	return b.db.DropPrefix(prefixes...)
}

func (b *badgerDisk) collect(ratio float64) (bool, error) {
	switch err := b.db.RunValueLogGC(ratio); {
	case err == nil:
		return true, nil
	case errors.Is(err, badger.ErrNoRewrite), errors.Is(err, badger.ErrRejected):
		return false, nil
	default:
		return false, err
	}
}

func (b *badgerDisk) close() error {
	b.syncer.stop()
	return errors.Join(b.logs.close(), b.db.Close())
}

// badgerLog passes Badger's warnings on, as details: what matters of them is
// told by the error that its caller gets.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(f string, a ...any)   { l.say(f, a...) }
func (l badgerLog) Warningf(f string, a ...any) { l.say(f, a...) }
func (l badgerLog) Infof(string, ...any)        {}
func (l badgerLog) Debugf(string, ...any)       {}

func (l badgerLog) say(f string, a ...any) {
	text := strings.TrimSpace(fmt.Sprintf(f, a...))
	l.log.Debug("badger", "says", text[:min(len(text), 300)])
}

// syncer makes what was written safe from a power cut: every few seconds, and
// after so many bytes, beside the writer. At the end of a log file Badger syncs
// all of it that is not on the disk yet, and the writer waits; with memory for a
// fifth of a second of a fast network, so did the peers: 0.5 s for each 512 MiB,
// a quarter of the time of a copy. The bytes are written once in either case.
type syncer struct {
	sync func() error
	// synced is called after a sync that was due for so many bytes, if none has failed.
	// What comes slowly keeps its memory, for uploads and other readers.
	synced func()
	dirty  atomic.Int64  // bytes written since the last sync began
	bytes  int64         // a sync is due after so many
	due    chan struct{} // 1 deep: there are so many
	wrong  chan error    // 1 deep: why one failed
	quit   chan struct{}
	done   sync.WaitGroup
}

const (
	syncPeriod = 5 * time.Second
	// From 16 to 64 MiB a copy takes the same time, with 128 MiB a tenth more. Of
	// small log files it is less: an eighth of one of 64 MiB saved a tenth.
	syncBytes = 32 << 20
)

func startSyncer(sync func() error, synced func(), bytes int64) *syncer {
	y := &syncer{sync: sync, synced: synced, bytes: bytes, due: make(chan struct{}, 1), wrong: make(chan error, 1), quit: make(chan struct{})}
	y.done.Go(y.run)
	return y
}

// wrote counts what the writer has written. It never waits.
func (y *syncer) wrote(bytes int64) {
	if y.dirty.Add(bytes) < y.bytes {
		return
	}
	select {
	case y.due <- struct{}{}:
	default:
	}
}

func (y *syncer) run() {
	tick := time.NewTicker(syncPeriod)
	defer tick.Stop()
	failed := false
	for {
		fast := false
		select {
		case <-tick.C:
		case <-y.due:
			fast = true
		case <-y.quit:
			return
		}
		if y.dirty.Swap(0) == 0 {
			continue
		}
		if err := y.sync(); err != nil {
			// What the disk refused is in memory only, and stays there: the kernel
			// takes it for written from then on.
			failed = true
			select {
			case y.wrong <- err:
			default: // one is enough
			}
		}
		if fast && !failed {
			y.synced()
		}
	}
}

// failed returns why a sync failed since it was last called; nil if none did.
func (y *syncer) failed() error {
	select {
	case err := <-y.wrong:
		return err
	default:
		return nil
	}
}

func (y *syncer) stop() {
	close(y.quit)
	y.done.Wait()
}
