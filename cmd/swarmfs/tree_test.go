package main

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"swarmfs/cache"
	"swarmfs/fs"
	"swarmfs/swarm"
)

// namesOf are the torrents' labels in the order in which they choose names.
func namesOf(m *mounter, all ...loaded) []string {
	var names []string
	for _, t := range m.named(all) {
		names = append(names, t.label)
	}
	return names
}

func TestTorrentsThatHadANameChooseFirst(t *testing.T) {
	state, err := cache.OpenState(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &mounter{state: state, log: slog.New(slog.DiscardHandler)}
	one, _ := makeTorrent(t, "one", false)
	two, _ := makeTorrent(t, "two", false)
	three, _ := makeTorrent(t, "three", false)
	a, b, c := loaded{torrent: one, label: "a"}, loaded{torrent: two, label: "b"}, loaded{torrent: three, label: "c"}

	if got, want := namesOf(m, a, b, c), []string{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("nothing remembered: got %q, want %q", got, want)
	}
	shown := m.named([]loaded{b, c})
	shown[0].name, shown[1].name = "x", "x [c]"
	for _, s := range shown {
		if err := m.rememberMetainfo(s); err != nil {
			t.Fatal(err)
		}
		state.SetRecord(s.torrent.Info.Hash, cache.Record{Name: s.name})
	}
	if got, want := namesOf(m, a, c, b), []string{"c", "b", "a"}; !slices.Equal(got, want) {
		t.Errorf("b and c remembered: got %q, want %q", got, want)
	}
	if got := m.named([]loaded{c})[0].record.Name; got != "x [c]" {
		t.Errorf("name: got %q, want %q", got, "x [c]")
	}
	data, err := state.Get(two.Info.Hash)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := parseTorrent(data); err != nil || again.torrent.Info.Hash != two.Info.Hash {
		t.Errorf("remembered torrent: got %v, %v", again, err)
	}
}

func TestErrorsOfTheSwarmGetTheirMeaningForReaders(t *testing.T) {
	other := errors.New("other")
	for in, want := range map[error]error{
		swarm.ErrTimeout: fs.ErrTimeout, swarm.ErrClosed: fs.ErrGone, swarm.ErrFailed: swarm.ErrFailed, other: other,
	} {
		if got := treeError(in); !errors.Is(got, want) || !errors.Is(got, in) {
			t.Errorf("treeError(%v): got %v, want one that is %v", in, got, want)
		}
	}
	if treeError(nil) != nil {
		t.Error("treeError(nil) is an error")
	}
}

func TestADaemonsLogLeavesTheTerminalWhenReady(t *testing.T) {
	var terminal strings.Builder
	file, err := openLog(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	l := &daemonLog{file: file, terminal: &terminal}
	_, _ = l.Write([]byte("before\n"))
	l.leaveTerminal()
	_, _ = l.Write([]byte("after\n"))
	if got := terminal.String(); got != "before\n" {
		t.Errorf("terminal: got %q, want %q", got, "before\n")
	}
	if st, err := file.Stat(); err != nil || st.Size() != int64(len("before\nafter\n")) {
		t.Errorf("log file: got %v, %v, want both lines", st, err)
	}
}
