package engine

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"swarmfs/metainfo"
	"swarmfs/swarm/wire"
)

var update = flag.Bool("update", false, "write what the engine does into testdata/*.txt")

// A scenario is a text of steps: commands, a line "----", and what the engine
// does about them, up to an empty line. "go test -update" writes the second
// part anew; the diff is what a change of the engine changes.
//
//	torrent pieces=8 blocks=4 [held=0..3] [room=9] [slots=4] [first=4] [seed=1]
//	peer fast has=all|none|0..3,7 [unchoked] [BEP6] [BEP54] [interested]
//	fast unchoke | choke | has 3 | lost 3 | bitfield 0,1 | have-all | interested | allowed 2
//	fast delivers 0:0..3 [bad]        requests 0:0..3 | cancels 0:1 | rejects 0:1 | leaves
//	reader A need=2 ahead=2..6        reader A gone | deferred
//	background 0..7 [off]             room 3; evict 2; verified 2; wait 3s; show fast
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("got no scenarios, %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := (&scenario{t: t}).play(string(text))
			if got == string(text) {
				return
			}
			if !*update {
				t.Fatalf("the engine does (-update writes it into %s)\n%s", name, got)
			}
			if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// scenario is a driver that obeys a text.
type scenario struct {
	t       *testing.T
	e       *Engine
	mem     *memory
	now     time.Time
	names   []string // of peers; PeerID is the index + 1
	readers []string
	bad     map[[2]int]PeerID // blocks in drafts that were tampered with, and by whom
}

func (s *scenario) play(text string) string {
	var out strings.Builder
	expected := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "----":
			out.WriteString("----\n" + s.outputs())
			expected = true
		case line == "":
			expected = false
			out.WriteString("\n")
		case !expected:
			out.WriteString(line + "\n")
			if !strings.HasPrefix(line, "#") {
				s.command(strings.Fields(line))
			}
		}
	}
	return out.String()
}

func (s *scenario) command(f []string) {
	opt := map[string]string{}
	for _, w := range f[1:] {
		k, v, _ := strings.Cut(w, "=")
		opt[k] = v
	}
	switch f[0] {
	case "torrent":
		s.torrent(opt)
	case "peer":
		s.join(f[1], opt)
	case "reader":
		s.reader(f[1], opt)
	case "background":
		r := s.pieces(f[1])
		_, off := opt["off"]
		s.e.Background(s.now, r[0], r[len(r)-1]+1, !off)
	case "room":
		s.mem.room = s.number(f[1])
		s.e.Room(s.now)
	case "evict":
		s.e.Evicted(s.now, s.number(f[1]))
	case "acquired":
		s.e.Acquired(s.now, s.number(f[1]))
	case "verified":
		s.verified(s.number(f[1]))
	case "rejects":
		s.rejects(s.id(f[1]), s.number(f[2]))
	case "discarded":
		s.e.Verified(s.now, s.number(f[1]), false, nil)
	case "wait":
		s.wait(f[1])
	case "show":
		p := s.e.byID[s.id(f[1])]
		s.e.out = append(s.e.out, Action{Reason: fmt.Sprintf("(%s: %d outstanding, depth %d)", f[1], p.requests.len(), p.depth)})
	default:
		s.message(f, opt)
	}
	s.e.check()
}

func (s *scenario) torrent(opt map[string]string) {
	number := func(key string, unset int) int {
		if opt[key] == "" {
			return unset
		}
		return s.number(opt[key])
	}
	pieces, blocks := number("pieces", 8), number("blocks", 4)
	l := metainfo.Layout{PieceLength: int64(blocks) * metainfo.BlockSize}
	l.Length = l.PieceLength * int64(pieces)
	s.mem = &memory{room: number("room", pieces), open: map[int]uint32{}, got: map[int]map[int]bool{}}
	s.now, s.bad = time.Unix(1e9, 0), map[[2]int]PeerID{}
	held := NewBitmap(pieces)
	for _, i := range s.pieces(opt["held"]) {
		held.Set(i)
	}
	cfg := Config{Drafts: s.mem, Slots: NewPool(number("slots", 8)).Join(), MaxRequests: number("requests", 0)}
	s.e = New(cfg, l, held, rand.New(rand.NewPCG(uint64(number("seed", 1)), 1)), s.now)
	s.e.first = number("first", 4)
}

func (s *scenario) join(name string, opt map[string]string) {
	s.names = append(s.names, name)
	id := PeerID(len(s.names))
	is := func(key string) bool { _, ok := opt[key]; return ok }
	c := Caps{Fast: is("BEP6"), Stream: is("stream")}
	if is("BEP54") {
		c.DontHave = 7
	}
	s.e.PeerJoined(s.now, id, c)
	switch has := opt["has"]; {
	case has == "all":
		s.e.Message(s.now, id, wire.Message{Kind: wire.HaveAll})
	case has != "" && has != "none":
		s.e.Message(s.now, id, s.bitfield(has))
	}
	if is("unchoked") {
		s.e.Message(s.now, id, wire.Message{Kind: wire.Unchoke})
	}
	if is("interested") {
		s.e.Message(s.now, id, wire.Message{Kind: wire.Interested})
	}
}

func (s *scenario) bitfield(list string) wire.Message {
	w := NewBitmap(s.e.n)
	for _, i := range s.pieces(list) {
		w.Set(i)
	}
	return wire.Message{Kind: wire.Bitfield, Data: wire.AppendBitfield(nil, w, s.e.n)}
}

func (s *scenario) reader(name string, opt map[string]string) {
	i := slices.Index(s.readers, name)
	if i < 0 {
		i = len(s.readers)
		s.readers = append(s.readers, name)
	}
	if _, gone := opt["gone"]; gone {
		s.e.ReaderGone(s.now, ReaderID(i+1))
		return
	}
	if _, left := opt["deferred"]; left {
		s.e.Defer(s.now, ReaderID(i+1))
		return
	}
	var w Window
	if r := s.pieces(opt["need"]); len(r) > 0 {
		w.Need, w.NeedEnd = r[0], r[len(r)-1]+1
	}
	if r := s.pieces(opt["ahead"]); len(r) > 0 {
		w.Pos, w.End = r[0], r[len(r)-1]+1
	}
	s.e.Want(s.now, ReaderID(i+1), w)
}

var simpleMessages = map[string]wire.Kind{
	"unchoke": wire.Unchoke, "choke": wire.Choke, "interested": wire.Interested, "uninterested": wire.NotInterested,
	"have-all": wire.HaveAll, "have-none": wire.HaveNone, "has": wire.Have, "allowed": wire.AllowedFast,
	"requests": wire.Request, "cancels": wire.Cancel, "rejects": wire.Reject,
}

// message is what a peer does: "fast delivers 0:0..3".
func (s *scenario) message(f []string, opt map[string]string) {
	id := s.id(f[0])
	kind, simple := simpleMessages[f[1]]
	switch {
	case simple && len(f) == 2:
		s.e.Message(s.now, id, wire.Message{Kind: kind})
	case simple && strings.Contains(f[2], ":"):
		for _, b := range s.blocks(f[2]) {
			begin, n := s.e.layout.Block(b[0], b[1])
			s.e.Message(s.now, id, wire.Message{Kind: kind, Index: uint32(b[0]), Begin: uint32(begin), Length: uint32(n)})
		}
	case simple:
		for _, i := range s.pieces(f[2]) {
			s.e.Message(s.now, id, wire.Message{Kind: kind, Index: uint32(i)})
		}
	case f[1] == "bitfield":
		s.e.Message(s.now, id, s.bitfield(f[2]))
	case f[1] == "lost":
		s.e.DontHave(s.now, id, uint32(s.number(f[2])))
	case f[1] == "leaves":
		s.e.PeerLeft(s.now, id)
	case f[1] == "sent":
		n := s.number(f[2])
		s.e.Uploaded(s.now, id, n, n*blockSize, nil)
	case f[1] == "delivers":
		_, bad := opt["bad"]
		s.deliver(id, s.blocks(f[2]), bad)
	default:
		s.t.Fatalf("unknown command %q", f)
	}
}

func (s *scenario) deliver(id PeerID, blocks [][2]int, bad bool) {
	var got []Got
	for _, b := range blocks {
		gen, open := s.mem.open[b[0]]
		kept := open && s.mem.take(b)
		if kept && bad {
			s.bad[b] = id
		}
		got = append(got, Got{Piece: b[0], Block: b[1], Gen: gen, Kept: kept})
	}
	s.e.Blocks(s.now, id, got)
}

// rejects lets a peer reject its oldest request so many times; of the outputs
// only a drop is told.
func (s *scenario) rejects(id PeerID, n int) {
	p := s.e.byID[id]
	for i := 0; i < n && !p.dropped; i++ {
		if p.requests.len() == 0 {
			s.wait("200ms")
		}
		r := p.requests.at(0)
		begin, length := s.e.layout.Block(r.piece, r.block)
		s.e.Message(s.now, id, wire.Message{Kind: wire.Reject, Index: uint32(r.piece), Begin: uint32(begin), Length: uint32(length)})
		s.e.out = slices.DeleteFunc(s.e.out, func(a Action) bool { return a.Kind != Drop })
	}
}

// verified hashes a piece: right unless a peer has tampered with a block of it.
func (s *scenario) verified(piece int) {
	ok := true
	digests := make([]BlockDigest, s.e.layout.NumBlocks(piece))
	for b := range digests {
		if id, bad := s.bad[[2]int{piece, b}]; bad {
			digests[b], ok = BlockDigest{byte(id)}, false
			delete(s.bad, [2]int{piece, b})
		}
	}
	if ok {
		s.mem.end(piece)
	}
	s.e.Verified(s.now, piece, ok, digests)
}

// wait lets time pass as a driver does: with a Tick whenever NextWake asks for one.
func (s *scenario) wait(d string) {
	n, err := time.ParseDuration(d)
	if err != nil {
		s.t.Fatal(err)
	}
	end := s.now.Add(n)
	for {
		next := s.e.NextWake()
		if next.IsZero() || next.After(end) {
			break
		}
		if next.After(s.now) {
			s.now = next
		} else {
			s.now = s.now.Add(time.Millisecond)
		}
		s.e.Tick(s.now)
	}
	s.now = end
	s.e.Tick(s.now)
}

// outputs prints what the engine did, runs of blocks on one line.
func (s *scenario) outputs() string {
	var out []string
	var last string
	var first, end int // blocks of the run that the last line shows
	for _, a := range s.e.Drain(nil) {
		var line string
		m := a.Msg
		switch a.Kind {
		case Send, Upload:
			line = s.names[a.Peer-1] + " <- " + m.Kind.String()
			switch m.Kind {
			case wire.Have:
				line += fmt.Sprintf(" %d", m.Index)
			case wire.Bitfield:
				line += fmt.Sprintf(" %08b", m.Data)
			case wire.Extended:
				line = fmt.Sprintf("%s <- dont-have %d", s.names[a.Peer-1], m.Data[3])
			case wire.Choke, wire.Unchoke, wire.Interested, wire.NotInterested, wire.HaveAll, wire.HaveNone:
			default:
				if a.Kind == Upload {
					line = s.names[a.Peer-1] + " <- upload"
				}
				line += fmt.Sprintf(" %d:", m.Index)
				b := int(m.Begin / blockSize)
				if line == last && b == end {
					end++
					out[len(out)-1] = fmt.Sprintf("%s%d..%d", line, first, b)
					continue
				}
				last, first, end = line, b, b+1
				out = append(out, fmt.Sprintf("%s%d", line, b))
				continue
			}
		case Verify:
			line = fmt.Sprintf("verify %d", a.Piece)
			if a.Digests {
				line += " with digests"
			}
		case Drop:
			line = fmt.Sprintf("drop %s: %s", s.names[a.Peer-1], a.Reason)
			if a.Ban {
				line = strings.Replace(line, "drop", "ban", 1)
			}
		case Completed:
			line = "completed"
		default:
			line = a.Reason
		}
		last = ""
		out = append(out, line)
	}
	if len(out) == 0 {
		return ""
	}
	return strings.Join(out, "\n") + "\n"
}

func (s *scenario) id(name string) PeerID {
	i := slices.Index(s.names, name)
	if i < 0 {
		s.t.Fatalf("unknown peer or command %q", name)
	}
	return PeerID(i + 1)
}

func (s *scenario) number(w string) int {
	n, err := strconv.Atoi(w)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// pieces reads a list such as 0..3,7.
func (s *scenario) pieces(list string) (out []int) {
	if list == "" {
		return nil
	}
	for part := range strings.SplitSeq(list, ",") {
		a, b, span := strings.Cut(part, "..")
		if !span {
			b = a
		}
		for i := s.number(a); i <= s.number(b); i++ {
			out = append(out, i)
		}
	}
	return out
}

// blocks reads a list such as 0:0..3;1:0 of piece and blocks.
func (s *scenario) blocks(list string) (out [][2]int) {
	for part := range strings.SplitSeq(list, ";") {
		piece, blocks, _ := strings.Cut(part, ":")
		for _, b := range s.pieces(blocks) {
			out = append(out, [2]int{s.number(piece), b})
		}
	}
	return out
}
