package metainfo

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode"

	"swarmfs/metainfo/metainfotest"
)

// crafted runs f for every crafted torrent, or every crafted magnet link.
func crafted(t *testing.T, magnets bool, f func(t *testing.T, c metainfotest.Case)) {
	for _, c := range metainfotest.Cases() {
		if (c.Group == "magnet") != magnets || c.Big && testing.Short() {
			continue
		}
		t.Run(c.Name, func(t *testing.T) { f(t, c) })
	}
}

func TestEveryCraftedTorrentGetsItsVerdict(t *testing.T) {
	crafted(t, false, func(t *testing.T, c metainfotest.Case) {
		got, err := Parse(c.Data())
		checkInputError(t, err)
		// A v2 torrent is looked at all the same: only an honest one is told that
		// it is not supported yet.
		if unsupported := err != nil && strings.Contains(err.Error(), "not supported yet"); unsupported != c.V2Only {
			t.Fatalf("%s: got error %v", c.Why, err)
		}
		if c.V2Only {
			return
		}
		if accepted := err == nil; accepted != c.Accept {
			t.Fatalf("%s: accepted = %v, error %v", c.Why, accepted, err)
		}
		if err != nil {
			return
		}
		if got.Info.Hash.String() != c.Hash {
			t.Errorf("infohash: got %s, want %s", got.Info.Hash, c.Hash)
		}
		if c.Hash2 != "" && got.Info.Hash2.String() != c.Hash2 {
			t.Errorf("v2 infohash: got %s, want %s", got.Info.Hash2, c.Hash2)
		}
		if got.Info.HasV2 != (c.Hash2 != "") {
			t.Errorf("HasV2 = %v", got.Info.HasV2)
		}
		checkShown(t, got.Info, c.Tree)
		checkTree(t, got.Info)
	})
}

// checkInputError checks that a refusal is one printable line.
func checkInputError(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var input *InputError
	if !errors.As(err, &input) {
		t.Fatalf("error %v is a %T, not an *InputError", err, err)
	}
	if i := strings.IndexFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 || len(err.Error()) > 400 {
		t.Errorf("message is not one printable line: %q", err.Error())
	}
}

// checkShown checks that the tree shows exactly these files and links.
func checkShown(t *testing.T, i *Info, want []metainfotest.Entry) {
	t.Helper()
	tree := i.Tree()
	var got []metainfotest.Entry
	for n := range Node(tree.Len()) {
		if tree.IsDir(n) {
			continue
		}
		f := i.Files[tree.File(n)]
		got = append(got, metainfotest.Entry{
			Path: append([]string{i.Name}, tree.components(n)...), Size: f.Length, Symlink: f.Symlink,
		})
	}
	byPath := func(a, b metainfotest.Entry) int { return slices.Compare(a.Path, b.Path) }
	slices.SortFunc(got, byPath)
	want = slices.SortedFunc(slices.Values(want), byPath)
	for k := range want {
		want[k].SHA256 = "" // is not ours to know
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("shown: got %.500v\nwant %.500v", got, want)
	}
}

// checkTree checks what must hold for every tree.
func checkTree(t interface {
	Helper()
	Errorf(string, ...any)
	Fatalf(string, ...any)
}, i *Info,
) {
	t.Helper()
	tree := i.Tree()
	listed := 0
	for n := range Node(tree.Len()) {
		if !metainfotest.Invariant(tree.Name(n)) {
			t.Fatalf("entry %d is named %q", n, tree.Name(n))
		}
		seen := make(map[string]bool)
		for _, kid := range tree.Children(n) {
			listed++
			name := tree.Name(kid)
			if seen[name] {
				t.Errorf("%q stands twice in %q", name, tree.Path(n))
			}
			seen[name] = true
			if got, ok := tree.Lookup(n, name); !ok || got != kid || tree.Parent(kid) != n {
				t.Errorf("lookup of %q in %q: got %d %v, want %d", name, tree.Path(n), got, ok, kid)
			}
		}
		if _, ok := tree.Lookup(n, "no such name"); ok && !seen["no such name"] {
			t.Errorf("lookup found what is not there")
		}
		if tree.IsSymlink(n) {
			at := tree.components(tree.Parent(n))
			for name := range strings.SplitSeq(tree.Target(n), "/") {
				switch {
				case name == ".." && len(at) > 0:
					at = at[:len(at)-1]
				case name == ".":
				case !metainfotest.Invariant(name):
					t.Fatalf("link %q leads to %q", tree.Path(n), tree.Target(n))
				default:
					at = append(at, name)
				}
			}
		}
	}
	if listed != tree.Len()-1 {
		t.Errorf("%d entries are listed, of %d below the root", listed, tree.Len()-1)
	}
}

func TestAnInfoDictionaryFromAPeerGetsTheSameVerdict(t *testing.T) {
	crafted(t, false, func(t *testing.T, c metainfotest.Case) {
		if c.Big {
			return // refused by its size, which comes first
		}
		data := strings.TrimRight(string(c.Data()), "\n")
		if scan([]byte(data)) != nil || data[0] != 'd' {
			return // there is no info dictionary to send
		}
		var f [1]value
		if err := value(data).fields([]string{"info"}, f[:]); err != nil || f[0] == nil {
			return
		}
		got, err := ParseInfo(f[0])
		checkInputError(t, err)
		if accepted := err == nil; accepted != (c.Accept && !c.V2Only) {
			t.Fatalf("%s: accepted = %v, error %v", c.Why, accepted, err)
		}
		if err == nil && got.Hash.String() != c.Hash {
			t.Errorf("infohash: got %s, want %s", got.Hash, c.Hash)
		}
	})
}

func TestATorrentCutAnywhereIsRefused(t *testing.T) {
	crafted(t, false, func(t *testing.T, c metainfotest.Case) {
		if !c.Accept || len(c.Data()) > 10_000 {
			return
		}
		data := c.Data()
		end := len(strings.TrimRight(string(data), "\n"))
		for n := range end {
			if _, err := Parse(data[:n]); err == nil {
				t.Fatalf("accepted when cut to %d of %d bytes", n, len(data))
			}
		}
	})
}

func TestReadingCostsAtMostTenTimesTheInput(t *testing.T) {
	crafted(t, false, func(t *testing.T, c metainfotest.Case) { checkCost(t, c.Data()) })
	for name, data := range costly() {
		t.Run(name, func(t *testing.T) { checkCost(t, data) })
	}
}

// checkCost counts all that is allocated on the way, which is more than is
// ever alive at once.
func checkCost(t *testing.T, data []byte) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Parse(data)
	runtime.ReadMemStats(&after)
	checkInputError(t, err)
	got, limit := after.TotalAlloc-before.TotalAlloc, uint64(10*len(data)+1<<20)
	t.Logf("%d bytes: allocated %d, %.1f times, error %v", len(data), got, float64(got)/float64(len(data)+1), err)
	if got > limit {
		t.Errorf("%d bytes made us allocate %d, more than %d", len(data), got, limit)
	}
}

// costly are torrents made to need as much memory as they can, each near a
// bound of ours.
func costly() map[string][]byte {
	info := func(files string, length int) []byte {
		return fmt.Appendf(nil, "d4:infod5:filesl%se4:name1:t12:piece lengthi%de6:pieces20:%020dee", files, length, 0)
	}
	name := func(i int) string { // three bytes that are no digit
		return string([]byte{byte('A' + i/1024), byte('A' + i/32%32), byte('A' + i%32)})
	}
	cases := make(map[string][]byte)
	var b strings.Builder
	for i := range 30_000 {
		fmt.Fprintf(&b, "d6:lengthi1e4:pathl3:%see", name(i))
	}
	cases["many short names"] = info(b.String(), 1<<20)
	for _, depth := range []int{2, 4, 8, 99} {
		b.Reset()
		for i := range 30_000 {
			fmt.Fprintf(&b, "d6:lengthi1e4:pathl3:%s%see", name(i), strings.Repeat("1:d", depth-1))
		}
		cases[fmt.Sprintf("chains of %d directories of their own", depth)] = info(b.String(), 1<<20)
		b.Reset()
		for i := range 9_999 / depth {
			fmt.Fprintf(&b, "d6:lengthi1e4:pathl3:%s%see", name(i), strings.Repeat("1:d", depth))
		}
		cases[fmt.Sprintf("chains of %d directories within the free ones", depth)] = info(b.String(), 1<<20)
	}
	b.Reset()
	for i := range 60_000 {
		fmt.Fprintf(&b, "d6:lengthi1e4:pathl1:%c3:%see", 'a'+i%2, name(i/2))
	}
	cases["two directories in turn"] = info(b.String(), 1<<20)
	b.Reset()
	for i := range 30_000 {
		fmt.Fprintf(&b, "d4:attr1:l4:pathl3:%se12:symlink pathl3:%see", name(i), name((i+1)%30_000))
	}
	cases["links in a ring"] = info("d6:lengthi1e4:pathl1:aee"+b.String(), 1<<20)
	b.Reset()
	for i := range 30_000 {
		fmt.Fprintf(&b, "d4:attr1:l4:pathl3:%se12:symlink pathl1:aee", name(i))
	}
	cases["links to one file"] = info("d6:lengthi1e4:pathl1:aee"+b.String(), 1<<20)
	b.Reset()
	for i := range 4_000 {
		fmt.Fprintf(&b, "d4:attr1:l4:pathl%s3:%se12:symlink pathl1:aee", strings.Repeat("1:d", 90), name(i))
	}
	cases["links deep down"] = info("d6:lengthi1e4:pathl1:aee"+b.String(), 1<<20)

	root := func(key, item string) []byte {
		honest := metainfotest.Encode(metainfotest.Dict{"length": 1, "name": "t", "piece length": 1, "pieces": make([]byte, 20)})
		return fmt.Appendf(nil, "d4:info%s%d:%sl%see", honest, len(key), key, strings.Repeat(item, (maxOptional-2)/len(item)))
	}
	cases["a list of empty trackers"] = root("announce-list", "0:")
	cases["a list of empty tiers"] = root("announce-list", "le")
	cases["a list of web seeds"] = root("url-list", "10:http://a/b")
	cases["a list of nodes"] = root("nodes", "l1:hi1ee")
	cases["a list of dictionaries"] = root("nodes", "de")
	cases["a list of lists of lists"] = root("nodes", "llee")
	return cases
}

func TestEveryCraftedMagnetGetsItsVerdict(t *testing.T) {
	crafted(t, true, func(t *testing.T, c metainfotest.Case) {
		m, err := ParseMagnet(string(c.Data()))
		checkInputError(t, err)
		if accepted := err == nil; accepted != c.Accept {
			t.Fatalf("%s: accepted = %v, error %v", c.Why, accepted, err)
		}
		if err != nil {
			return
		}
		if m.HasV1 != (c.Hash != "") || m.HasV1 && m.Hash.String() != c.Hash {
			t.Errorf("infohash: got %v %s, want %q", m.HasV1, m.Hash, c.Hash)
		}
		if m.HasV2 != (c.Hash2 != "") || m.HasV2 && m.Hash2.String() != c.Hash2 {
			t.Errorf("v2 infohash: got %v %s, want %q", m.HasV2, m.Hash2, c.Hash2)
		}
	})
}
