package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// readings are what a reader of the benchmarks measured. It is a process of
// its own, as those of reader_test.go are, and prints them as JSON.
type readings struct {
	Bytes  int64
	Millis []float64 // each read took
	First  float64   // seconds until the first byte
	Took   float64   // seconds for all of it
	// Of a player, in seconds: until it had a second of the film, at the
	// beginning and after its seek; how often and how long it stood still.
	Start, Seek float64
	Stalls      int
	Stalled     float64
}

var benchReaders = map[string]func(args []string) (readings, error){
	"copy":    readAll,
	"offsets": readOffsets,
	"ends":    readEnds,
	"player":  play,
	"blocked": readBlocked,
}

func benchReaderMain(mode string, args []string) int {
	r, err := benchReaders[mode](args)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// benchReader is a reader that runs.
type benchReader struct {
	*process
	stdout bytes.Buffer
}

func startReader(t testing.TB, mode string, args ...string) *benchReader {
	t.Helper()
	r := &benchReader{}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), readerVar+"="+mode)
	cmd.Stdout = &r.stdout
	r.process = start(t, "reader "+mode, cmd)
	return r
}

// readings waits for the end. One that takes longer than limit is killed.
func (r *benchReader) readings(limit time.Duration) readings {
	r.t.Helper()
	if code := r.wait(limit); code != 0 {
		r.t.Fatalf("%s: exit code %d: %s", r.name, code, tail(r.output(), 1000))
	}
	var got readings
	if err := json.Unmarshal(r.stdout.Bytes(), &got); err != nil {
		r.t.Fatalf("%s: %v", r.name, err)
	}
	return got
}

// readAll reads PATH from its beginning to its end, or LENGTH bytes of it.
func readAll(args []string) (r readings, err error) {
	began := time.Now()
	f, err := os.Open(args[0])
	if err != nil {
		return r, err
	}
	defer f.Close()
	length := int64(math.MaxInt64)
	if len(args) > 1 {
		if length, err = strconv.ParseInt(args[1], 10, 64); err != nil {
			return r, err
		}
	}
	buf := make([]byte, 1<<20)
	for r.Bytes < length {
		n, err := f.Read(buf[:min(int64(len(buf)), length-r.Bytes)])
		if r.Bytes == 0 {
			r.First = time.Since(began).Seconds()
		}
		r.Bytes += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return r, err
		}
	}
	r.Took = time.Since(began).Seconds()
	return r, nil
}

const probeLength = 64 << 10 // of reads that are not in sequence

// readOffsets reads 64 KiB of PATH at each of OFFSET,OFFSET,..., one after the
// other.
func readOffsets(args []string) (r readings, err error) {
	f, err := os.Open(args[0])
	if err != nil {
		return r, err
	}
	defer f.Close()
	buf := make([]byte, probeLength)
	for s := range strings.SplitSeq(args[1], ",") {
		off, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return r, err
		}
		began := time.Now()
		n, err := f.ReadAt(buf, off)
		if err != nil {
			return r, err
		}
		r.Millis = append(r.Millis, time.Since(began).Seconds()*1e3)
		r.Bytes += int64(n)
	}
	return r, nil
}

// readEnds reads the first and the last 64 KiB of each file in DIR, as
// scanners of media libraries do, and leaves nothing in the page cache.
func readEnds(args []string) (r readings, err error) {
	entries, err := os.ReadDir(args[0])
	if err != nil {
		return r, err
	}
	for _, e := range entries {
		began := time.Now()
		n, err := readEndsOf(filepath.Join(args[0], e.Name()))
		if err != nil {
			return r, err
		}
		r.Millis = append(r.Millis, time.Since(began).Seconds()*1e3)
		r.Bytes += n
	}
	return r, nil
}

func readEndsOf(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, probeLength)
	for _, off := range []int64{0, info.Size() - probeLength} {
		if _, err := f.ReadAt(buf, off); err != nil {
			return 0, err
		}
	}
	return 2 * probeLength, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// readBlocked has COUNT reads of PATH wait, spread over all of it, until it is
// killed. That they come to an end is an error.
func readBlocked(args []string) (r readings, err error) {
	f, err := os.Open(args[0])
	if err != nil {
		return r, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return r, err
	}
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return r, err
	}
	ended := make(chan error, count)
	for i := range count {
		go func() {
			_, err := f.ReadAt(make([]byte, 4096), info.Size()/int64(count)*int64(i))
			ended <- err
		}()
	}
	return r, fmt.Errorf("a read of a dead torrent ended: %w", <-ended)
}

// playBuffer is how far ahead of what it shows a player reads.
const playBuffer = 4 * time.Second

// play reads PATH like a player of a film of RATE bytes a second: FIRST bytes
// from its beginning, then from SEEK to END.
func play(args []string) (r readings, err error) {
	f, err := os.Open(args[0])
	if err != nil {
		return r, err
	}
	defer f.Close()
	var n [4]int64 // rate, first, seek, end
	for i := range n {
		if n[i], err = strconv.ParseInt(args[i+1], 10, 64); err != nil {
			return r, err
		}
	}
	p := &player{f: f, rate: n[0], r: &r}
	if r.Start, err = p.play(0, n[1]); err != nil {
		return r, err
	}
	r.Seek, err = p.play(n[2], n[3])
	return r, err
}

// player shows a film at a constant rate.
type player struct {
	f    *os.File
	rate int64
	r    *readings
}

// play shows [from, end) and returns after how many seconds it began to.
func (p *player) play(from, end int64) (float64, error) {
	const chunk = 64 << 10
	buf := make([]byte, chunk)
	media := func(bytes int64) time.Duration { return time.Duration(bytes) * time.Second / time.Duration(p.rate) }
	opened := time.Now()
	var shows time.Time // when the byte at from was shown; later by each stall
	waiting, began := true, 0.0
	for at := from; at < end; {
		if !shows.IsZero() {
			time.Sleep(time.Until(shows.Add(media(at-from) - playBuffer)))
		}
		n, err := p.f.ReadAt(buf[:min(chunk, end-at)], at)
		if err != nil {
			return 0, err
		}
		p.r.Bytes += int64(n)
		if shows.IsZero() {
			if at += int64(n); media(at-from) >= time.Second {
				shows = time.Now()
				began, waiting = shows.Sub(opened).Seconds(), false
			}
			continue
		}
		late := time.Since(shows.Add(media(at - from)))
		switch {
		case late > 20*time.Millisecond:
			if !waiting { // else it is the same stall
				p.r.Stalls++
			}
			waiting = true
			p.r.Stalled += late.Seconds()
			shows = shows.Add(late)
		case late < -500*time.Millisecond:
			waiting = false
		}
		at += int64(n)
	}
	return began, nil
}
