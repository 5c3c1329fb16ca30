package swarm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"swarmfs/swarm/simnet"
)

// replayed is what a replay of a trace saw.
type replayed struct {
	took   time.Duration // from the first line to the last answer
	waited time.Duration // of all reads together
	// Until the program had what it read in the first startTime of the trace:
	// then a player has found the streams and shows a picture.
	started time.Duration
}

const startTime = 110 * time.Millisecond

// replay does what a trace says, with the program's own pauses: a read comes as
// long after the answers that the program had before it as it did in the trace,
// and not before the line above it. So a program waits for what it waited for,
// in any swarm, and what the kernel asked for at once is asked for at once.
func (n *node) replay(tor *Torrent, c *content, tr *trace) replayed {
	return n.replayWith(tor, c, tr, func() {})
}

// replayWith does something more when the first read has been answered.
func (n *node) replayWith(tor *Torrent, c *content, tr *trace, first func()) replayed {
	n.lab.t.Helper()
	p := &player{n: n, tor: tor, c: c, open: make(map[int]*reader), start: time.Now(), first: sync.OnceFunc(first)}
	defer p.end()
	past := time.Duration(0) // of the trace
	for _, op := range tr.ops {
		past = max(past, p.await(op.at))
		time.Sleep(op.at - past)
		past = op.at
		p.do(op)
	}
	p.await(1 << 62)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.saw.took = time.Since(p.start)
	return p.saw
}

// player replays one trace.
type player struct {
	n     *node
	tor   *Torrent
	c     *content
	start time.Time
	first func()
	open  map[int]*reader
	under []underWay

	mu  sync.Mutex
	saw replayed
}

type underWay struct {
	answered time.Duration // in the trace
	done     chan struct{}
}

// await waits for the reads that were answered before a time of the trace, and
// returns when the last of them was.
func (p *player) await(at time.Duration) (last time.Duration) {
	p.under = slices.DeleteFunc(p.under, func(u underWay) bool {
		if u.answered > at {
			return false
		}
		<-u.done
		last = max(last, u.answered)
		return true
	})
	return last
}

func (p *player) do(op traceOp) {
	switch op.kind {
	case traceOpen:
		p.open[op.handle] = p.n.open(p.tor, p.c)
	case traceClose:
		if err := p.open[op.handle].Close(); err != nil {
			p.n.lab.t.Error(err)
		}
		delete(p.open, op.handle)
	case traceRead:
		u := underWay{op.at + op.waited, make(chan struct{})}
		p.under = append(p.under, u)
		r := p.open[op.handle]
		p.n.lab.peers.Go(func() {
			defer close(u.done)
			p.read(r, op)
		})
	}
}

func (p *player) read(r *reader, op traceOp) {
	came := time.Now()
	buf := make([]byte, op.n)
	if _, err := r.ReadAt(p.n.lab.t.Context(), buf, op.off); err != nil && op.n > 0 {
		p.n.lab.t.Errorf("read %d bytes at %d: %v", op.n, op.off, err)
	}
	p.first()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.saw.waited += time.Since(came)
	if op.at <= startTime {
		p.saw.started = max(p.saw.started, time.Since(p.start))
	}
}

// end closes what the program left open when the trace was cut.
func (p *player) end() {
	for _, r := range p.open {
		if err := r.Close(); err != nil {
			p.n.lab.t.Error(err)
		}
	}
}

// A library of contents for traces: torrents of one file, which share their bytes.
type library struct {
	data []byte
	made map[[2]int64]*content
}

func newLibrary(traces []*trace) *library {
	size := int64(0)
	for _, tr := range traces {
		size = max(size, tr.size)
	}
	l := &library{data: make([]byte, size), made: make(map[[2]int64]*content)}
	rand.NewChaCha8([32]byte{1}).Read(l.data)
	return l
}

func (l *library) content(t *testing.T, size int64, pieceLen int) *content {
	key := [2]int64{size, int64(pieceLen)}
	if l.made[key] == nil {
		l.made[key] = newContent(t, l.data[:size], pieceLen)
	}
	return l.made[key]
}

// apart are four seeders of 2 MiB/s, 40 ms away.
func (l *lab) apart(n *node, c *content) *Torrent {
	tor := n.add(c)
	for range 4 {
		l.silentPeer(c, simnet.Link{Latency: 15 * time.Millisecond, Up: 2 << 20}, script{}).dial(n)
	}
	return tor
}

// A program that looks at a file costs the pieces that it touches, or that the
// kernel reads ahead for it, and at most one more; one that goes through more
// than 2 MiB may cost a quarter of it more. The second look costs nothing.
func TestAProbeFetchesThePiecesItTouchesAndAtMostOneMore(t *testing.T) {
	traces := slices.DeleteFunc(loadTraces(t), func(tr *trace) bool { return tr.kind != "probe" })
	lib := newLibrary(traces)
	for _, tr := range traces {
		for _, pieceLen := range []int{256 << 10, 1 << 20, 4 << 20} {
			t.Run(fmt.Sprintf("%s/%dKiB", tr.name, pieceLen>>10), func(t *testing.T) {
				probeTwice(t, lib.content(t, tr.size, pieceLen), tr)
			})
		}
	}
}

func probeTwice(t *testing.T, c *content, tr *trace) {
	simulate(t, func(l *lab) {
		n := l.node(nodeOptions{memory: 256 << 20})
		tor := l.apart(n, c)
		saw := n.replay(tor, c, tr)
		time.Sleep(10 * time.Second) // what is asked for is there, and windows have ended
		var bytes int64
		touched := tr.touched(int64(c.pieceLen))
		for _, piece := range touched {
			bytes += int64(c.meta.Info.Layout().PieceSize(int(piece)))
		}
		more := int64(c.pieceLen)
		if bytes > 2<<20 {
			more += bytes / 4
		}
		st := tor.Stats()
		t.Logf("took %v, waited %v; %d pieces touched, %d fetched", saw.took, saw.waited, len(touched), st.Held)
		if st.Held > len(touched)+int(more)/c.pieceLen {
			t.Errorf("got %d pieces, want the %d that were touched and at most %d bytes more", st.Held, len(touched), more)
		}
		if st.Downloaded > bytes+more {
			t.Errorf("got %d bytes (%d twice), want the %d of pieces touched and at most %d more", st.Downloaded, st.Duplicate, bytes, more)
		}
		again := n.replay(tor, c, tr)
		time.Sleep(10 * time.Second)
		if got := tor.Stats().Downloaded; got != st.Downloaded || again.waited > 0 {
			t.Errorf("the second look fetched %d bytes and waited %v", got-st.Downloaded, again.waited)
		}
	})
}

// Whether it would pay to know containers: to ask for an index at the tail as
// soon as the head is there. Here somebody knows without looking, and asks for
// all of it. A reader gets there by itself a millisecond later.
func TestAHintAboutTheTailWouldGainLittle(t *testing.T) {
	traces := loadTraces(t)
	lib := newLibrary(traces)
	for _, tr := range traces {
		tail, ok := map[string]int64{
			"ffprobe-mp4-tail": 128 << 10, "ffprobe-mp4-long": 4 << 20, "ffprobe-avi": 256 << 10, "thumbnailer-mkv": 64 << 10, "unzip-list": 256 << 10,
			"vlc-mp4": 128 << 10, "vlc-mkv": 64 << 10, "vlc-avi": 256 << 10, "mpv-mp4": 128 << 10,
		}[tr.name]
		if !ok {
			continue
		}
		t.Run(tr.name, func(t *testing.T) {
			c := lib.content(t, tr.size, mebibyte)
			without, with := hinted(t, c, tr, 0), hinted(t, c, tr, tail)
			t.Logf("started after %v, with a hint after %v", without, with)
			if with < without*85/100 {
				t.Errorf("started after %v, with a hint after %v: it would pay", without, with)
			}
		})
	}
}

// hinted replays a trace with a hint about so many bytes at the tail, 0 for none.
func hinted(t *testing.T, c *content, tr *trace, tail int64) (started time.Duration) {
	simulate(t, func(l *lab) {
		var hints sync.WaitGroup
		defer hints.Wait()
		n := l.node(nodeOptions{memory: 256 << 20})
		tor := l.apart(n, c)
		started = n.replayWith(tor, c, tr, func() {
			for off := tr.size - tail; off < tr.size; off += readChunk {
				r := n.open(tor, c)
				hints.Go(func() {
					if err := r.read(int(off), 1); err != nil {
						t.Error(err)
					}
				})
			}
		}).started
	})
	return started
}
