package swarm

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"swarmfs/swarm/tracker"
)

// What is left of a second for each tracker to hear that we stop.
const stopTimeout = time.Second

// answer is what came of an announce, or of a scrape.
type answer struct {
	url     string
	resp    tracker.Response
	scraped *tracker.Scrape
	err     error
}

// announce keeps the trackers informed and passes on the peers they tell of, until
// ctx ends; then it says goodbye, for a bounded time.
func (f *search) announce(ctx context.Context, found finding, failed func(error)) error {
	if len(f.trackers) == 0 {
		return nil
	}
	select {
	case <-f.loud:
	case <-ctx.Done():
		return nil
	}
	rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	s := tracker.NewSchedule(f.trackers, rng, tracker.Limits{All: f.session.opts.AllTrackers})
	key := rng.Uint32()
	answers := make(chan answer)
	var asking group
	defer asking.Wait()
	ask := func(doing func() answer) {
		asking.Go(func() error {
			select {
			case answers <- doing():
			case <-ctx.Done():
			}
			return nil
		}, failed)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	completed := false
	for {
		now := time.Now()
		if !completed && f.completed.Load() {
			completed = true
			s.Completed()
		}
		if f.hungry.CompareAndSwap(true, false) {
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
			req := f.announcement(key, ev)
			req.TrackerID = s.TrackerID(url)
			ask(func() answer {
				resp, err := f.session.trackers.Announce(ctx, url, req)
				return answer{url: url, resp: resp, err: err}
			})
		}
		f.show(s.Status(now))
		timer.Reset(max(0, wake.Sub(now)))
		select {
		case a := <-answers:
			if a.scraped != nil {
				s.Scraped(a.url, *a.scraped)
				continue
			}
			s.Done(time.Now(), a.url, a.resp, a.err)
			f.answered(a, found)
			if a.err == nil && a.resp.Seeders < 0 && a.resp.Leechers < 0 {
				ask(func() answer { return f.scrape(ctx, a.url) })
			}
		case <-timer.C:
		case <-f.nudged:
		case <-ctx.Done():
			asking.Wait()
			if !errors.Is(context.Cause(ctx), errResolved) { // else the torrent goes on with them
				f.farewell(ctx, s, key)
			}
			return nil
		}
	}
}

func (f *search) answered(a answer, found finding) {
	if a.err != nil {
		f.log.Info("tracker does not answer", "tracker", tracker.Redact(a.url), "err", a.err)
		return
	}
	if a.resp.Warning != "" {
		f.log.Warn("tracker warns", "tracker", tracker.Redact(a.url), "warning", a.resp.Warning)
	}
	f.log.Debug("tracker answers", "tracker", tracker.Redact(a.url), "peers", len(a.resp.Peers))
	found(a.resp.Peers, fromTracker)
}

// scrape asks a tracker that told of peers without saying how many there are.
func (f *search) scrape(ctx context.Context, url string) answer {
	s, err := f.session.trackers.Scrape(ctx, url, f.hash)
	if err != nil {
		f.log.Debug("tracker is not scraped", "tracker", tracker.Redact(url), "err", err)
		s = tracker.Scrape{Seeders: -1, Leechers: -1, Completed: -1}
	}
	return answer{url: url, scraped: &s}
}

// farewell tells the trackers that know us that we stop.
func (f *search) farewell(ctx context.Context, s *tracker.Schedule, key uint32) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, url := range s.Stopping() {
		req := f.announcement(key, tracker.Stopped)
		req.TrackerID = s.TrackerID(url)
		wg.Go(func() {
			if _, err := f.session.trackers.Announce(ctx, url, req); err != nil {
				f.log.Debug("say goodbye", "tracker", tracker.Redact(url), "err", err)
			}
		})
	}
	wg.Wait()
}

func (f *search) announcement(key uint32, ev tracker.Event) tracker.Request {
	a := f.account()
	return tracker.Request{
		InfoHash: f.hash, PeerID: f.session.peerID, Port: f.session.port(), Key: key, Event: ev,
		Uploaded: a.uploaded, Downloaded: a.downloaded, Left: a.left, Paused: a.paused,
	}
}
