package swarm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"swarmfs/swarm/engine"
)

// A trace is how a real program read one file, recorded through our own mount
// (docs/scheduling.md says how).
type trace struct {
	name string // of the file it is kept in, without ".txt"
	kind string // "probe": should cost the pieces it touches; or "play", "copy", "random"
	size int64  // of the file that was read
	ops  []traceOp
}

// A traceOp is one line of a trace. Times count from the trace's first line.
type traceOp struct {
	at     time.Duration // when it came
	handle int           // an open file; several may be open at a time
	kind   traceKind
	off, n int64         // of a read
	waited time.Duration // of a read: it was answered at at+waited
}

type traceKind uint8

const (
	traceOpen traceKind = iota
	traceRead
	traceClose
)

// parseTrace reads a trace: comments, one of them "# kind: KIND", then lines in
// the order of their times,
//
//	MS HANDLE open SIZE
//	MS HANDLE OFFSET LENGTH WAITED
//	MS HANDLE close
//
// where MS and WAITED are milliseconds, with up to three decimals. All handles
// are of the same file.
func parseTrace(name string, r io.Reader) (*trace, error) {
	tr := &trace{name: name, size: -1}
	open := make(map[int]bool)
	lines := bufio.NewScanner(r)
	for no := 1; lines.Scan(); no++ {
		line := lines.Text()
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			if kind, ok := strings.CutPrefix(comment, " kind: "); ok {
				tr.kind = kind
			}
			continue
		}
		op, size, err := parseTraceLine(strings.Fields(line))
		if err == nil {
			err = tr.add(op, size, open)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %q: %w", name, no, line, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if tr.kind == "" || len(tr.ops) == 0 {
		return nil, fmt.Errorf("%s: no kind, or no lines", name)
	}
	first := tr.ops[0].at
	for i := range tr.ops {
		tr.ops[i].at -= first
	}
	return tr, nil
}

// add checks an operation against those before it.
func (tr *trace) add(op traceOp, size int64, open map[int]bool) error {
	if k := len(tr.ops); k > 0 && op.at < tr.ops[k-1].at {
		return errors.New("earlier than the line before")
	}
	if open[op.handle] == (op.kind == traceOpen) {
		return errors.New("the handle is open already, or not open")
	}
	switch op.kind {
	case traceOpen:
		if tr.size >= 0 && tr.size != size {
			return errors.New("a file of another size")
		}
		tr.size = size
		open[op.handle] = true
	case traceRead:
		if op.off+op.n > tr.size {
			return errors.New("beyond the end of the file")
		}
	case traceClose:
		delete(open, op.handle)
	}
	tr.ops = append(tr.ops, op)
	return nil
}

func parseTraceLine(f []string) (op traceOp, size int64, err error) {
	if len(f) < 3 {
		return op, 0, errors.New("too few fields")
	}
	var bad [5]error
	op.at, bad[0] = parseMillis(f[0])
	op.handle, bad[1] = strconv.Atoi(f[1])
	switch {
	case f[2] == "open" && len(f) == 4:
		op.kind = traceOpen
		size, bad[2] = parseCount(f[3])
	case f[2] == "close" && len(f) == 3:
		op.kind = traceClose
	case len(f) == 5:
		op.kind = traceRead
		op.off, bad[2] = parseCount(f[2])
		op.n, bad[3] = parseCount(f[3])
		op.waited, bad[4] = parseMillis(f[4])
	default:
		bad[2] = errors.New("neither open, close, nor a read")
	}
	return op, size, errors.Join(bad[:]...)
}

func parseMillis(s string) (time.Duration, error) {
	ms, err := strconv.ParseFloat(s, 64)
	if err != nil || !(ms >= 0 && ms < 1e9) {
		return 0, fmt.Errorf("%q is not a time in milliseconds", s)
	}
	return time.Duration(ms*1000+0.5) * time.Microsecond, nil
}

func parseCount(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return 0, fmt.Errorf("%q is not a number of bytes", s)
	}
	return n, nil
}

// loadTraces returns all traces, by name.
func loadTraces(tb testing.TB) []*trace {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "traces", "*.txt"))
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no traces: %v", err)
	}
	var all []*trace
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			tb.Fatal(err)
		}
		tr, err := parseTrace(strings.TrimSuffix(filepath.Base(path), ".txt"), f)
		f.Close()
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, tr)
	}
	return all
}

// touched returns the pieces that the reads need, in the order of their first read.
func (tr *trace) touched(pieceLen int64) []int64 {
	seen := make(map[int64]bool)
	var order []int64
	for _, op := range tr.ops {
		if op.kind != traceRead || op.n == 0 {
			continue
		}
		for p := op.off / pieceLen; p <= (op.off+op.n-1)/pieceLen; p++ {
			if !seen[p] {
				seen[p] = true
				order = append(order, p)
			}
		}
	}
	return order
}

func TestATraceIsParsed(t *testing.T) {
	const text = `# prog 1.2, a file of 300 KB
# kind: probe
10.5 1 open 300000
11 1 0 16384 0.25
11.001 2 open 300000
12 1 283616 16384 3
12 1 100000 65536 0
12 1 close
20 2 close
`
	tr, err := parseTrace("x", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []traceOp{
		{0, 1, traceOpen, 0, 0, 0},
		{500 * time.Microsecond, 1, traceRead, 0, 16384, 250 * time.Microsecond},
		{501 * time.Microsecond, 2, traceOpen, 0, 0, 0},
		{1500 * time.Microsecond, 1, traceRead, 283616, 16384, 3 * time.Millisecond},
		{1500 * time.Microsecond, 1, traceRead, 100000, 65536, 0},
		{1500 * time.Microsecond, 1, traceClose, 0, 0, 0},
		{9500 * time.Microsecond, 2, traceClose, 0, 0, 0},
	}
	if tr.name != "x" || tr.kind != "probe" || tr.size != 300000 || !slices.Equal(tr.ops, want) {
		t.Errorf("got %+v, want %v", tr, want)
	}
	if got := tr.touched(65536); !slices.Equal(got, []int64{0, 4, 1, 2}) {
		t.Errorf("got pieces %v touched, want 0, 4, 1 and 2", got)
	}
}

func TestABadTraceIsRefusedWithTheLine(t *testing.T) {
	const good = "# kind: probe\n1 1 open 1000\n"
	for _, text := range []string{
		"", "# kind: probe\n", "1 1 open 1000\n",
		good + "2 1 0", good + "2 1", good + "2 1 0 1 1 1", good + "2 1 shut",
		good + "2 1 x 1 0", good + "2 1 0 x 0", good + "2 1 0 1 x", good + "x 1 0 1 0", good + "2 x 0 1 0",
		good + "-2 1 0 1 0", good + "NaN 1 0 1 0", good + "1e300 1 0 1 0",
		good + "2 1 -1 1 0", good + "2 1 9223372036854775807 9223372036854775807 0", good + "2 1 999 2 0",
		good + "0.5 1 0 1 0", good + "2 2 0 1 0", good + "2 2 close", good + "2 1 open 1000",
		good + "2 2 open 1001", good + "2 1 close\n3 1 0 1 0",
	} {
		if tr, err := parseTrace("bad", strings.NewReader(text)); err == nil || !strings.HasPrefix(err.Error(), "bad:") {
			t.Errorf("%q: got %+v, %v", text, tr, err)
		}
	}
}

func TestEveryTraceHasReadsAndAKindThatIsKnown(t *testing.T) {
	for _, tr := range loadTraces(t) {
		if !slices.Contains([]string{"probe", "play", "copy", "random"}, tr.kind) {
			t.Errorf("%s is of kind %q", tr.name, tr.kind)
		}
		if len(tr.touched(1<<20)) == 0 {
			t.Errorf("%s touches nothing", tr.name)
		}
	}
}

// row is what docs/scheduling.md says of a trace.
func (tr *trace) row() string {
	const unit = 4 << 10
	cursors := make(map[int]*engine.Cursor)
	ends := make(map[int]*[engine.Places]int64) // where each handle's sequences have got to
	reads, seeks, late := 0, 0, int64(0)
	for _, op := range tr.ops {
		switch op.kind {
		case traceOpen:
			cursors[op.handle], ends[op.handle] = &engine.Cursor{}, new([engine.Places]int64)
		case traceClose:
			seeks += cursors[op.handle].Seeks()
		case traceRead:
			c := cursors[op.handle]
			before := c.Seeks()
			a := c.Read(op.at, op.off, op.n, mebibyte, mebibyte)
			reads++
			if a.Left {
				continue
			}
			end := &ends[op.handle][a.Place]
			if c.Seeks() == before {
				late = max(late, *end-op.off)
				*end = max(*end, op.off+op.n)
			} else {
				*end = op.off + op.n
			}
		}
	}
	held := make(map[int64]bool)
	for _, p := range tr.touched(unit) {
		held[p] = true
	}
	last := (tr.size - 1) / unit
	var head, tail int64
	for held[head] {
		head++
	}
	for held[last-tail] && tail <= last {
		tail++
	}
	kib := func(units int64) int64 { return units * unit >> 10 }
	return fmt.Sprintf("| %s | %d | %d | %d | %d | %d | %d | %d / %d / %d |", tr.name, reads, kib(int64(len(held))), seeks, late>>10,
		kib(head), kib(tail), len(tr.touched(256<<10)), len(tr.touched(1<<20)), len(tr.touched(4<<20)))
}

func TestTheDocumentationSaysWhatTracesShow(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "scheduling.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tr := range loadTraces(t) {
		if row := tr.row(); !strings.Contains(string(text), row+"\n") {
			t.Errorf("docs/scheduling.md lacks\n%s", row)
		}
	}
}
