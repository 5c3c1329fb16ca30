package tracker

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

func TestTheStatusSaysHowEachTrackerDoes(t *testing.T) {
	const a, b, c = "http://a/k0123456789abcdef/announce", "http://b/announce", "http://c/announce"
	s, now := newSchedule(1, Limits{}, []string{a}, []string{b}, []string{c}), start
	want := func(what string, states ...string) {
		t.Helper()
		var got []string
		for _, st := range s.Status(now) {
			next := "-"
			if !st.Next.IsZero() {
				next = st.Next.Sub(now).Round(10 * time.Second).String()
			}
			got = append(got, fmt.Sprintf("%s %d %v %d %q %d/%d %s", st.URL, st.Tier, st.State, st.Failures, st.Error, st.Seeders, st.Leechers, next))
		}
		if !reflect.DeepEqual(got, states) {
			t.Errorf("%s: got\n%q, want\n%q", what, got, states)
		}
	}
	const shownA = "http://a/***/announce"
	want("at first", shownA+` 0 in reserve 0 "" -1/-1 0s`, `http://b/announce 1 in reserve 0 "" -1/-1 0s`, `http://c/announce 2 in reserve 0 "" -1/-1 0s`)
	wantNext(t, s, now, a, Started)
	want("asked", shownA+` 0 asking 0 "" -1/-1 0s`, `http://b/announce 1 in reserve 0 "" -1/-1 0s`, `http://c/announce 2 in reserve 0 "" -1/-1 0s`)
	s.Done(now, a, Response{}, wrap("announce to", a, errDown))
	wantNext(t, s, now, b, Started)
	s.Done(now, b, Response{Interval: 30 * time.Minute, Seeders: 3, Leechers: -1}, nil)
	want("the second answers", shownA+` 0 fails 1 "connection refused" -1/-1 30m0s`, `http://b/announce 1 works 0 "" 3/-1 30m0s`, `http://c/announce 2 in reserve 0 "" -1/-1 -`)
	s.Scraped(b, Scrape{Seeders: 4, Leechers: 5, Completed: 6})
	now = now.Add(30 * time.Minute)
	wantNext(t, s, now, a, Started)
	s.Done(now, a, Response{}, &FailureError{Reason: "banned", Never: true})
	want("the first says never", shownA+` 0 refuses 2 "tracker refuses: \"banned\"" -1/-1 -`, `http://b/announce 1 works 0 "" 4/5 0s`, `http://c/announce 2 in reserve 0 "" -1/-1 -`)
}
