package swarm

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"swarmfs/swarm/engine"
	"swarmfs/swarm/tracker"
)

// What is left of a second for each tracker to hear that we stop.
const stopTimeout = time.Second

type answer struct {
	url  string
	resp tracker.Response
	err  error
}

// announce keeps the torrent's trackers informed and passes on the peers they
// tell of, until the run ends; then it says goodbye, for a bounded time.
func (r *run) announce() error {
	t := r.t
	if len(t.meta.Trackers) == 0 {
		return nil
	}
	select {
	case <-t.loud:
	case <-r.ctx.Done():
		return nil
	}
	rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	s := tracker.NewSchedule(t.meta.Trackers, rng, tracker.Limits{})
	key := rng.Uint32()
	answers := make(chan answer)
	var asking group
	defer asking.Wait()
	ask := func(ctx context.Context, url string, ev tracker.Event) {
		req := t.announcement(key, ev)
		req.TrackerID = s.TrackerID(url)
		asking.Go(func() error {
			resp, err := t.session.trackers.Announce(ctx, url, req)
			select {
			case answers <- answer{url, resp, err}:
			case <-ctx.Done():
			}
			return nil
		}, r.reportPanic("announce"))
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	completed := false
	for {
		now := time.Now()
		if !completed && t.completed.Load() {
			completed = true
			s.Completed()
		}
		if t.hungry.CompareAndSwap(true, false) {
			s.NeedPeers(now)
		}
		wake := now.Add(time.Hour)
		for {
			url, ev, at, ok := s.Next(now)
			if !ok {
				if !at.IsZero() {
					wake = at
				}
				break
			}
			ask(r.ctx, url, ev)
		}
		timer.Reset(max(0, wake.Sub(now)))
		select {
		case a := <-answers:
			s.Done(time.Now(), a.url, a.resp, a.err)
			r.answered(a)
		case <-timer.C:
		case <-t.nudged:
		case <-r.ctx.Done():
			asking.Wait()
			r.farewell(s, key)
			return nil
		}
	}
}

func (r *run) answered(a answer) {
	if a.err != nil {
		r.log.Info("tracker does not answer", "tracker", tracker.Redact(a.url), "err", a.err)
		return
	}
	if a.resp.Warning != "" {
		r.log.Warn("tracker warns", "tracker", tracker.Redact(a.url), "warning", a.resp.Warning)
	}
	r.log.Debug("tracker answers", "tracker", tracker.Redact(a.url), "peers", len(a.resp.Peers))
	_ = r.post(r.ctx, found{a.resp.Peers, fromTracker}) // fails only when the run is over
}

// farewell tells the trackers that know us that we stop.
func (r *run) farewell(s *tracker.Schedule, key uint32) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), stopTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, url := range s.Stopping() {
		req := r.t.announcement(key, tracker.Stopped)
		req.TrackerID = s.TrackerID(url)
		wg.Go(func() {
			if _, err := r.t.session.trackers.Announce(ctx, url, req); err != nil {
				r.log.Debug("say goodbye", "tracker", tracker.Redact(url), "err", err)
			}
		})
	}
	wg.Wait()
}

func (t *Torrent) announcement(key uint32, ev tracker.Event) tracker.Request {
	st := t.Stats()
	return tracker.Request{
		InfoHash: t.info.Hash, PeerID: t.session.peerID, Port: t.session.port(), Key: key, Event: ev,
		Uploaded: st.Uploaded, Downloaded: st.Downloaded, Left: t.left(),
	}
}

// left returns how many bytes are not held, to within one piece. The volume knows
// it before the loop has heard.
func (t *Torrent) left() int64 {
	held := engine.Bitmap(t.volume.Pieces()).Count()
	return min(t.info.Length, int64(t.layout.NumPieces()-held)*t.info.PieceLength)
}
