package metainfo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"swarmfs/metainfo/metainfotest"
)

func parseFiles(files ...metainfotest.File) (*Info, error) {
	return ParseInfo(metainfotest.New(metainfotest.Spec{Name: "t", Files: files}).InfoBytes())
}

func TestATreeListsEntriesInTheTorrentsOrder(t *testing.T) {
	f := metainfotest.F
	i, err := parseFiles(f("z", 1), f("b/y", 2), f("a", 0), f("b/x", 3), f("c/d/e", 4), f("b/d/f", 5))
	if err != nil {
		t.Fatal(err)
	}
	tree := i.Tree()
	list := func(n Node) (names []string) {
		for _, kid := range tree.Children(n) {
			names = append(names, tree.Name(kid))
		}
		return names
	}
	if got := fmt.Sprint(list(Root)); got != "[z b a c]" {
		t.Errorf("root: got %s", got)
	}
	b, ok := tree.Lookup(Root, "b")
	if got := fmt.Sprint(list(b)); !ok || got != "[y x d]" || !tree.IsDir(b) || tree.File(b) != -1 {
		t.Errorf("b: got %s", got)
	}
	x, ok := tree.Lookup(b, "x")
	if !ok || tree.IsDir(x) || tree.File(x) != 3 || tree.Path(x) != "b/x" || tree.Children(x) != nil {
		t.Errorf("b/x: got node %d, file %d, path %q", x, tree.File(x), tree.Path(x))
	}
	if tree.Name(Root) != "t" || tree.Path(Root) != "" || tree.Parent(Root) != Root || !tree.IsDir(Root) {
		t.Error("the root is not the torrent's directory")
	}
	for _, c := range []struct {
		dir  Node
		name string
	}{{Root, "x"}, {Root, ""}, {Root, "t"}, {x, "y"}, {b, "z"}} {
		if n, ok := tree.Lookup(c.dir, c.name); ok {
			t.Errorf("%q in %d: found %d", c.name, c.dir, n)
		}
	}
}

func TestTheRootOfASingleFileTorrentIsTheFile(t *testing.T) {
	m := metainfotest.New(metainfotest.Spec{Name: "one", Files: []metainfotest.File{{Size: 7, Attr: "x"}}, Single: true})
	i, err := ParseInfo(m.InfoBytes())
	if err != nil {
		t.Fatal(err)
	}
	tree := i.Tree()
	if tree.Len() != 1 || tree.IsDir(Root) || tree.File(Root) != 0 || tree.Name(Root) != "one" || tree.Children(Root) != nil {
		t.Errorf("got %d entries, file %d, name %q", tree.Len(), tree.File(Root), tree.Name(Root))
	}
	if _, ok := tree.Lookup(Root, "one"); ok {
		t.Error("found a name in a file")
	}
	if f := i.Files[0]; !i.SingleFile || f.Path != nil || f.Length != 7 || !f.Executable {
		t.Errorf("got file %+v", f)
	}
}

func TestNamesThatClashAreRefused(t *testing.T) {
	f := metainfotest.F
	for _, c := range []struct {
		files []metainfotest.File
		ok    bool
	}{
		{[]metainfotest.File{f("a", 1), f("a", 1)}, false},
		{[]metainfotest.File{f("a", 1), f("a/b", 1)}, false},
		{[]metainfotest.File{f("a/b", 1), f("a", 1)}, false},
		{[]metainfotest.File{f("a/b/c", 1), f("x", 0), f("a/b", 1)}, false},
		{[]metainfotest.File{f("a/b/c", 1), f("x", 0), f("a/b/c", 0)}, false},
		{[]metainfotest.File{f("a", 1), {Path: []string{"a"}, Attr: "l", Symlink: []string{"a"}}}, false},
		{[]metainfotest.File{f("a", 1), {Path: []string{"a"}, Attr: "p", Size: 3}}, true},
		{[]metainfotest.File{f("a/b", 1), f("b/b", 1), f("a/a", 1), f("b/a", 1)}, true},
		{[]metainfotest.File{f("a", 1), f("A", 1), f("\u212b", 1), f("\u00c5", 1), f("A\u030a", 1)}, true},
	} {
		i, err := parseFiles(c.files...)
		checkInputError(t, err)
		if (err == nil) != c.ok {
			t.Errorf("%v: got error %v, want ok %v", c.files, err, c.ok)
		}
		if err == nil {
			checkTree(t, i)
		}
	}
}

func TestNamesAreOneComponentEach(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "...": true, ".a": true, "a.": true, " ": true, "\xff\xfe": true, "\\": true, "\n": true, "-": true,
		strings.Repeat("n", 255): true, strings.Repeat("\u00e9", 127): true,
		"": false, ".": false, "..": false, "/": false, "a/b": false, "a\x00": false, "/a": false, "a/": false,
		strings.Repeat("n", 256): false, strings.Repeat("\u00e9", 128): false,
	} {
		for _, f := range []metainfotest.File{
			{Path: []string{name}, Size: 1},
			{Path: []string{"d", name}, Size: 1},
			{Path: []string{name, "f"}, Size: 1},
		} {
			i, err := parseFiles(f)
			checkInputError(t, err)
			if (err == nil) != ok {
				t.Errorf("path %q: got error %v, want ok %v", f.Path, err, ok)
			}
			if err == nil && i.Files[0].Path[0] != f.Path[0] {
				t.Errorf("path %q became %q", f.Path, i.Files[0].Path)
			}
		}
	}
}

func TestTwinNamesAreUsedOnlyIfTheyAreUTF8(t *testing.T) {
	for _, c := range []struct {
		twin any
		want string // "" for refused
	}{
		{[]string{"\u00e9"}, "\u00e9"},
		{[]string{"\xe9"}, "old"},
		{"\u00e9", "old"},
		{list{}, "old"},
		{list{5}, "old"},
		{[]string{".."}, ""},
	} {
		m := metainfotest.New(metainfotest.Spec{Name: "t", Files: []metainfotest.File{
			{Path: []string{"old"}, Size: 1, Extra: dict{"path.utf-8": c.twin}},
		}})
		i, err := ParseInfo(m.InfoBytes())
		checkInputError(t, err)
		if got := ""; err == nil {
			if got = i.Files[0].Path[0]; got != c.want {
				t.Errorf("twin %q: got %q, want %q", c.twin, got, c.want)
			}
		} else if c.want != "" {
			t.Errorf("twin %q: %v", c.twin, err)
		}
	}
}

func TestPathsHaveABoundOfDepth(t *testing.T) {
	for _, depth := range []int{maxPathDepth, maxPathDepth + 1} {
		_, err := parseFiles(metainfotest.F(strings.Repeat("d/", depth-1)+"f", 1))
		if (err == nil) != (depth <= maxPathDepth) {
			t.Errorf("depth %d: got error %v", depth, err)
		}
	}
}

func TestAPadFileNeedsNoName(t *testing.T) {
	m := metainfotest.New(metainfotest.Spec{Name: "t", Files: []metainfotest.File{metainfotest.F("a", 5)}})
	m.Info["files"] = append(m.Info["files"].(list), dict{"attr": "p", "length": 3})
	i, err := ParseInfo(m.InfoBytes())
	if err != nil {
		t.Fatal(err)
	}
	if len(i.Files) != 2 || !i.Files[1].Pad || i.Files[1].Offset != 5 || i.Length != 8 || i.Tree().Len() != 2 {
		t.Errorf("got files %+v", i.Files)
	}
}

func TestLinksStayInsideTheTorrentOrAreLeftOut(t *testing.T) {
	f := metainfotest.F
	link := func(path, target string) metainfotest.File {
		return metainfotest.File{Path: strings.Split(path, "/"), Attr: "l", Symlink: strings.Split(target, "/")}
	}
	files := []metainfotest.File{
		f("a", 1), f("d/e/f", 1), f("d/g", 1),
		link("to-a", "a"),
		link("d/up", "a"),
		link("d/e/across", "d/g"),
		link("d/e/same", "d/e/f"),
		link("d/parent", "d"),
		link("d/e/root-dir", "d"),
		link("chain3", "chain2"), link("chain2", "chain1"), link("chain1", "to-a"),
		link("dirlink", "d/e"), link("through", "dirlink/f"),
		link("self", "self"), link("ring1", "ring2"), link("ring2", "ring1"), link("to-ring", "ring1"),
		link("too-long", strings.Repeat("n/", 50)+strings.Repeat(strings.Repeat("m", 254)+"/", 16)+"m"),
		f(strings.Repeat("n/", 50)+strings.Repeat(strings.Repeat("m", 254)+"/", 16)+"m", 1),
		link("nowhere", "x"), link("through-file", "a/b"), link("only/dead", "x"), link("to-only", "only"),
	}
	want := map[string]string{
		"to-a": "a", "d/up": "../a", "d/e/across": "../g", "d/e/same": "f",
		"d/parent": ".", "d/e/root-dir": "..",
		"chain3": "chain2", "chain2": "chain1", "chain1": "to-a",
		"dirlink": "d/e", "through": "dirlink/f", "to-only": "only",
	}
	i, err := parseFiles(files...)
	if err != nil {
		t.Fatal(err)
	}
	checkTree(t, i)
	got := make(map[string]string)
	for n := range Node(i.Tree().Len()) {
		if i.Tree().IsSymlink(n) {
			got[i.Tree().Path(n)] = i.Tree().Target(n)
		} else if i.Tree().Target(n) != "" {
			t.Errorf("%s has a target", i.Tree().Path(n))
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	for _, target := range []string{"..", "../a", "/a", "d/../a", "d//e", ".", "", "a\x00"} {
		_, err := parseFiles(f("a", 1), link("l", target))
		checkInputError(t, err)
		if err == nil {
			t.Errorf("target %q was accepted", target)
		}
	}
	if _, err := parseFiles(f("a", 1), metainfotest.File{Path: []string{"l"}, Attr: "l"}); err == nil {
		t.Error("a link without a target was accepted")
	}
	if _, err := parseFiles(f("a", 1), metainfotest.File{Path: []string{"l"}, Attr: "l", Size: 1, Data: []byte{1}, Symlink: []string{"a"}}); err == nil {
		t.Error("a link with content was accepted")
	}
}

func TestOddListsOfFilesAreRefused(t *testing.T) {
	for _, files := range []any{
		"x", 5,
		dict{},
		list{},
		list{5},
		list{"x"},
		list{dict{"length": "5", "path": list{"a"}}},
		list{dict{"length": 5, "path": list{5}}},
		list{dict{"length": 5, "path": list{list{"a"}}}},
		list{dict{"length": 5, "path": dict{"a": "b"}}},
		list{dict{"length": -5, "path": list{"b"}}, dict{"length": 10, "path": list{"a"}}},
		list{metainfotest.Raw("d6:lengthi5e6:lengthi5e4:pathl1:aee")},
		list{metainfotest.Raw("d6:lengthi18446744073709551615e4:pathl1:aee")},
	} {
		m := metainfotest.New(metainfotest.Spec{Name: "t", Files: []metainfotest.File{metainfotest.F("a", 5)}})
		m.Info["files"] = files
		_, err := ParseInfo(m.InfoBytes())
		checkInputError(t, err)
		if err == nil {
			t.Errorf("%v was accepted", files)
		}
	}
}

// Against a model: a map from paths to files, with every prefix a directory.
func TestATreeIsItsPathsAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"a", "b", "c", "\u00e9", "e\u0301", "\xff"})
		paths := rapid.SliceOfN(rapid.SliceOfN(name, 1, 5), 1, 30).Draw(t, "paths")
		model := make(map[string]int) // index of the file, -1 for a directory
		clash := false
		var files []metainfotest.File
		for n, p := range paths {
			for k := 1; k < len(p); k++ {
				d := strings.Join(p[:k], "/")
				if at, ok := model[d]; ok && at >= 0 {
					clash = true
				}
				model[d] = -1
			}
			full := strings.Join(p, "/")
			if _, ok := model[full]; ok {
				clash = true
			}
			model[full] = n
			files = append(files, metainfotest.File{Path: p, Size: 1})
		}
		i, err := parseFiles(files...)
		if clash != (err != nil) {
			t.Fatalf("clash %v, error %v", clash, err)
		}
		if err != nil {
			return
		}
		checkTree(t, i)
		got := make(map[string]int)
		for n := range Node(i.Tree().Len()) {
			if n != Root {
				got[i.Tree().Path(n)] = i.Tree().File(n)
			}
		}
		if !maps.Equal(got, model) {
			t.Fatalf("got %v\nwant %v", got, model)
		}
		if !slices.EqualFunc(i.Files, paths, func(f File, p []string) bool { return slices.Equal(f.Path, p) }) {
			t.Fatal("Files lost the paths")
		}
	})
}
