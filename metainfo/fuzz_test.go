package metainfo

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/anacrolix/torrent/bencode"

	"swarmfs/metainfo/metainfotest"
)

// seed adds the crafted torrents that are small.
func seed(f *testing.F, add func(c metainfotest.Case)) {
	for _, c := range metainfotest.Cases() {
		if !c.Big && len(c.Data()) < 20_000 {
			add(c)
		}
	}
}

// checkInfo checks what must hold for whatever was accepted.
func checkInfo(t *testing.T, i *Info) {
	t.Helper()
	l := i.Layout()
	if l.PieceLength < 1 || l.PieceLength > MaxPieceLength || l.Length < 1 || len(i.PieceSums()) != 20*l.NumPieces() {
		t.Fatalf("layout %+v with %d bytes of hashes", l, len(i.PieceSums()))
	}
	var end int64
	for _, f := range i.Files {
		if f.Offset != end || f.Length < 0 || f.Symlink != nil && f.Length != 0 {
			t.Fatalf("file %+v does not follow %d", f, end)
		}
		end += f.Length
	}
	if end != i.Length || i.SingleFile != (i.Files[0].Path == nil && !i.Files[0].Pad) {
		t.Fatalf("files end at %d of %d", end, i.Length)
	}
	checkTree(t, i)
}

func FuzzParse(f *testing.F) {
	seed(f, func(c metainfotest.Case) { f.Add(c.Data()) })
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Parse(data)
		checkInputError(t, err)
		if err != nil {
			return
		}
		checkInfo(t, got.Info)
		out, err := got.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("what Marshal wrote: %v", err)
		}
		checkSame(t, again, got)
	})
}

func FuzzParseInfo(f *testing.F) {
	seed(f, func(c metainfotest.Case) {
		if got, err := Parse(c.Data()); err == nil {
			f.Add(got.Info.Raw)
		}
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseInfo(data)
		checkInputError(t, err)
		_, err2 := Parse(append(append([]byte("d4:info"), data...), 'e'))
		if (err == nil) != (err2 == nil) {
			t.Fatalf("from a peer: %v; from a file: %v", err, err2)
		}
		if err == nil {
			checkInfo(t, got)
			if !bytes.Equal(got.Raw, data) {
				t.Fatal("Raw is not the dictionary as it stood")
			}
		}
	})
}

func FuzzParseMagnet(f *testing.F) {
	seed(f, func(c metainfotest.Case) {
		if c.Group == "magnet" {
			f.Add(string(c.Data()))
		}
	})
	f.Add("magnet:?xt=urn:btih:" + hex1 + "&so=1-5,9&x.pe=[fe80::1%25eth0]:1")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseMagnet(s)
		checkInputError(t, err)
		if err != nil {
			return
		}
		again, err := ParseMagnet(got.String())
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("%s: got %+v, error %v, want %+v", got, again, err, got)
		}
	})
}

// The tree is built from paths that the input spells: one path a line, names
// parted by slashes, a link's target behind a ">".
func FuzzTree(f *testing.F) {
	f.Add([]byte("a/b/c\na/b\x00d\nx>a/b/c"))
	f.Add([]byte("a\na/b"))
	f.Add([]byte("l>m\nm>l\nn>o\no"))
	f.Add([]byte("../../x\n/etc"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var files list
		split := func(b []byte) (names list) {
			for name := range bytes.SplitSeq(b, []byte("/")) {
				names = append(names, name)
			}
			return names
		}
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			path, target, isLink := bytes.Cut(line, []byte(">"))
			file := dict{"length": 0, "path": split(path)}
			if isLink {
				file["attr"], file["symlink path"] = "l", split(target)
			}
			files = append(files, file)
		}
		files = append(files, dict{"length": 1, "attr": "p"})
		got, err := ParseInfo(metainfotest.Encode(dict{
			"files": files, "name": "t", "piece length": 1, "pieces": make([]byte, 20),
		}))
		checkInputError(t, err)
		if err == nil {
			checkInfo(t, got)
		}
	})
}

// What scan passes, the library must decode without a panic and without
// finding fault, or value and the library would read two torrents.
func FuzzScan(f *testing.F) {
	seed(f, func(c metainfotest.Case) { f.Add(c.Data()) })
	f.Fuzz(func(t *testing.T, data []byte) {
		if scan(data) != nil {
			return
		}
		if span(value(data)) != len(data) {
			t.Fatalf("span %d of %d bytes", span(value(data)), len(data))
		}
		d := bencode.NewDecoder(bytes.NewReader(data))
		d.MaxDepth = maxDepth
		var x any
		if err := d.Decode(&x); err != nil {
			// Keys out of order are none of scan's business: makers write them.
			if !strings.Contains(err.Error(), "unsorted") {
				t.Fatalf("library: %v", err)
			}
		}
		_ = walk(data)
	})
}
