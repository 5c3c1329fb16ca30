package fs

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestTorrentsOfOneNameAreToldApartByTheirInfohash(t *testing.T) {
	s := New(Options{})
	film := func(length int64) *fakeTorrent { return newFake(newInfo(t, "film.mkv", spec{length: length})) }
	dir := func(length int64) *fakeTorrent {
		return newFake(newInfo(t, "show.s01", spec{path: "x", length: length}))
	}
	first, second, third, fourth := film(1), film(2), dir(1), dir(2)
	hash := func(f *fakeTorrent) string { return f.info.Hash.String()[:8] }
	for _, c := range []struct {
		f    *fakeTorrent
		name string
		want string
	}{
		{first, "", "film.mkv"},
		{second, "", "film [" + hash(second) + "].mkv"}, // players go by the extension
		{third, "", "show.s01"},
		{fourth, "", "show.s01 [" + hash(fourth) + "]"},
		{film(3), "other", "other"},
		{film(4), ".swarmfs", ".swarmfs [" + hash(film(4)) + "]"},
	} {
		shown, err := s.Add(c.f, c.name)
		if err != nil || shown != c.want {
			t.Errorf("add %s as %q: got %q, %v, want %q", c.f.info.Name, c.name, shown, err, c.want)
		}
		if len(shown) > 0 {
			mustLookup(t, s.fs, shown)
		}
	}
	if _, err := s.Add(first, "elsewhere"); !errors.Is(err, ErrExists) {
		t.Errorf("same torrent again: got %v, want %v", err, ErrExists)
	}
	s.Remove("film.mkv")
	if shown, err := s.Add(first, ""); err != nil || shown != "film.mkv" {
		t.Errorf("add after remove: got %q, %v", shown, err)
	}
}

func TestNamesThatCannotBeShownAreRefused(t *testing.T) {
	s := New(Options{})
	f := newFake(newInfo(t, "x", spec{length: 1}))
	for _, name := range []string{".", "..", "a/b", "/", "a\x00", strings.Repeat("x", 256)} {
		if shown, err := s.Add(f, name); err == nil {
			t.Errorf("%.10q was shown as %q", name, shown)
		}
	}
	if _, err := s.Add(f, strings.Repeat("x", 255)); err != nil {
		t.Error(err)
	}
}

func TestASuffixNeverMakesANameTooLongOrBreaksACharacter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringN(1, 255, 255).Draw(t, "name")
		dir := rapid.Bool().Draw(t, "directory")
		got := suffixed(name, " [0123456789abcdef]", dir)
		if len(got) > maxName {
			t.Errorf("%d bytes", len(got))
		}
		if utf8.ValidString(name) && !utf8.ValidString(got) {
			t.Errorf("%q became %q", name, got)
		}
		if !strings.Contains(got, " [0123456789abcdef]") {
			t.Errorf("no suffix in %q", got)
		}
	})
}

func TestCollidingInfohashesGetOtherInodes(t *testing.T) {
	f := New(Options{}).fs
	hash := newInfo(t, "x", spec{length: 1}).Hash
	seen := make(map[uint64]bool)
	for range 4 {
		p := f.freePrefix(hash)
		if p == 0 || seen[p] {
			t.Fatalf("prefix %d after %v", p, seen)
		}
		seen[p] = true
		f.branches[p] = new(branch)
	}
	if p := f.freePrefix(hash); p != 0 {
		t.Errorf("fifth torrent of the same numbers: got %d, want none", p)
	}
}

func TestOddCreationDatesAreShownAsPossibleOnes(t *testing.T) {
	s := New(Options{})
	for i, created := range []time.Time{time.Unix(-5, 0), time.Unix(1<<60, 0), {}} {
		f := newFake(newInfo(t, "t"+string(rune('0'+i)), spec{length: 1}))
		f.created = created
		if got := int64(mustLookup(t, s.fs, mustAdd(t, s, f)).Mtime); got < 0 || got > 1<<32 || created.IsZero() && time.Since(time.Unix(got, 0)) > time.Hour {
			t.Errorf("created %v: mtime %d", created, got)
		}
	}
}
