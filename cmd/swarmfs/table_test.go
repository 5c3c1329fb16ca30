package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"

	"swarmfs/cmd/swarmfs/internal/api"
)

// hugeStatus has the largest of everything, and names that would move the cursor.
func hugeStatus(detail bool) *api.Status {
	why := "write pieces: \x1b[2J" + strings.Repeat("no space left ", 20)
	nasty := "\x1b]0;title\a\r\n" + strings.Repeat("名前", 60) + ".mkv"
	t := api.Torrent{
		Name: nasty, Infohash: strings.Repeat("f", 40), Length: 1 << 60, Pieces: 1 << 31, PiecesHeld: 1<<31 - 1, Peers: 12345,
		BytesFetched: 1 << 62, BytesWasted: 1 << 50, BytesDuplicated: 1023 << 20, BytesUploaded: 1 << 61, Waiting: 9999,
		Reads: []api.Read{
			{File: nasty, Offset: 1 << 50, Piece: 1 << 30, Waited: 1e6, Availability: 0, Blocks: 16},
			{File: nasty, Waited: 12.345, Availability: 3, Received: 2, Blocks: 16, Asked: []api.Asked{
				{Address: "[2001:db8:1111:2222:3333:4444:5555:6666]:65535", Waited: 1.25},
				{Address: "192.0.2.1:1", Waited: 33},
				{Address: "192.0.2.2:1"},
				{Address: "192.0.2.3:1"},
				{Address: "x"},
			}},
			{File: "f", Verifying: true},
		},
		Pinned: []api.Span{{First: 0, End: 1 << 30}}, PinnedHeld: 1 << 28, Background: "opened", Failed: "torrent has failed\n",
	}
	st := &api.Status{
		Version: "0.1.0", PID: 4194304, Mount: "/mnt/" + nasty, Uptime: 1e7, Listen: []string{"[2001:db8:1111:2222:3333:4444:5555:6666]:65535", "0.0.0.0:6881"},
		Cache: api.Cache{Budget: 1 << 50, Degraded: &why}, Limits: api.Limits{Upload: 1234567, Download: 5 << 30},
	}
	if detail {
		t.Trackers = []api.Tracker{
			{URL: "http://" + nasty, Tier: 199, State: "in reserve", Failures: 1 << 30, Error: nasty, Seeders: new(1 << 30), Leechers: new(1 << 30), Next: new(86400.0)},
			{URL: "udp://t:1/announce", State: "works", Seeders: new(0)},
		}
		t.PeerList = []api.Peer{{
			Address: "[2001:db8:1111:2222:3333:4444:5555:6666]:65535", Client: nasty, Choked: true, Interested: true,
			Choking: true, Interesting: true, Snubbed: true, Rate: 1e12, Outstanding: 500, Pieces: 7, Fetched: 1 << 62, Uploaded: 1 << 62,
		}}
		t.File = &api.File{Path: nasty, Length: 5, Pieces: 1, Pinned: true}
	}
	st.Torrents = append(st.Torrents, t)
	return st
}

func TestStatusFitsATerminal(t *testing.T) {
	for _, detail := range []bool{false, true} {
		text := statusTable(hugeStatus(detail), true)
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if w := runewidth.StringWidth(line); w > tableWidth {
				t.Errorf("%d columns: %s", w, line)
			}
			if printable(line) != line || !utf8.ValidString(line) {
				t.Errorf("control characters in %q", line)
			}
		}
	}
}

func TestAnOrdinaryReadIsShownWhole(t *testing.T) {
	st := hugeStatus(false)
	st.Torrents[0].Reads = []api.Read{{
		File: "film.mkv", Offset: 150 << 20, Piece: 120002, Waited: 62.2, Availability: 12, Received: 4, Blocks: 256,
		Asked: []api.Asked{{Address: "203.0.113.107:51413", Waited: 12.2}, {Address: "198.51.100.200:51413", Waited: 3.2}},
	}}
	want := "  film.mkv\n    at 150 MiB, piece 120002, 1m2s, 12 peers have it, 4 of 256 blocks in\n" +
		"    asked 203.0.113.107:51413 12s ago, 198.51.100.200:51413 3.2s ago\n"
	if text := statusTable(st, true); !strings.Contains(text, want) {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

func TestStatusIsNotCutInAPipe(t *testing.T) {
	text := statusTable(hugeStatus(false), false)
	if !strings.Contains(text, strings.Repeat("名前", 60)+".mkv [part pinned 25.0%]\n") {
		t.Errorf("the name is cut:\n%s", text)
	}
	if strings.Contains(text, "\x1b") {
		t.Errorf("control characters in %q", text)
	}
}

func TestReadTextSaysWhy(t *testing.T) {
	for want, r := range map[string]api.Read{
		"f at 5: piece 3, 1.5s, none of 9 peers has it":                                       {File: "f", Offset: 5, Piece: 3, Waited: 1.5},
		"f at 0: piece 0, 0s, being verified":                                                 {File: "f", Verifying: true},
		"f at 0: piece 0, 1m2s, 1 peer has it, nobody asked":                                  {File: "f", Waited: 62.4, Availability: 1},
		"f at 0: piece 0, 12s, 2 peers have it, 3 of 16 blocks in, asked a:1 500ms ago":       {File: "f", Waited: 12, Availability: 2, Received: 3, Blocks: 16, Asked: []api.Asked{{Address: "a:1", Waited: 0.5}}},
		`f\n at 0: piece 0, 0s, 1 peer has it, asked a 0s ago, b 0s ago, c 0s ago and 2 more`: {File: "f\n", Availability: 1, Asked: []api.Asked{{Address: "a"}, {Address: "b"}, {Address: "c"}, {Address: "d"}, {Address: "e"}}},
	} {
		if got := readText(&r, &api.Torrent{Peers: 9}); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAReadWithoutPeersSaysSo(t *testing.T) {
	for why, want := range map[string]string{
		"":                                "f at 0: piece 0, 0s, no peers",
		"2 trackers fail: http://t: \x1b": `f at 0: piece 0, 0s, no peers: 2 trackers fail: http://t: \x1b`,
	} {
		if got := readText(&api.Read{File: "f"}, &api.Torrent{NoPeers: why}); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestPercentIsFullOnlyWhenAllIsThere(t *testing.T) {
	for want, n := range map[string][2]int{"100%": {7, 7}, "99.9%": {1<<31 - 1, 1 << 31}, "0.0%": {0, 3}, "33.3%": {1, 3}} {
		if got := percent(n[0], n[1]); got != want {
			t.Errorf("%v: got %s, want %s", n, got, want)
		}
	}
	if got := percent(0, 0); got != "100%" {
		t.Errorf("nothing of nothing: got %s", got)
	}
}
