package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A bit flips in the data folder of a running mount: verify finds and drops the
// piece, status tells, and a read fetches it again.
func TestVerifyOfARunningMountDropsWhatIsDamaged(t *testing.T) {
	t.Parallel()
	c := single(t, "scrubbed", 8<<20, 256<<10)
	l := seedLibtorrent(t, newNode(t), c)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--peer", l.address}}, c.torrent)
	c.copyOut(t, m.point)
	whole, err := os.ReadFile(c.original(c.files[0]))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, readyLimit, "the piece to be on the disk", func() bool { return flipStored(t, m.data, whole[5<<20:]) })
	verify := func(source string, code int, want string) {
		t.Helper()
		if r := run(t, copyLimit, swarmfs("verify", "--data", m.data, source)); r.code != code || !strings.Contains(r.stdout, want) {
			t.Errorf("verify %s: exit code %d, want %d: %s%s", source, r.code, code, r.stdout, r.stderr)
		}
	}
	verify(c.torrent, exitMismatch, "31 good, 1 bad, 0 missing")
	if r := run(t, readyLimit, swarmfs("status", "--data", m.data)); !strings.Contains(r.stdout, "1 piece damaged") {
		t.Errorf("status does not tell: %s", r.stdout)
	}
	c.readDirect(t, m)
	verify(m.path(c, c.files[0]), exitOK, "32 good, 0 bad, 0 missing")
	m.unmount()
}

// flipStored flips a bit of a piece in the logs of a data folder, if it is there.
func flipStored(t *testing.T, data string, piece []byte) bool {
	t.Helper()
	logs, _ := filepath.Glob(filepath.Join(data, "pieces", "*.vlog"))
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(text, piece[:64])
		if at < 0 {
			continue
		}
		f, err := os.OpenFile(log, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{piece[9] ^ 1}, int64(at+9)); err != nil {
			t.Fatal(err)
		}
		return true
	}
	return false
}
