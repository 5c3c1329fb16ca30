package main

import (
	"strings"
	"testing"

	"swarmfs/cmd/swarmfs/internal/api"
	"swarmfs/metainfo"
)

func TestPinMarkTellsAPartFromTheWhole(t *testing.T) {
	for _, tc := range []struct {
		end, held int
		want      string
	}{{0, 0, ""}, {4, 4, " [part pinned]"}, {4, 1, " [part pinned 25.0%]"}, {8, 8, " [pinned]"}, {8, 2, " [pinned 25.0%]"}} {
		got := pinMark(&api.Torrent{Pieces: 8, Pinned: []api.Span{{End: tc.end}}, PinnedHeld: tc.held})
		if got != tc.want {
			t.Errorf("%d pieces pinned, %d of them held: got %q, want %q", tc.end, tc.held, got, tc.want)
		}
	}
}

func TestAnUnknownNameSaysWhatWasBeingDone(t *testing.T) {
	c, _ := daemonAt(t, t.TempDir(), 0)
	of := api.Target{Arg: "nope"}
	_, status := c.Status(t.Context(), of)
	_, rm := c.Remove(t.Context(), of)
	_, pin := c.Pin(t.Context(), of)
	_, unpin := c.Unpin(t.Context(), of)
	_, limit := c.Limit(t.Context(), api.LimitRequest{Torrent: of})
	_, verify := c.Verify(t.Context(), api.VerifyRequest{Target: of})
	for doing, err := range map[string]error{"status": status, "rm": rm, "pin": pin, "unpin": unpin, "limit": limit, "verify": verify} {
		if err == nil || !strings.HasPrefix(err.Error(), doing+" nope: no torrent of that name") {
			t.Errorf("%s: got %v", doing, err)
		}
	}
}

func TestInfoShowsWhereASymlinkLeads(t *testing.T) {
	var b strings.Builder
	r := report{torrent: &metainfo.Torrent{Info: &metainfo.Info{PieceLength: 1 << 14}}, Files: []reportFile{{Path: "d/l", Target: "some/file"}}}
	r.text(&b)
	if !strings.Contains(b.String(), "link  d/l -> some/file\n") {
		t.Errorf("got %q", b.String())
	}
}
