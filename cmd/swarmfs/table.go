package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/mattn/go-runewidth"

	"swarmfs/cmd/swarmfs/internal/api"
)

// tableWidth is how wide a table for a terminal gets, in columns.
const tableWidth = 80

// overviewReads is how many waiting reads of each torrent the table of all shows.
const overviewReads = 3

// statusTable is what a person sees of a status. On a terminal it fits 80
// columns; elsewhere names are not cut.
func statusTable(st *api.Status, terminal bool) string {
	p := printer{cut: terminal}
	uptime := time.Duration(st.Uptime * float64(time.Second)).Round(time.Second)
	p.line("mount:   %s (pid %d, up %s, %s)", printable(st.Mount), st.PID, uptime, printable(st.Version))
	p.line("listen:  %s", strings.Join(st.Listen, ", "))
	if st.DHT != nil {
		p.line("dht:     %s", dhtText(st.DHT))
	}
	if text := networkText(&st.Network); text != "" {
		p.line("network: %s", text)
	}
	p.line("cache:   disk %s; memory %s of %s", diskText(&st.Cache), bytesText(st.Cache.MemoryUsed), bytesText(st.Cache.Memory))
	p.line("limits:  %s", ratesText(st.Limits))
	if len(st.Torrents) == 1 && st.Torrents[0].PeerList != nil {
		p.torrent(&st.Torrents[0])
		return p.String()
	}
	p.line("")
	p.line("    SIZE   HELD PEERS  FETCHED   WASTED       UP WAIT NAME")
	for i := range st.Torrents {
		t := &st.Torrents[i]
		name := printable(t.Name)
		name += pinMark(t)
		if t.Failed != "" {
			name = "! " + name
		}
		p.line("%8s %6s %5d %8s %8s %8s %4d %s", shortBytes(t.Length), percent(t.PiecesHeld, t.Pieces), t.Peers,
			shortBytes(t.BytesFetched), shortBytes(t.BytesWasted+t.BytesDuplicated), shortBytes(t.BytesUploaded), t.Waiting, name)
	}
	if len(st.Links) > 0 {
		p.line("")
		p.line("magnet links:")
		for i := range st.Links {
			p.line("  %s", linkText(&st.Links[i]))
		}
	}
	heading := "waiting reads:"
	for i := range st.Torrents {
		if t := &st.Torrents[i]; len(t.Reads) > 0 {
			if heading != "" {
				p.line("")
				p.line("%s", heading)
				heading = ""
			}
			p.reads(t, overviewReads)
		}
	}
	return p.String()
}

// pinMark is what stands behind the name of a torrent that is pinned, or in part, and
// how much of that is held.
func pinMark(t *api.Torrent) string {
	n := pinnedPieces(t)
	if n == 0 {
		return ""
	}
	mark := " [pinned"
	if n < t.Pieces {
		mark = " [part pinned"
	}
	if n > t.PinnedHeld {
		mark += " " + percent(t.PinnedHeld, n)
	}
	return mark + "]"
}

// printer collects lines.
type printer struct {
	strings.Builder
	cut bool
}

func (p *printer) line(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if p.cut {
		s = runewidth.Truncate(s, tableWidth, "…")
	}
	p.WriteString(strings.TrimRight(s, " ") + "\n")
}

// torrent is the detailed form.
func (p *printer) torrent(t *api.Torrent) {
	p.line("")
	p.line("name:     %s", printable(t.Name))
	p.line("infohash: %s", t.Infohash)
	p.line("size:     %s", bytesText(t.Length))
	p.line("held:     %s (%s)", heldText(t.PiecesHeld, t.Pieces), percent(t.PiecesHeld, t.Pieces))
	p.line("fetched:  %s, %s wasted, %s twice", bytesText(t.BytesFetched), bytesText(t.BytesWasted), bytesText(t.BytesDuplicated))
	p.line("uploaded: %s", bytesText(t.BytesUploaded))
	p.line("all runs: %s fetched, %s of no use, %s uploaded", bytesText(t.TotalFetched), bytesText(t.TotalWasted), bytesText(t.TotalUploaded))
	p.line("sharing:  %s; own limits: %s", t.Seed, ratesText(api.Limits{Upload: t.UploadLimit, Download: t.DownloadLimit}))
	p.line("fetching: what is read; in the background: %s", t.Background)
	if t.Import != nil && (t.Import.Files > 0 || t.Import.Unchecked > 0 || t.Import.Troubled > 0) {
		p.line("imported: %s", importText(t.Import))
		for _, f := range t.Import.Troubles {
			p.line("          %s: %s", printable(f.Path), printable(f.Why))
		}
	}
	if n := pinnedPieces(t); n > 0 {
		p.line("pinned:   %s, %d of them held (%s)", heldText(n, t.Pieces), t.PinnedHeld, percent(t.PinnedHeld, n))
	}
	if t.Failed != "" {
		p.line("failed:   %s", printable(t.Failed))
	}
	if f := t.File; f != nil {
		pinned := ""
		if f.Pinned {
			pinned = ", pinned"
		}
		p.line("file:     %s", printable(f.Path))
		p.line("          %s, %s held%s", bytesText(f.Length), heldText(f.PiecesHeld, f.Pieces), pinned)
	}
	if len(t.Reads) > 0 {
		p.line("")
		p.line("%s, longest first:", waitingText(t.Waiting))
		p.reads(t, len(t.Reads))
	}
	if len(t.Trackers) > 0 {
		p.line("")
		p.line("TIER SEEDS LEECH NEXT     TRACKER")
		for i := range t.Trackers {
			p.tracker(&t.Trackers[i])
		}
	}
	if len(t.PeerList) == 0 {
		return
	}
	p.line("")
	p.line("    RATE OWES    HAS  FETCHED       UP STATE  ADDRESS               CLIENT")
	for i := range t.PeerList {
		k := &t.PeerList[i]
		p.line("%8s %4d %6s %8s %8s %-6s %-21s %s", shortBytes(int64(k.Rate)), k.Outstanding, percent(k.Pieces, t.Pieces),
			shortBytes(k.Fetched), shortBytes(k.Uploaded), peerState(k), printable(k.Address), printable(k.Client))
	}
	p.line("STATE: c it chokes us, i we are interested, C we choke it, I it is interested,")
	p.line("       s silent, e encrypted, h only the handshake was")
}

// tracker has a second line for a failure.
func (p *printer) tracker(k *api.Tracker) {
	count := func(n *int) string {
		if n == nil {
			return "-"
		}
		return strconv.Itoa(*n)
	}
	next := "-"
	if k.Next != nil {
		next = secondsText(*k.Next)
	}
	p.line("%4d %5s %5s %-8s %s %s", k.Tier, count(k.Seeders), count(k.Leechers), next, printable(k.URL), k.State)
	if k.Error != "" {
		p.line("     %s: %s", timesText(k.Failures), printable(k.Error))
	}
}

func timesText(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// reads says of the first n waiting reads what they wait for.
func (p *printer) reads(t *api.Torrent, n int) {
	n = min(n, len(t.Reads))
	for i := range n {
		r := &t.Reads[i]
		p.line("  %s", printable(r.File))
		_, why, _ := strings.Cut(readText(r, t), ": piece")
		why, asked, wasAsked := strings.Cut(why, ", asked ")
		why, trackers, alone := strings.Cut(why, ", no peers: ")
		if alone {
			why += ", no peers:"
		}
		p.line("    at %s, piece%s", bytesText(r.Offset), why)
		if alone {
			p.line("    %s", trackers)
		}
		if wasAsked {
			p.line("    asked %s", asked)
		}
	}
	if more := t.Waiting - n; more > 0 {
		p.line("  and %d more", more)
	}
}

func waitingText(n int) string {
	if n == 1 {
		return "1 read waits"
	}
	return fmt.Sprintf("%d reads wait", n)
}

// peerState has a letter for each that holds.
func peerState(p *api.Peer) string {
	s := ""
	for _, x := range []struct {
		holds  bool
		letter string
	}{
		{p.Choked, "c"},
		{p.Interested, "i"},
		{p.Choking, "C"},
		{p.Interesting, "I"},
		{p.Snubbed, "s"},
		{p.Encryption == "rc4", "e"},
		{p.Encryption == "handshake", "h"},
	} {
		if x.holds {
			s += x.letter
		}
	}
	return s
}

// shortBytes fits eight columns.
func shortBytes(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// percent is rounded down: 100% is all of it.
func percent(n, of int) string {
	if of == 0 || n == of {
		return "100%"
	}
	return fmt.Sprintf("%.1f%%", float64(int64(n)*1000/int64(of))/10)
}
