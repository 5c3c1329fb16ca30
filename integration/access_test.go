package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// listLimit bounds listings, and reads that are expected to take milliseconds.
const listLimit = 30 * time.Second

// Each way to read gets a mount that holds nothing yet, so that it is the
// kernel's own pattern of requests that has to be served.
func TestFilesCanBeReadInEveryWay(t *testing.T) {
	c := single(t, "every way.bin", 24<<20+4321, 256<<10)
	l := seedLibtorrent(t, newNode(t), c)
	ways := map[string]func(t *testing.T, mounted, original string){
		"dd at random offsets": readByDD,
		"cat":                  readByCat,
		"cmp":                  func(t *testing.T, mounted, original string) { mustRun(t, copyLimit, "cmp", mounted, original) },
	}
	for mode := range readers {
		ways[mode] = func(t *testing.T, mounted, original string) { readAs(t, mode, mounted, original) }
	}
	for name, read := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := mount(t, newNode(t), mountOptions{flags: []string{"--peer", l.address}}, c.torrent)
			read(t, m.path(c, c.files[0]), c.original(c.files[0]))
			m.unmount()
		})
	}
}

func readByCat(t *testing.T, mounted, original string) {
	want, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	if got := mustRun(t, copyLimit, "cat", mounted); got != string(want) {
		t.Errorf("cat: got %d bytes that differ from the %d of the original", len(got), len(want))
	}
}

func readByDD(t *testing.T, mounted, original string) {
	f, err := os.Open(original)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(5, 6))
	for range 24 {
		off := random.Int64N(info.Size())
		checkDD(t, mounted, f, off, min(1+random.Int64N(300_000), info.Size()-off))
	}
	checkDD(t, mounted, f, info.Size()-1, 1)
}

// checkDD reads one range with dd and compares it.
func checkDD(t *testing.T, mounted string, original *os.File, off, n int64) {
	t.Helper()
	got := mustRun(t, copyLimit, "dd", "if="+mounted, "bs=64K", "iflag=skip_bytes,count_bytes",
		fmt.Sprintf("skip=%d", off), fmt.Sprintf("count=%d", n), "status=none")
	want := make([]byte, n)
	if _, err := original.ReadAt(want, off); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal([]byte(got), want) {
		t.Errorf("dd of %d bytes at %d: got %d bytes that differ", n, off, len(got))
	}
}

// Sums of 32 bits would show here: offsets beyond 4 GiB, in a file that is
// mostly holes on the seeder's disk.
func TestOffsetsBeyondFourGiB(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	size := int64(5*gib + 12345)
	spots := []int64{0, 2*gib - 30_000, 4*gib - 40_000, 4*gib + 5*(1<<20), size - 50_000}
	c := makeContent(t, "five.img", 4<<20, []fileSpec{{size: size, islands: spots}})
	l := seedLibtorrent(t, newNode(t), c)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--peer", l.address, "--background", "off"}}, c.torrent)
	path := m.path(c, c.files[0])
	if got, want := mustRun(t, listLimit, "stat", "-c", "%s", path), strconv.FormatInt(size, 10)+"\n"; got != want {
		t.Errorf("size: got %s, want %s", got, want)
	}
	original, err := os.Open(c.original(c.files[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer original.Close()
	for _, off := range spots {
		checkDD(t, path, original, off, min(64<<10, size-off))
	}
	checkDD(t, path, original, 4*gib-20_000, 40_000)
	if got, most := l.uploaded(), int64(512<<20); got > most {
		t.Errorf("%d bytes were fetched for six short reads, want at most %d", got, most)
	}
	m.unmount()
}

func TestWritingIsRefused(t *testing.T) {
	t.Parallel()
	c := album(t)
	m := mount(t, newNode(t), mountOptions{}, c.torrent)
	file := m.path(c, c.files[1])
	for _, args := range [][]string{
		{"touch", m.point + "/new"},
		{"mkdir", m.point + "/new"},
		{"rm", "-f", file},
		{"mv", file, m.point + "/other"},
		{"chmod", "777", file},
		{"truncate", "-s", "0", file},
		{"ln", "-s", "x", m.point + "/link"},
		{"dd", "if=/dev/zero", "of=" + file, "bs=1", "count=1", "conv=notrunc"},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		r := run(t, listLimit, cmd)
		if r.code == 0 || !bytes.Contains([]byte(r.stderr), []byte("Read-only file system")) {
			t.Errorf("%v: exit code %d, %q, want a refusal: read-only file system", args, r.code, r.stderr)
		}
	}
	m.unmount()
}
