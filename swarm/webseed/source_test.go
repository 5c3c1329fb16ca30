package webseed

import (
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"swarmfs/metainfo"
)

// single and multi are torrents without hashes: a Source needs none.
func single(name string, length int64) *metainfo.Info {
	return &metainfo.Info{Name: name, PieceLength: 64 << 10, Length: length, SingleFile: true, Files: []metainfo.File{{Length: length}}}
}

func multi(name string, files ...metainfo.File) *metainfo.Info {
	info := &metainfo.Info{Name: name, PieceLength: 64 << 10}
	for _, f := range files {
		f.Offset = info.Length
		info.Length += f.Length
		info.Files = append(info.Files, f)
	}
	return info
}

func source(t testing.TB, kind Kind, base string, info *metainfo.Info) *Source {
	t.Helper()
	s, err := NewSource(kind, base, info)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestURLsOfFiles(t *testing.T) {
	one := single("a film.mkv", 10)
	many := func(path ...string) *metainfo.Info { return multi("my dir", metainfo.File{Path: path, Length: 10}) }
	for _, tc := range []struct {
		base string
		info *metainfo.Info
		want string
	}{
		{"http://h/other%20name.mkv", one, "http://h/other%20name.mkv"},
		{"http://h/dir/", one, "http://h/dir/a%20film.mkv"},
		{"http://h", one, "http://h"},
		{"http://h/", one, "http://h/a%20film.mkv"},
		{"http://h/x#frag", one, "http://h/x"},
		{"https://h:8443/get.php?key=1", one, "https://h:8443/get.php?key=1"},
		{"http://u:pw@h/d/", one, "http://u:pw@h/d/a%20film.mkv"},

		{"http://h/pub", many("x"), "http://h/pub/my%20dir/x"},
		{"http://h/pub/", many("x"), "http://h/pub/my%20dir/x"},
		{"http://h/pub/", many("sub", "x y"), "http://h/pub/my%20dir/sub/x%20y"},
		{"http://h/", many("..%2f..%2fetc", "a?b#c;d&e=f+g"), "http://h/my%20dir/..%252f..%252fetc/a%3Fb%23c%3Bd%26e%3Df%2Bg"},
		{"http://h/", many(`..\..`, "\x00\n\xff"), "http://h/my%20dir/..%5C../%00%0A%FF"},
		{"http://h/", many("Žluťoučký", "日本"), "http://h/my%20dir/%C5%BDlu%C5%A5ou%C4%8Dk%C3%BD/%E6%97%A5%E6%9C%AC"},
		{"http://h/", many("a:b@c", "~-._"), "http://h/my%20dir/a%3Ab%40c/~-._"},
	} {
		p := source(t, Files, tc.base, tc.info).Part(0, 10)
		if p.URL != tc.want {
			t.Errorf("%s with %q: got %s, want %s", tc.base, tc.info.Files[0].Path, p.URL, tc.want)
		}
	}
}

func TestWhatIsNoWebSeed(t *testing.T) {
	for _, u := range []string{"file:///etc/passwd", "ftp://h/x", "http://", "http:///x", "http://xn--e1afmkfd/x", "http://hé/x", "://", "http://h/%zz"} {
		if _, err := NewSource(Files, u, single("x", 1)); err == nil {
			t.Errorf("%s is taken", u)
		} else if strings.Contains(err.Error(), u) {
			t.Errorf("%s: the error repeats it: %v", u, err)
		}
	}
}

// The parts of a range follow each other, lie in one file each, are never of an
// empty one, and padding has no URL.
func TestPartsCoverARange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var files []metainfo.File
		for i := range rapid.IntRange(1, 12).Draw(t, "files") {
			files = append(files, metainfo.File{
				Path:   []string{string(rune('a' + i))},
				Length: rapid.SampledFrom([]int64{0, 0, 1, 16 << 10, 64 << 10, 200_000}).Draw(t, "length"),
				Pad:    rapid.Bool().Draw(t, "pad"),
			})
		}
		info := multi("dir", files...)
		if info.Length == 0 {
			return
		}
		s := &Source{kind: Files, base: "http://h/", info: info, layout: info.Layout()}
		off := rapid.Int64Range(0, info.Length-1).Draw(t, "off")
		end := rapid.Int64Range(off+1, info.Length).Draw(t, "end")
		for off < end {
			p := s.Part(off, end)
			f := info.Files[p.File]
			switch {
			case p.Len() <= 0 || p.From < 0 || p.To > f.Length || p.Size != f.Length:
				t.Fatalf("part at %d: %+v of a file of %d bytes", off, p, f.Length)
			case f.Offset+p.From != off:
				t.Fatalf("part at %d begins at %d", off, f.Offset+p.From)
			case f.Pad != (p.URL == ""):
				t.Fatalf("part at %d: padding %v, URL %q", off, f.Pad, p.URL)
			}
			off += p.Len()
		}
		if off != end {
			t.Fatalf("parts end at %d, not %d", off, end)
		}
	})
}

func TestPartsOfPieces(t *testing.T) {
	info := single("x", 100_000)
	copy(info.Hash[:], "\x00\x01 &%abcdefghijklmnop")
	for _, tc := range []struct {
		base     string
		off, end int64
		want     string
		n        int64
	}{
		{"http://h/seed.php", 0, 100_000, "http://h/seed.php?info_hash=%00%01%20%26%25abcdefghijklmno&piece=0&ranges=0-65535", 65536},
		{"http://h/seed.php?k=1", 70_000, 80_000, "http://h/seed.php?k=1&info_hash=%00%01%20%26%25abcdefghijklmno&piece=1&ranges=4464-14463", 10_000},
		{"http://h/seed.php", 70_000, 100_000, "http://h/seed.php?info_hash=%00%01%20%26%25abcdefghijklmno&piece=1&ranges=4464-34463", 30_000},
	} {
		p := source(t, Pieces, tc.base, info).Part(tc.off, tc.end)
		if p.URL != tc.want || p.Len() != tc.n {
			t.Errorf("[%d, %d): got %d bytes of %s, want %d of %s", tc.off, tc.end, p.Len(), p.URL, tc.n, tc.want)
		}
	}
}

// Whatever a file is called, its URL stays below the folder that the torrent named,
// on the same host.
func FuzzNamesStayNames(f *testing.F) {
	f.Add("..", "a/b?c#d")
	f.Add("%2e%2e", "\\..\\")
	f.Fuzz(func(t *testing.T, dir, name string) {
		if dir == "." || dir == ".." || name == "." || name == ".." || strings.Contains(dir+name, "/") || dir == "" || name == "" {
			return // metainfo refuses them
		}
		p := source(t, Files, "http://host:81/pub/", multi(dir, metainfo.File{Path: []string{name}, Length: 1})).Part(0, 1)
		u, err := url.Parse(p.URL)
		if err != nil {
			t.Fatal(err)
		}
		if u.Host != "host:81" || u.RawQuery != "" || u.Fragment != "" || u.Path != "/pub/"+dir+"/"+name {
			t.Fatalf("names %q and %q: %s", dir, name, p.URL)
		}
	})
}
