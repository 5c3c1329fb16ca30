package metainfo

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"swarmfs/metainfo/metainfotest"
)

type (
	dict = metainfotest.Dict
	list = metainfotest.List
)

// honest makes a small torrent with further root keys.
func honest(root dict) []byte {
	t := metainfotest.New(metainfotest.Spec{Name: "t", Files: []metainfotest.File{metainfotest.F("a", 5)}})
	t.Root = root
	return t.Bytes()
}

func mustParse(t *testing.T, data []byte) *Torrent {
	t.Helper()
	got, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestTrackersAreTiersWithoutWhatCannotBeUsed(t *testing.T) {
	const a, b, c = "http://a.invalid/x", "https://b.invalid:443/y?k=v", "udp://c.invalid:80/announce"
	many := make(list, 0, 1000)
	for i := range 1000 {
		many = append(many, list{a + strings.Repeat("x", i)})
	}
	for _, x := range []struct {
		name string
		root dict
		want [][]string
	}{
		{"announce alone", dict{"announce": a}, [][]string{{a}}},
		{"the list wins over announce", dict{"announce": a, "announce-list": list{list{b, c}}}, [][]string{{b, c}}},
		{"an empty list does not", dict{"announce": a, "announce-list": list{list{}, list{""}}}, [][]string{{a}}},
		{"empty tiers go", dict{"announce-list": list{list{}, list{a}, list{"x"}, list{b}}}, [][]string{{a}, {b}}},
		{"a tracker counts once", dict{"announce-list": list{list{a, b, a}, list{b}, list{c}}}, [][]string{{a, b}, {c}}},
		{"a flat list", dict{"announce-list": list{a, b}}, [][]string{{a}, {b}}},
		{"white space", dict{"announce": " " + a + "\n"}, [][]string{{a}}},
		{"things that are no strings", dict{"announce": 5, "announce-list": list{1, list{2, list{a}}, dict{}, list{b}}}, [][]string{{b}}},
		{"a list that is none", dict{"announce": a, "announce-list": "x"}, [][]string{{a}}},
		{"port 0, none for udp, too large", dict{"announce-list": list{list{"http://a:0/", "udp://a", "http://a:65536/", "udp://a:x"}}}, nil},
		{"upper-case scheme", dict{"announce": "HTTP://a.invalid/"}, [][]string{{"HTTP://a.invalid/"}}},
		{"control characters", dict{"announce": "http://a\x00b/"}, nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			if got := mustParse(t, honest(x.root)).Trackers; !reflect.DeepEqual(got, x.want) {
				t.Errorf("got %q, want %q", got, x.want)
			}
		})
	}
	got := mustParse(t, honest(dict{"announce-list": many})).Trackers
	if len(got) == 0 || len(got) > maxURLs {
		t.Errorf("of 1000 trackers %d are left", len(got))
	}
}

func TestOptionalKeysAreReadOrLeftOut(t *testing.T) {
	got := mustParse(t, honest(dict{
		"url-list":      list{"http://w.invalid/", "ftp://w.invalid/", 7, "http://w.invalid/"},
		"httpseeds":     "http://h.invalid/",
		"nodes":         list{list{"::1", 1}, list{"n.invalid", 2}, list{"bad host", 3}, list{"x", 0}, list{"x", -1}, list{1, 2}, list{}},
		"creation date": 1300000000,
		"comment":       "\xff", "comment.utf-8": "c",
		"created by": "me",
	}))
	want := &Torrent{
		Info: got.Info, WebSeeds: []string{"http://w.invalid/"}, HTTPSeeds: []string{"http://h.invalid/"},
		Nodes:        []string{"[::1]:1", "n.invalid:2"},
		CreationDate: time.Unix(1300000000, 0).UTC(), Comment: "c", CreatedBy: "me",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	for _, date := range []any{-5, 0, 1 << 62, "x", list{}, metainfotest.Raw("i18446744073709551615e")} {
		if got := mustParse(t, honest(dict{"creation date": date, "comment": 5})); !got.CreationDate.IsZero() || got.Comment != "" {
			t.Errorf("creation date %v gave %v", date, got.CreationDate)
		}
	}
}

func TestOnlyAPlainZeroIsNotPrivate(t *testing.T) {
	for value, want := range map[any]bool{0: false, 1: true, 2: true, -1: true, "1": true, "": true} {
		m := metainfotest.New(metainfotest.Spec{Name: "t", Files: []metainfotest.File{metainfotest.F("a", 5)}})
		m.Info["private"] = value
		if got := mustParse(t, m.Bytes()).Info.Private; got != want {
			t.Errorf("private %v: got %v", value, got)
		}
	}
	if mustParse(t, honest(nil)).Info.Private {
		t.Error("private without the key")
	}
}

func TestAKeyThatStandsTwiceIsRefused(t *testing.T) {
	type pairs = metainfotest.Pairs
	info := metainfotest.New(metainfotest.Spec{Name: "t", Files: []metainfotest.File{{Size: 5}}, Single: true}).Info
	all := pairs{
		{Key: "length", Value: info["length"]},
		{Key: "name", Value: "t"},
		{Key: "piece length", Value: info["piece length"]},
		{Key: "pieces", Value: info["pieces"]},
	}
	one := pairs{{Key: "info", Value: all}}
	mustParse(t, metainfotest.Encode(one))
	more := func(keys ...string) pairs {
		info := slices.Clone(all)
		for _, k := range keys {
			info = append(info, metainfotest.Pair{Key: k, Value: "t"})
		}
		return pairs{{Key: "info", Value: info}}
	}
	for _, x := range []struct {
		name string
		root pairs
		ok   bool
	}{
		{"info", append(one, one[0]), false},
		{"name in info", more("name"), false},
		{"an unknown key in info", more("x", "x"), true},
	} {
		if _, err := Parse(metainfotest.Encode(x.root)); (err == nil) != x.ok {
			t.Errorf("%s twice: got error %v", x.name, err)
		}
	}
}

func TestParsingWhatMarshalWroteGivesTheSameTorrent(t *testing.T) {
	crafted(t, false, func(t *testing.T, c metainfotest.Case) {
		if !c.Accept || c.V2Only {
			return
		}
		first := mustParse(t, c.Data())
		data, err := first.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		second := mustParse(t, data)
		again, err := second.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, again) {
			t.Error("Marshal gave something else the second time")
		}
		checkSame(t, second, first)
	})
}

// checkSame compares all but the trees, whose seeds differ.
func checkSame(t interface {
	Helper()
	Errorf(string, ...any)
}, got, want *Torrent,
) {
	t.Helper()
	g, w := *got, *want
	gi, wi := *got.Info, *want.Info
	gi.tree, wi.tree = nil, nil
	g.Info, w.Info = &gi, &wi
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got %.2000v\nwant %.2000v", g, w)
	}
}

func TestMarshalKeepsWhatParseKeeps(t *testing.T) {
	url := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"http", "https"}).Draw(t, "scheme") + "://h" +
			rapid.StringMatching(`[a-z]{1,5}\.invalid(:[1-9][0-9]{0,3})?/[a-z?=&%+]{0,8}`).Draw(t, "rest")
	})
	raw := mustParse(t, honest(nil)).Info
	rapid.Check(t, func(t *rapid.T) {
		in := &Torrent{
			Info:      raw,
			Trackers:  rapid.SliceOfN(rapid.SliceOfN(url, 1, 3), 0, 3).Draw(t, "trackers"),
			WebSeeds:  rapid.SliceOfDistinct(url, rapid.ID[string]).Draw(t, "web seeds"),
			HTTPSeeds: rapid.SliceOfDistinct(url, rapid.ID[string]).Draw(t, "http seeds"),
			Nodes:     rapid.SliceOfDistinct(rapid.StringMatching(`([a-z]{1,9}|\[::[1-9a-f]\]):[1-9][0-9]{0,3}`), rapid.ID[string]).Draw(t, "nodes"),
			Comment:   rapid.String().Draw(t, "comment"),
			CreatedBy: rapid.String().Draw(t, "created by"),
		}
		if n := rapid.Int64Range(0, 1<<33).Draw(t, "date"); n > 0 {
			in.CreationDate = time.Unix(n, 0).UTC()
		}
		data, err := in.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		once, err := Parse(data)
		if err != nil {
			t.Skip(err) // %zz in a URL
		}
		data2, err := once.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		twice, err := Parse(data2)
		if err != nil {
			t.Fatal(err)
		}
		checkSame(t, twice, once)
		if once.Info.Hash != raw.Hash || once.Comment != in.Comment || !once.CreationDate.Equal(in.CreationDate) {
			t.Fatalf("got %+v, want %+v", once, in)
		}
		if len(in.Nodes) != len(once.Nodes) || len(in.Trackers) > 0 && len(once.Trackers) == 0 && !strings.Contains(in.Trackers[0][0], "%") {
			t.Fatalf("got nodes %q, trackers %q, want %q, %q", once.Nodes, once.Trackers, in.Nodes, in.Trackers)
		}
	})
}

func TestParseKeepsNoReferenceToItsInput(t *testing.T) {
	for _, mode := range []metainfotest.Mode{metainfotest.V1, metainfotest.Hybrid} {
		data := metainfotest.New(metainfotest.Spec{
			Name: "t", Files: []metainfotest.File{metainfotest.F("d/a", 50000)}, Mode: mode,
		}).Bytes()
		want := mustParse(t, bytes.Clone(data))
		got := mustParse(t, data)
		clear(data)
		checkSame(t, got, want)
		if n, ok := got.Info.Tree().Lookup(Root, "d"); !ok || got.Info.Tree().Name(n) != "d" {
			t.Error("the tree has changed")
		}
	}
}
