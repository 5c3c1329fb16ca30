package swarm

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Seeding says how long what is held is uploaded to others. The zero value is
// for as long as it is held.
type Seeding struct {
	Mode SeedMode
	// Ratio bounds SeedRatio: the payload uploaded, over what was downloaded or,
	// if that is more, is held.
	Ratio float64
	// Time bounds SeedTime.
	Time time.Duration
}

// SeedMode is what ends the uploads of a torrent.
type SeedMode int

const (
	// SeedWhileCached: nothing but the loss of a piece.
	SeedWhileCached SeedMode = iota
	// SeedOff uploads nothing.
	SeedOff
	// SeedWhileOpen: that no file of the torrent is open any more.
	SeedWhileOpen
	// SeedRatio: Seeding.Ratio, over all runs.
	SeedRatio
	// SeedTime: that no file was open for Seeding.Time, nor was the torrent added.
	SeedTime
)

// Programs close a file and open it again at once.
const openLinger = 5 * time.Second

// ParseSeeding reads "off", "while-open", "while-cached", "ratio:R" with R from
// 0 on, or "time:T" with T as in 90m.
func ParseSeeding(s string) (Seeding, error) {
	kind, value, bounded := strings.Cut(s, ":")
	switch {
	case s == "off":
		return Seeding{Mode: SeedOff}, nil
	case s == "while-open":
		return Seeding{Mode: SeedWhileOpen}, nil
	case s == "while-cached":
		return Seeding{}, nil
	case bounded && kind == "ratio":
		r, err := strconv.ParseFloat(value, 64)
		if err != nil || !(r >= 0 && r <= maxRatio) {
			return Seeding{}, errors.New("want a ratio such as ratio:1.5")
		}
		return Seeding{Mode: SeedRatio, Ratio: r}, nil
	case bounded && kind == "time":
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return Seeding{}, errors.New("want a time such as time:90m")
		}
		return Seeding{Mode: SeedTime, Time: d}, nil
	}
	return Seeding{}, errors.New("want off, while-open, while-cached, ratio:R or time:T")
}

const maxRatio = 1e6

// String returns what ParseSeeding reads.
func (s Seeding) String() string {
	switch s.Mode {
	case SeedOff:
		return "off"
	case SeedWhileOpen:
		return "while-open"
	case SeedRatio:
		return "ratio:" + strconv.FormatFloat(s.Ratio, 'f', -1, 64)
	case SeedTime:
		return "time:" + s.Time.String()
	}
	return "while-cached"
}

// sharing is what a torrent gives and takes. It is safe for concurrent use.
type sharing struct {
	up, down throttle
	seeding  atomic.Pointer[Seeding] // nil: the session's

	mu   sync.Mutex
	open int       // readers
	last time.Time // one was open, or the torrent was added
}

func (s *sharing) init(now time.Time) {
	s.up.set(0)
	s.down.set(0)
	s.last = now
}

// opened says that a reader was; first: the only one.
func (s *sharing) opened() (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open++
	return s.open == 1
}

func (s *sharing) closed(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	s.last = now
}

// traffic is payload of a torrent, in bytes.
type traffic struct{ uploaded, downloaded, held int64 }

// rest returns how many bytes more may be uploaded than there were. When that
// ends with time, until says when.
func (s *sharing) rest(now time.Time, sd Seeding, t traffic) (bytes int64, until time.Time) {
	linger := openLinger
	switch sd.Mode {
	case SeedOff:
		return 0, time.Time{}
	case SeedRatio:
		return int64(sd.Ratio*float64(max(t.downloaded, t.held))) - t.uploaded, time.Time{}
	case SeedTime:
		linger = max(sd.Time, openLinger)
	case SeedWhileCached:
		return math.MaxInt64, time.Time{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	until = s.last.Add(linger)
	switch {
	case s.open > 0:
		return math.MaxInt64, time.Time{}
	case now.Before(until):
		return math.MaxInt64, until
	}
	return 0, time.Time{}
}

// share tells the engine what may be uploaded. It returns when it wants to look
// again; the zero time when not before something happens.
func (r *run) share(now time.Time) time.Time {
	t := r.t
	t.session.yielding.look(t.session.clock(now), t.session.slots.sent.Load())
	own := r.eng.Stats()
	bytes, until := t.sharing.rest(now, t.Seeding(), traffic{
		uploaded:   t.opts.Uploaded + t.earlier.Uploaded + own.Uploaded,
		downloaded: t.opts.Downloaded + t.earlier.Downloaded + own.Downloaded,
		held:       min(t.info.Length, int64(r.eng.Held())*t.layout.PieceLength),
	})
	if bytes < math.MaxInt64 {
		bytes += own.Uploaded
	}
	r.eng.AllowUploads(now, bytes)
	return until
}

// Seeding returns how long the torrent is seeded.
func (t *Torrent) Seeding() Seeding {
	if s := t.sharing.seeding.Load(); s != nil {
		return *s
	}
	return t.session.Seeding()
}

// SetSeeding changes that of this torrent alone; nil: as the session's again.
func (t *Torrent) SetSeeding(s *Seeding) {
	t.sharing.seeding.Store(s)
	t.tell(reshared{})
}

// Seeding returns how long torrents are seeded that have no rule of their own.
func (s *Session) Seeding() Seeding { return *s.seeding.Load() }

// SetSeeding changes that.
func (s *Session) SetSeeding(sd Seeding) {
	s.seeding.Store(&sd)
	for _, t := range s.Torrents() {
		t.tell(reshared{})
	}
}

// Limits returns the limits of this torrent alone; those of the session hold
// beside them.
func (t *Torrent) Limits() Limits {
	return Limits{Upload: t.sharing.up.perSec(), Download: t.sharing.down.perSec()}
}

// SetLimits changes them, also for transfers that wait.
func (t *Torrent) SetLimits(l Limits) { l.into(&t.sharing.up, &t.sharing.down) }
