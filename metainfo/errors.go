package metainfo

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// An InputError says why a torrent, an info dictionary or a magnet link was
// refused. Its message is one line of printable text, fit to be shown to a
// user: names out of the input are quoted and cut.
type InputError struct {
	Op   string // what was being read: "read torrent", "read magnet link", …
	What string // what is wrong with it
}

func (e *InputError) Error() string { return e.Op + ": " + e.What }

const (
	opTorrent = "read torrent"
	opInfo    = "read info dictionary"
	opMagnet  = "read magnet link"
	opHash    = "read infohash"
)

// bad is a verdict on its way up; the exported functions name the operation.
type bad string

func (b bad) Error() string { return string(b) }

func badf(format string, args ...any) error { return bad(fmt.Sprintf(format, args...)) }

// inputError makes the exported error of a verdict.
func inputError(op string, err error) error {
	if err == nil {
		return nil
	}
	return &InputError{Op: op, What: err.Error()}
}

// maxQuoted is how much of a name goes into a message, in bytes.
const maxQuoted = 60

// quote shows a name of the input: escaped, so that no control character
// reaches a terminal or a log, and cut, so that the message stays one line.
func quote[T string | []byte](name T) string {
	if len(name) <= maxQuoted {
		return strconv.Quote(string(name))
	}
	cut := maxQuoted
	for cut > maxQuoted-utf8.UTFMax && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return strconv.Quote(string(name[:cut])) + "…"
}
