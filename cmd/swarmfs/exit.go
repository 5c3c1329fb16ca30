package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"swarmfs/cache"
	"swarmfs/cmd/swarmfs/internal/api"
	"swarmfs/fs"
	"swarmfs/metainfo"
	"swarmfs/swarm"
)

// Exit codes. Scripts depend on them: a number is never reused or renumbered.
const (
	exitOK      = 0 // done, or stopped by a signal or an unmount as asked
	exitOther   = 1 // anything that has no code of its own
	exitUsage   = 2 // wrong flags, arguments or configuration
	exitInput   = 3 // a source, torrent or file that cannot be read or is not valid
	exitMount   = 4 // the mountpoint or FUSE
	exitNetwork = 5 // an address that cannot be parsed, resolved or listened on
	exitData    = 6 // the data folder is in use by another process, or unusable for what was asked
	exitVerify  = 7 // verify found missing or bad data
	exitNobody  = 8 // no mount answers on the control socket
)

// exitError gives an error the exit code of the process.
type exitError struct {
	code int
	err  error // nil: the user has been told already
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// withCode marks err with an exit code. The innermost mark wins, since who is
// nearest to the cause knows it best.
func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	var marked *exitError
	if errors.As(err, &marked) {
		return err
	}
	return &exitError{code: code, err: err}
}

// failf is fmt.Errorf with an exit code.
func failf(code int, format string, args ...any) error {
	return withCode(code, fmt.Errorf(format, args...))
}

// exitCode is the code that err ends the process with.
func exitCode(err error) int {
	var (
		marked *exitError
		input  *metainfo.InputError
		mount  *fs.MountError
		listen *swarm.ListenError
		locked *cache.LockedError
		remote *api.Error
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &marked):
		return marked.code
	case errors.As(err, &input):
		return exitInput
	case errors.As(err, &mount):
		return exitMount
	case errors.As(err, &listen):
		return exitNetwork
	case errors.As(err, &locked):
		return exitData
	case errors.As(err, &remote):
		return remote.Code
	default:
		return exitOther
	}
}

// reported tells whether the user has been told of err.
func reported(err error) bool {
	var marked *exitError
	return errors.As(err, &marked) && marked.err == nil
}

// errorLine is the single line that a user sees of err. Names in it may come
// from a hostile torrent, so nothing in it can move the cursor or break the
// line.
func errorLine(err error) string {
	return "swarmfs: " + printable(strings.TrimSpace(err.Error()))
}

// printable escapes what is no visible character: controls, direction
// overrides, invisible and odd spaces, bytes that are not UTF-8.
func printable(s string) string {
	clean := true
	for i, r := range s {
		if !unicode.IsPrint(r) || r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD") {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[n:]
	}
	return b.String()
}
