package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// A sealed file is one line, "swarmfs-state FORMAT SUM", and a payload. SUM is
// the SHA-256 sum of the format's digits, a newline and the payload, in hex: a
// flipped bit in the format is damage, not a newer format. All formats to come
// begin with that line.

const (
	sealMagic = "swarmfs-state "
	// stateFormat is what this program writes. 1 is that without seals.
	stateFormat = 2
	// backupExt is what the second copy's name has besides.
	backupExt = ".bak"
	// tempPrefix begins the names of files that are being written.
	tempPrefix = ".new-"
)

// FormatError says that a file was written by a newer program.
type FormatError struct {
	Path   string
	Format int
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s has format %d and this program knows no format after %d", e.Path, e.Format, stateFormat)
}

var errDamaged = errors.New("file is damaged")

func seal(format int, payload []byte) []byte {
	head := sealMagic + strconv.Itoa(format) + " " + hex.EncodeToString(sealSum(format, payload)) + "\n"
	return append([]byte(head), payload...)
}

func sealSum(format int, payload []byte) []byte {
	h := sha256.New()
	fmt.Fprintln(h, format)
	h.Write(payload)
	return h.Sum(nil)
}

// unseal returns the format and the payload of a sealed file.
func unseal(data []byte) (format int, payload []byte, err error) {
	head, payload, ok := bytes.Cut(data, []byte{'\n'})
	head, magic := bytes.CutPrefix(head, []byte(sealMagic))
	digits, sum, parts := bytes.Cut(head, []byte{' '})
	if !ok || !magic || !parts {
		return 0, nil, errDamaged
	}
	if format, err = strconv.Atoi(string(digits)); err != nil || strconv.Itoa(format) != string(digits) {
		return 0, nil, errDamaged
	}
	if hex.EncodeToString(sealSum(format, payload)) != string(sum) {
		return 0, nil, errDamaged
	}
	return format, payload, nil
}

// twin is the path of a sealed file that has a second copy beside it. One copy
// at a time is replaced, and is safe before the other is touched: whatever
// happens to one of them, and whenever, the other is whole.
type twin string

func (t twin) copies() [2]string { return [2]string{string(t), string(t) + backupExt} }

// write replaces both copies.
func (t twin) write(payload []byte) error {
	data := seal(stateFormat, payload)
	if len(data) > maxStateFile {
		return fmt.Errorf("store %s: %d bytes are more than %d", t, len(data), maxStateFile)
	}
	for _, path := range t.copies() {
		if err := replaceFile(path, data); err != nil {
			return fmt.Errorf("store %s: %w", path, err)
		}
		crashpoint("file-copied")
	}
	return nil
}

// condition is what is wrong with each copy; nil: nothing.
type condition [2]error

// absent says that neither copy exists.
func (c condition) absent() bool {
	return errors.Is(c[0], os.ErrNotExist) && errors.Is(c[1], os.ErrNotExist)
}

// read returns the payload of the first good copy. The error is a *FormatError
// when a newer program wrote one of them, or says what is wrong when both are
// bad. With all it looks at the second copy too when the first is good.
func (t twin) read(all bool) (payload []byte, found condition, err error) {
	for i, path := range t.copies() {
		if i == 1 && found[0] == nil && !all {
			break
		}
		var newer *FormatError
		p, err := readSealed(path)
		switch found[i] = err; {
		case errors.As(err, &newer):
			return nil, found, err
		case err == nil && payload == nil:
			payload = p
		case err == nil && !bytes.Equal(p, payload):
			found[i] = errOlder
		}
	}
	if found[0] != nil && found[1] != nil {
		return nil, found, fmt.Errorf("%w; %w", found[0], found[1])
	}
	return payload, found, nil
}

// errOlder is a good copy that differs from the first: writing was cut short
// between the two.
var errOlder = errors.New("copy is not the newest")

func readSealed(path string) ([]byte, error) {
	data, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	format, payload, err := unseal(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if format > stateFormat {
		return nil, &FormatError{Path: path, Format: format}
	}
	if payload == nil {
		payload = []byte{}
	}
	return payload, nil
}

// readBounded reads a regular file of at most maxStateFile bytes.
func readBounded(path string) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxStateFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxStateFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxStateFile)
	}
	return data, nil
}

// replaceFile writes a file so that after a crash or a power cut there is the
// old one or the new.
func replaceFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		return err
	}
	crashpoint("file-made")
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	crashpoint("file-synced")
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // what is left is removed at the next start
		return err
	}
	crashpoint("file-renamed")
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// openRegular opens a regular file for reading. Without O_NONBLOCK a FIFO of
// that name would block for ever.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
