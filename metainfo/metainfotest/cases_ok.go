package metainfotest

import (
	"fmt"
	"strings"
)

func (s *set) legalLayouts() {
	s.accept("ok-single", one("one.bin", 40000, V1), "a plain v1 single file")
	s.accept("ok-multi", base(V1), "a plain v1 directory")
	s.accept("ok-single-as-list", dir("t", F("only.bin", 40000)), "a files list of one")
	s.accept("ok-exact-multiple", one("exact.bin", 4*Block, V1),
		"the last piece is exactly full: no piece of length zero at the end")
	s.accept("ok-one-byte", one("tiny.bin", 1, V1), "one byte in all")
	s.accept("ok-piece-length-1", New(Spec{Name: "p1.bin", Files: []File{{Size: 64}}, Single: true, PieceLength: 1}),
		"64 pieces of one byte")
	s.accept("ok-piece-length-50000",
		New(Spec{Name: "base", Files: []File{F("a.bin", 120000), F("d/b.bin", 5000)}, PieceLength: 50000}),
		"v1 piece length that is neither a power of two nor a multiple of 16 KiB")
	s.accept("ok-piece-length-16m",
		New(Spec{Name: "p16m.bin", Files: []File{{Size: 40000}}, Single: true, PieceLength: 16 << 20}),
		"16 MiB pieces, one short piece")
	s.accept("ok-file-shares-piece", dir("t", numbered("f%02d", 40, func(i int) int { return 1000 + i })...),
		"40 files in three pieces: reads of one file need pieces of its neighbours")
	s.accept("ok-zero-length-files",
		dir("t", F("0-first", 0), F("a.bin", 20000), F("e/mid", 0), F("b.bin", 20000), F("z-last", 0)),
		"empty files at the start, in the middle and at the end")
	s.accept("ok-mostly-empty", dir("t", append(numbered("e%03d", 200, func(int) int { return 0 }), F("data", 10))...),
		"200 empty files and one of ten bytes")
	s.accept("ok-many-files", ManyFiles(20000), "20000 small files in 200 directories")
	s.accept("ok-wide-dir", dir("t", numbered("f%05d", 10000, func(int) int { return 1 })...),
		"10000 files in one directory")
	s.accept("ok-depth-60", dir("t", F(strings.Repeat("d/", 60)+"f", 40000)), "60 levels deep")

	huge := dir("huge", F("small", 10))
	n := (1 << 40) / (64 << 20)
	huge.with(Dict{
		"piece length": 64 << 20, "pieces": Payload("huge", 20*(n+1)),
		"files": List{
			Dict{"length": 1 << 40, "path": []string{"big.img"}},
			Dict{"length": 10, "path": []string{"end"}},
		},
	})
	s.accept("ok-1tib", huge, "a file of 1 TiB, which nobody has: offsets beyond 32 bits").
		Tree = []Entry{{Path: []string{"huge", "big.img"}, Size: 1 << 40}, {Path: []string{"huge", "end"}, Size: 10}}
}

func numbered(format string, n int, size func(int) int) []File {
	files := make([]File, n)
	for i := range files {
		files[i] = F(fmt.Sprintf(format, i), size(i))
	}
	return files
}

// ManyFiles returns a torrent of n files of 0 to 2 bytes, a hundred in a
// directory.
func ManyFiles(n int) *Torrent {
	files := make([]File, n)
	for i := range files {
		files[i] = F(fmt.Sprintf("d%03d/f%05d", i/100, i), i%3)
	}
	return dir("t", files...)
}

func (s *set) legalNames() {
	s.accept("ok-unicode-nfc-nfd", dir("\u00dcn\u00ef", F("caf\u00e9.txt", 20000), F("cafe\u0301.txt", 20000)),
		"one name composed, one decomposed: two files, bytes kept as they are")
	s.accept("ok-emoji-cjk", dir("\u6620\u753b \U0001f3ac", F("\u7b2c1\u8a71/\U0001f4c0.mkv", 40000)),
		"non-Latin names and characters beyond the BMP")
	s.accept("ok-name-255", dir("t", F(strings.Repeat("n", 251)+".bin", 40000)), "a component of exactly 255 bytes")
	s.accept("ok-case-twins", dir("t", F("Readme", 20000), F("README", 20000), F("readme", 20000)),
		"names that differ in case only: three files here")
	s.accept("ok-hidden", dir(".hid", F(".a", 20000), F(".d/..b", 20000), F("...", 10)),
		"leading dots, and '...' which is an honest name")
	const gbkName, gbkFile = "\xd6\xd0\xce\xc4", "\xce\xc4\xbc\xfe.txt"
	s.accept("ok-utf8-keys", dir("\u4e2d\u6587", F("\u6587\u4ef6.txt", 40000)).
		with(Dict{
			"name": gbkName, "name.utf-8": "\u4e2d\u6587",
			"files": List{Dict{"length": 40000, "path": []string{gbkFile}, "path.utf-8": []string{"\u6587\u4ef6.txt"}}},
		}).withRoot(Dict{"encoding": "GBK"}),
		"GBK names with .utf-8 twins: the .utf-8 ones are shown")
	s.accept("ok-newline-name", dir("t", F("two\nlines\t\x1b[31mred", 40000), F("-rf", 20)),
		"control characters and a leading dash: legal POSIX names")
	s.accept("ok-backslash", dir("t", F("..\\..\\x.bin", 40000)), "backslashes are no separators here").should()
	s.accept("ok-twin-a", dir("twins", F("same.bin", 40000)), "the first of two torrents of one name")
	s.accept("ok-twin-b", dir("twins", F("same.bin", 41000)), "the second of two torrents of one name")
}

func (s *set) legalRoots() {
	t := base(V1)
	unsorted := Encode(Pairs{
		{"info", Raw(t.InfoBytes())},
		{"announce", "http://tracker.invalid/announce"},
		{"zz", 1},
		{"creation date", 1300000000},
	})
	s.accept("ok-unsorted-root", t, "root keys out of order, as some makers write them").data = bytesOf(unsorted)
	t = one("one.bin", 40000, V1)
	t.InfoOrder = []string{"pieces", "name", "piece length", "length"}
	s.accept("ok-unsorted-info", t, "info keys out of order: the infohash is of the bytes as they stand").should()
	s.accept("ok-unknown-info-keys", base(V1).with(Dict{
		"source": "XYZ", "x_cross_seed": "\xff\xfe", "profiles": List{Dict{"w": 1}}, "ttg_tag": "a",
	}), "unknown info keys: part of the infohash, else ignored")
	s.accept("ok-no-announce", base(V1).withoutAnnounce(), "no tracker at all")

	root := func(name string, keys Dict, why string) { s.accept(name, base(V1).withRoot(keys), why) }
	root("ok-announce-empty", Dict{"announce": ""}, "announce is the empty string")
	root("ok-announce-list-empty-tiers",
		Dict{"announce-list": List{List{}, List{""}, List{"http://tracker.invalid/announce"}, List{}}},
		"announce-list with empty tiers and an empty URL")
	root("ok-announce-odd-schemes", Dict{"announce": "file:///etc/passwd", "announce-list": List{List{
		"gopher://127.0.0.1/", "unix:/run/x.sock", "javascript:alert(1)", "//nohost", "http://", "udp://tracker.invalid",
	}}}, "tracker URLs of strange schemes: the torrent loads, those URLs are dropped")
	root("ok-url-list-string", Dict{"url-list": "http://seed.invalid/files/"}, "url-list as a string")
	root("ok-url-list-list", Dict{"url-list": []string{"http://seed.invalid/a/", "http://seed.invalid/b/"}}, "url-list as a list")
	root("ok-url-list-empty", Dict{"url-list": ""}, "url-list as an empty string")
	root("ok-httpseeds", Dict{"httpseeds": []string{"http://seed.invalid/seed.php"}}, "BEP 17 httpseeds")
	s.accept("ok-nodes", base(V1).withoutAnnounce().withRoot(Dict{"nodes": List{
		List{"127.0.0.1", 6881},
		List{"router.invalid", 6881},
		List{"::1", 70000},
		List{"x"},
		5,
	}}), "BEP 5 nodes, some of them broken: the good ones are used")
	s.accept("ok-private", base(V1).with(Dict{"private": 1}), "private: no DHT, no PEX, no LSD")
	t = base(V1)
	newline := append(t.Bytes(), '\n')
	s.accept("ok-trailing-newline", t, "one newline after the end, as left by editors and shells").should().data = bytesOf(newline)
}

func (s *set) legalExtras() {
	pad := File{Path: []string{".pad", "12768"}, Size: 12768, Attr: "p"}
	s.accept("ok-pad-files", dir("t", F("a.bin", 20000), pad, F("b.bin", 20000)),
		"a BEP 47 pad file: takes its place in the pieces, not in the directory")
	s.accept("ok-pad-bitcomet", dir("t", F("a.bin", 20000), File{
		Path: []string{"_____padding_file_0_if you see this file, please update to BitComet 0.85 or above____"},
		Size: 12768, Data: make([]byte, 12768),
	}, F("b.bin", 20000)), "an old BitComet pad file without attr: an ordinary file").should()
	s.accept("ok-pad-repeated", dir("t", F("a.bin", 20000), pad, F("b.bin", 20000), pad, F("c.bin", 20000)),
		"two pad files of one path: no name clash, as neither is shown")
	attr := func(name string, size int, a string) File { return File{Path: []string{name}, Size: size, Attr: a} }
	s.accept("ok-attr-xh",
		dir("t", attr("run.sh", 20000, "x"), attr("hid", 20000, "h"), attr("both", 20, "hx"), attr("q", 20, "?zz")),
		"attr executable, hidden and unknown letters")
	s.accept("ok-symlink-inside",
		dir("t", F("d/real.bin", 40000), File{Path: []string{"link"}, Attr: "l", Symlink: []string{"d", "real.bin"}}),
		"a symlink to a file of the same torrent").should()
	s.accept("ok-file-hashes", dir("t", File{Path: []string{"a.bin"}, Size: 20000, Extra: Dict{
		"md5sum": strings.Repeat("0", 32), "sha1": strings.Repeat("\x01", 20), "ed2k": strings.Repeat("\x02", 16), "mtime": 1,
	}}), "per-file hashes that do not match: informational, never a reason to refuse")

	v2 := func(m Mode, pieceLength int, name string, files ...File) *Torrent {
		return New(Spec{Name: name, Files: files, Mode: m, PieceLength: pieceLength})
	}
	s.accept("ok-v2-single", one("v2.bin", 100000, V2), "BEP 52 v2 only, one file of many pieces")
	s.accept("ok-v2-multi", v2(V2, 0, "v2", F("a", 100000), F("d/b", 5), F("d/e", 0), F("z", 16384)),
		"v2 only: small, empty and exact files")
	s.accept("ok-v2-piece-1m", v2(V2, 1<<20, "v2", F("a", 3<<20), F("b", 1<<20), F("c", 1<<20+1)),
		"v2 with 1 MiB pieces: files of several, exactly one, and one byte over one piece")
	s.accept("ok-hybrid-single", one("hy.bin", 100000, Hybrid), "a hybrid of one file")
	s.accept("ok-hybrid-multi", v2(Hybrid, 0, "hy", F("a", 100000), F("d/b", 5), F("z", 16384)),
		"a hybrid with pad files between")
}

func (s *set) magnets() {
	const (
		h1 = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a"
		h2 = "1220caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e"
		v1 = "magnet:?xt=urn:btih:"
	)
	ok := func(name, link, why string) *Case {
		c := s.magnet(name, link, true, why)
		c.Hash = h1
		return c
	}
	ok("ok-hex", v1+h1, "forty hex digits")
	ok("ok-upper", v1+strings.ToUpper(h1)+"&dn=Name", "upper-case hex is the same torrent")
	ok("ok-base32", v1+"YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK", "base32, the same infohash as ok-hex")
	c := ok("ok-v2", "magnet:?xt=urn:btmh:"+h2, "a v2 multihash").should()
	c.Hash, c.Hash2 = "", h2[4:]
	ok("ok-hybrid", v1+h1+"&xt=urn:btmh:"+h2, "both hashes of a hybrid").Hash2 = h2[4:]
	ok("ok-numbered", "magnet:?xt.1=urn:btih:"+h1+"&tr.1=http%3A%2F%2Ftracker.invalid%2Fa", "numbered parameters").should()
	ok("ok-rich", v1+h1+"&dn=a%20b+c&tr=udp%3A%2F%2Ftracker.invalid%3A80&tr=http://tracker.invalid/a"+
		"&x.pe=127.0.0.1:6881&x.pe=[::1]:6881&ws=http%3A%2F%2Fseed.invalid%2F&so=0,2,4-6&xl=10",
		"every common parameter at once")
	ok("ok-dn-traversal", v1+h1+"&dn=..%2F..%2Fetc%2Fpasswd", "dn is only for display")
	s.magnet("bad-no-xt", "magnet:?dn=hello", false, "no hash")
	s.magnet("bad-short", v1+h1[:39], false, "39 hex digits")
	s.magnet("bad-nonhex", v1+strings.Repeat("z", 40), false, "forty letters that are not hex")
	s.magnet("bad-scheme", "http://example.invalid/?xt=urn:btih:"+h1, false, "not a magnet link")
}
