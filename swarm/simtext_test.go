package swarm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A scenario is a short text, one thing a line. A # begins a comment.
//
//	option seed=7 background=off readahead=8MiB memory=64MiB warm=2s timeout=60s
//	torrent film file=16MiB piece=256KiB
//	peer fast x9 rate=2MiB latency=40ms pieces=all
//	reader tv kernel player bitrate=500KB start=1s ahead=4s seek=5s:70%
//	expect tv startup <= 1.1s
//
// Sizes are bytes, KB, MB, KiB or MiB; rates are sizes a second.
//
// option: all are optional. warm (default 2s) is how long the peers have been
// connected when the readers' time begins.
//
// torrent NAME: file and piece are sizes. Peers and readers that follow belong
// to it. Peers of a name that another torrent has are other peers.
//
// peer NAME [xN]: N of them.
//
//	rate=SIZE     uplink; default no limit
//	latency=D     round trip; default 20ms
//	jitter=D      on top, each way
//	pieces=all | first | second | P% | 0-3,7
//	              first and second are halves; P% are random, and what no peer of
//	              the torrent would have goes to one of those with a share
//	choke=never   never unchokes
//	choke=D       chokes and unchokes in turn, each D
//	mute=N        answers N requests and no more
//	silent=D      from then on nothing of it arrives, if in the middle of a block
//	back=D        ends silent
//	gone=D        closes, and is not there any more
//	reset=SIZE    resets its connections after so much on average
//	corrupt=P%    of the blocks are wrong
//	reqq=N        takes N requests at a time
//	plain         speaks no fast extension
//
// reader NAME [xN] direct|kernel PATTERN: direct calls Reader.ReadAt, kernel has
// the page cache and read-ahead of Linux in front of it. Every pattern takes
// at=D, when it begins.
//
//	copy from=SIZE to=SIZE second=SIZE chunk=128KiB rate=SIZE    in sequence, paced
//	              by rate; with second, as much from there on too, a chunk each in turn
//	player bitrate=SIZE start=D ahead=D for=D first=P% seek=D:P%,D:P%
//	              plays after so much media is there, and reads so much ahead; a
//	              seek comes after so much play since the last
//	random n=64 size=64KiB think=D
//	probes size=64KiB                                head and tail
//	trace file=NAME    what a real program read (testdata/traces)
//	steps read:OFFSET+SIZE wait:D forget reopen close    one after the other;
//	              forget leaves out the times of the reads before
//
// expect or goal NAME METRIC OP VALUE [UNIT]: a goal is not reached yet, and fails
// only make sim. OP is <=, >= or =. NAME is a reader; its
// metrics are startup, seek (the longest), stalls, stalled, time, p50, p95, max
// (of one read) and errors, of which there are to be none if nothing is said. Or
// it is a torrent: fetched (bytes, by the bytes of pieces touched), duplicates
// (share of what was fetched), excess (bytes of pieces held that nobody
// touched), late (bytes that came more than 5 s after the last reader closed),
// held (share of pieces), bans. With the UNIT ideal, times are in units of what
// an omniscient scheduler needs; with "without NAME", of the same when the
// peers, readers or torrent of that name are not there.
type scenario struct {
	name     string
	seed     uint64
	opts     Options
	memory   int64
	warm     time.Duration
	torrents []*torrentSpec
	expects  []expectation
}

type torrentSpec struct {
	name        string
	file, piece int64
	peers       []*peerSpec
	readers     []*readerSpec
}

type peerSpec struct {
	name    string
	n       int
	rate    int64
	latency time.Duration
	jitter  time.Duration
	pieces  string
	choke   string
	mute    int64
	silent  time.Duration
	back    time.Duration
	gone    time.Duration
	reset   int64
	corrupt float64
	reqq    int64
	plain   bool
}

type readerSpec struct {
	name    string
	n       int
	kernel  bool
	maxREAD int64 // of that kernel, in bytes
	pattern string
	at      time.Duration

	from, to, second, chunk, rate int64 // copy
	play                          playSpec
	count, size                   int64 // random, probes
	think                         time.Duration
	file                          string
	steps                         []string
}

type playSpec struct {
	bitrate           int64
	start, ahead, dur time.Duration
	first             float64 // share of the file
	seeks             []seekSpec
}

type seekSpec struct {
	after time.Duration // of play since the last
	to    float64       // share of the file
}

type expectation struct {
	line           string
	of, metric, op string
	value          float64 // seconds, bytes, a share, or a number
	ideal          bool
	without        string
	goal           bool // not reached yet
}

// args are the words of a line that are not taken yet.
type args struct {
	words []string
	err   error
}

func (a *args) fail(format string, v ...any) {
	if a.err == nil {
		a.err = fmt.Errorf(format, v...)
	}
}

// word takes the next word, "" if there is none.
func (a *args) word() string {
	if len(a.words) == 0 {
		return ""
	}
	w := a.words[0]
	a.words = a.words[1:]
	return w
}

// copies takes an xN if it is next.
func (a *args) copies() int {
	if len(a.words) > 0 && strings.HasPrefix(a.words[0], "x") {
		if n, err := strconv.Atoi(a.words[0][1:]); err == nil {
			a.word()
			return n
		}
	}
	return 1
}

// value takes KEY=VALUE, and the default if there is none.
func (a *args) value(key, def string) string {
	for i, w := range a.words {
		if v, ok := strings.CutPrefix(w, key+"="); ok {
			a.words = append(a.words[:i:i], a.words[i+1:]...)
			return v
		}
	}
	return def
}

func (a *args) flag(key string) bool {
	for i, w := range a.words {
		if w == key {
			a.words = append(a.words[:i:i], a.words[i+1:]...)
			return true
		}
	}
	return false
}

// amount takes a number with a unit.
func (a *args) amount(key, def string) float64 {
	v, err := parseAmount(a.value(key, def))
	if err != nil {
		a.fail("%s: %w", key, err)
	}
	return v
}

func (a *args) bytes(key, def string) int64 { return int64(a.amount(key, def)) }

func (a *args) time(key, def string) time.Duration { return seconds(a.amount(key, def)) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// units of amounts: seconds, bytes and shares. Longer names come first.
var units = []struct {
	name string
	is   float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"KB", 1e3}, {"MB", 1e6}, {"ms", 1e-3}, {"us", 1e-6}, {"s", 1}, {"m", 60}, {"%", 0.01}, {"", 1},
}

func parseAmount(s string) (float64, error) {
	for _, u := range units {
		if num, ok := strings.CutSuffix(s, u.name); ok {
			v, err := strconv.ParseFloat(num, 64)
			if err == nil && v >= 0 {
				return v * u.is, nil
			}
		}
	}
	return 0, fmt.Errorf("%q is no amount", s)
}

// end returns what went wrong in the line.
func (a *args) end() error {
	if a.err == nil && len(a.words) > 0 {
		a.fail("%q is not known here", a.words[0])
	}
	return a.err
}

func parseScenario(name, text string) (*scenario, error) {
	sc := &scenario{name: name, seed: 1, warm: 2 * time.Second, memory: 64 << 20, opts: Options{Background: BackgroundOff}}
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		a := &args{words: strings.Fields(line)}
		if len(a.words) == 0 {
			continue
		}
		if err := sc.parseLine(a); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
	}
	if len(sc.torrents) == 0 {
		return nil, fmt.Errorf("%s: no torrent", name)
	}
	return sc, nil
}

func (sc *scenario) parseLine(a *args) error {
	kind := a.word()
	if kind != "option" && kind != "torrent" && len(sc.torrents) == 0 {
		return errors.New("no torrent yet")
	}
	switch kind {
	case "option":
		sc.parseOption(a)
	case "torrent":
		sc.torrents = append(sc.torrents, &torrentSpec{name: a.word(), file: a.bytes("file", "16MiB"), piece: a.bytes("piece", "256KiB")})
	case "peer":
		t := sc.torrents[len(sc.torrents)-1]
		t.peers = append(t.peers, parsePeer(a))
	case "reader":
		t := sc.torrents[len(sc.torrents)-1]
		t.readers = append(t.readers, parseReader(a))
	case "expect", "goal":
		e := parseExpect(a)
		e.goal = kind == "goal"
		sc.expects = append(sc.expects, e)
	default:
		return fmt.Errorf("%q is not known", kind)
	}
	return a.end()
}

func (sc *scenario) parseOption(a *args) {
	sc.seed = uint64(a.amount("seed", strconv.FormatUint(sc.seed, 10)))
	sc.warm = a.time("warm", sc.warm.String())
	sc.memory = a.bytes("memory", strconv.FormatInt(sc.memory, 10))
	sc.opts.ReadAhead = a.bytes("readahead", strconv.FormatInt(sc.opts.ReadAhead, 10))
	sc.opts.ReadTimeout = a.time("timeout", "60s")
	b, err := ParseBackground(a.value("background", sc.opts.Background.String()))
	if err != nil {
		a.fail("%w", err)
	}
	sc.opts.Background = b
}

func parsePeer(a *args) *peerSpec {
	p := &peerSpec{
		name: a.word(), n: a.copies(), rate: a.bytes("rate", "0"),
		latency: a.time("latency", "20ms"), jitter: a.time("jitter", "0s"),
		pieces: a.value("pieces", "all"), choke: a.value("choke", ""), mute: a.bytes("mute", "0"),
		silent: a.time("silent", "0s"), back: a.time("back", "0s"), gone: a.time("gone", "0s"),
		reset: a.bytes("reset", "0"), corrupt: a.amount("corrupt", "0%"),
		reqq: a.bytes("reqq", "0"), plain: a.flag("plain"),
	}
	if _, err := p.share(0, 1); err != nil {
		a.fail("%w", err)
	}
	return p
}

func parseReader(a *args) *readerSpec {
	r := &readerSpec{name: a.word(), n: a.copies(), at: a.time("at", "0s"), maxREAD: maxREAD}
	switch way := a.word(); way {
	case "direct":
	case "kernel":
		r.kernel = true
	default:
		a.fail("%q is neither direct nor kernel", way)
	}
	r.pattern = a.word()
	switch r.pattern {
	case "copy":
		r.from, r.to = a.bytes("from", "0"), a.bytes("to", "0")
		r.second = a.bytes("second", "0")
		r.chunk, r.rate = a.bytes("chunk", "128KiB"), a.bytes("rate", "0")
	case "player":
		r.play = playSpec{
			bitrate: a.bytes("bitrate", "500KB"), first: a.amount("first", "0%"),
			start: a.time("start", "1s"), ahead: a.time("ahead", "4s"), dur: a.time("for", "0s"),
		}
		for _, s := range strings.FieldsFunc(a.value("seek", ""), func(c rune) bool { return c == ',' }) {
			after, to, _ := strings.Cut(s, ":")
			d, err1 := parseAmount(after)
			share, err2 := parseAmount(to)
			if err := errors.Join(err1, err2); err != nil || share >= 1 {
				a.fail("seek %q is no D:P%%", s)
			}
			r.play.seeks = append(r.play.seeks, seekSpec{seconds(d), share})
		}
	case "random":
		r.count, r.size, r.think = a.bytes("n", "64"), a.bytes("size", "64KiB"), a.time("think", "0s")
	case "probes":
		r.size = a.bytes("size", "64KiB")
	case "trace":
		r.file = a.value("file", "")
	case "steps":
		r.steps, a.words = a.words, nil
	default:
		a.fail("pattern %q is not known", r.pattern)
	}
	return r
}

func parseExpect(a *args) expectation {
	e := expectation{line: strings.Join(a.words, " "), of: a.word(), metric: a.word(), op: a.word()}
	v, err := parseAmount(a.word())
	if err != nil {
		a.fail("%w", err)
	}
	e.value = v
	switch a.word() {
	case "ideal":
		e.ideal = true
	case "without":
		e.without = a.word()
	case "":
	default:
		a.fail("the unit is ideal, without NAME, or none")
	}
	if e.op != "<=" && e.op != ">=" && e.op != "=" {
		a.fail("%q is none of <=, >=, =", e.op)
	}
	return e
}

// share returns which of the pieces the peer has, nil for all, -1 for random
// ones, as a share.
func (p *peerSpec) share(piece, n int) (has float64, err error) {
	switch p.pieces {
	case "all":
		return 1, nil
	case "first":
		return float64(b2i(piece < n/2)), nil
	case "second":
		return float64(b2i(piece >= n/2)), nil
	}
	if strings.HasSuffix(p.pieces, "%") {
		return parseAmount(p.pieces)
	}
	for _, span := range strings.Split(p.pieces, ",") {
		first, last, ok := strings.Cut(span, "-")
		a, err := strconv.Atoi(first)
		b := a
		if err == nil && ok {
			b, err = strconv.Atoi(last)
		}
		if err != nil {
			return 0, fmt.Errorf("pieces: %w", err)
		}
		if a <= piece && piece <= b {
			has = 1
		}
	}
	return has, nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
