package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2/z"
)

// checkTables reads all tables of a database, which hold its keys, and compares
// their checksums. Badger does that too when it opens them, if asked to, but in
// goroutines of its own and after it believed some of the figures in them: a flipped
// bit there is a panic that nobody can recover, at every start. It takes a few
// milliseconds for each million keys. What it panics with is for its caller.
func checkTables(o badger.Options) error {
	f, err := os.Open(filepath.Join(o.Dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		return nil // a new database
	}
	if err != nil {
		return err
	}
	defer f.Close()
	// What is not in the manifest was not finished, and Badger removes it.
	m, _, err := badger.ReplayManifestFile(f, 0, o)
	if err != nil {
		return err
	}
	for id := range m.Tables {
		if err := checkTable(table.NewFilename(id, o.Dir)); err != nil {
			return fmt.Errorf("check table %d: %w", id, err)
		}
	}
	return nil
}

func checkTable(name string) error {
	file, err := z.OpenMmapFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	t, err := table.OpenTable(file, table.Options{ReadOnly: true, ChkMode: options.OnTableAndBlockRead})
	if err != nil {
		return err
	}
	return errors.Join(t.VerifyChecksum(), t.Close(-1)) // -1: not to be cut
}

// Badger counts in a file, DISCARD, how many bytes of each log are garbage: 16 bytes
// a log, its number and the count, by number, up to a number of 0. It believes them:
// of a log that is not there it looks for the entry for ever, and a count beyond the
// log's size keeps all others from being collected.
const (
	discardName  = "DISCARD"
	discardEntry = 16
	discardSize  = 1 << 20 // of the file, at least
)

// mendDiscards removes from the counts what cannot be right. The garbage that is
// not known of then stays until more of that log is dropped.
func mendDiscards(dir string) error {
	name := filepath.Join(dir, discardName)
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	good := make([]byte, max(len(text), discardSize))
	n, last := 0, uint64(0)
	for at := 0; at+discardEntry <= len(text); at += discardEntry {
		entry := text[at : at+discardEntry]
		log, garbage := binary.BigEndian.Uint64(entry), binary.BigEndian.Uint64(entry[8:])
		if log <= last || log > math.MaxUint32 {
			continue
		}
		fi, err := os.Stat(logPath(dir, uint32(log)))
		if err != nil || garbage > uint64(fi.Size()) {
			continue
		}
		n += copy(good[n:], entry)
		last = log
	}
	if bytes.Equal(good, text) {
		return nil
	}
	return os.WriteFile(name, good, 0o600)
}
