package metainfotest

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"math"
	"strings"
)

func (s *set) bencode() {
	add := func(name string, data []byte, why string) *Case { return s.reject("bencode", name, data, why) }
	length := func(to string) []byte {
		return bytes.Replace(one("one.bin", 40000, V1).Bytes(), []byte("6:lengthi40000e"), []byte("6:length"+to), 1)
	}
	add("bad-empty", nil, "an empty file")
	add("bad-html", []byte("<!DOCTYPE html><html><body>404 Not Found</body></html>\n"),
		"an error page saved as a .torrent")
	whole := base(V1).Bytes()
	add("bad-truncated", whole[:max(0, len(whole)-300)], "cut off")
	add("bad-nest-list-1m", bytes.Repeat([]byte("l"), 1000000), "one million open lists: recursion bomb")
	add("bad-nest-closed-100k",
		base(V1).with(Dict{"x": Raw(strings.Repeat("l", 100000) + strings.Repeat("e", 100000))}).Bytes(),
		"a well-formed 100000-deep list under an unknown info key: skipping it must not recurse")
	add("bad-strlen-overflow", []byte("d4:info99999999999999999999:abce"), "a string length over 64 bits")
	add("bad-strlen-4g", []byte("d4:infod4:name4294967295:abcee"),
		"a string length of 4 GiB in a 30-byte file: must not allocate by the claim")
	add("bad-int-overflow", length("i99999999999999999999e"), "length does not fit in 64 bits")
	add("bad-int-empty", length("ie"), "ie")
	root := base(V1)
	add("bad-root-list", Encode(List{root.Root}), "the root is a list")
	add("bad-root-int", []byte("i42e"), "the root is an integer")
}

func (s *set) structure() {
	add := func(name string, t *Torrent, why string) *Case {
		return s.reject("structure", name, t.Bytes(), why)
	}
	pieces := base(V1).Info["pieces"].([]byte)
	zeros := func(n int) []byte { return make([]byte, n) }
	s.reject("structure", "bad-no-info", Encode(base(V1).Root), "no info dictionary")
	s.reject("structure", "bad-info-string", Encode(base(V1).withRoot(Dict{"info": "hello"}).Root), "info is a string")
	add("bad-no-name", base(V1).without("name"), "no name").should()
	add("bad-name-int", base(V1).with(Dict{"name": 7}), "name is an integer")
	add("bad-pieces-missing", base(V1).without("pieces"), "neither pieces nor a v2 file tree")
	add("bad-pieces-unaligned", base(V1).with(Dict{"pieces": append(bytes.Clone(pieces), "xxxxxxx"...)}),
		"pieces is not a multiple of 20 bytes")
	add("bad-pieces-few", base(V1).with(Dict{"pieces": pieces[:len(pieces)-20]}),
		"fewer hashes than the length needs: the last piece would be read unverified")
	add("bad-pieces-many", base(V1).with(Dict{"pieces": append(bytes.Clone(pieces), zeros(200)...)}),
		"ten hashes more than the length needs")
	add("bad-piece-length-missing", base(V1).without("piece length"), "no piece length")
	add("bad-piece-length-zero", base(V1).with(Dict{"piece length": 0}), "piece length 0: division by zero")
	add("bad-piece-length-negative", base(V1).with(Dict{"piece length": -16384}), "piece length below zero")
	add("bad-piece-length-2e62", base(V1).with(Dict{"piece length": 1 << 62, "pieces": zeros(20)}),
		"one piece of 2^62 bytes: a buffer of that size must never be asked for")
	add("bad-length-negative", one("one.bin", 40000, V1).with(Dict{"length": -1, "pieces": zeros(20)}), "length below zero")
	add("bad-length-max", one("one.bin", 40000, V1).with(Dict{"length": math.MaxInt64, "pieces": zeros(20)}),
		"length 2^63-1 with one hash: rounding up to pieces overflows")
	files := func(list ...any) *Torrent { return base(V1).with(Dict{"files": List(list)}) }
	path := func(names ...string) []string { return append([]string{}, names...) }
	add("bad-total-overflow", files(
		Dict{"length": math.MaxInt64, "path": path("a")},
		Dict{"length": math.MaxInt64, "path": path("b")},
		Dict{"length": 16386, "path": path("c")}).with(Dict{"pieces": zeros(20)}),
		"the sum of the lengths wraps round to 16384 in 64 bits")
	add("bad-files-empty", files().with(Dict{"pieces": zeros(20)}), "no files")
	add("bad-file-no-path", files(Dict{"length": 45000}), "a file without path")
	add("bad-path-empty-list", files(Dict{"length": 45000, "path": path()}),
		"a path of no components names the directory itself")
	add("bad-path-string", files(Dict{"length": 45000, "path": "a.bin"}), "path is a string, not a list")
	add("bad-file-no-length", files(Dict{"path": path("a.bin")}, Dict{"length": 45000, "path": path("b")}),
		"a file without length")
	add("bad-length-and-files", base(V1).with(Dict{"length": 45000}),
		"both length and files: two readings of one infohash").should()
	add("bad-zero-total", one("one.bin", 40000, V1).with(Dict{"length": 0, "pieces": ""}),
		"a v1 torrent of no bytes and no pieces").should()
	add("bad-pieces-list", base(V1).with(Dict{"pieces": List{zeros(20), zeros(20), zeros(20)}}), "pieces is a list")
}

func (s *set) paths() {
	add := func(name string, t *Torrent, why string) *Case { return s.reject("path", name, t.Bytes(), why) }
	file := func(path string) *Torrent { return dir("t", F(path, 40000)) }
	comp := func(names ...string) *Torrent { return dir("t", File{Path: names, Size: 40000}) }
	link := func(target ...string) *Torrent {
		return dir("t", F("a.bin", 40000), File{Path: []string{"link"}, Attr: "l", Symlink: target})
	}
	add("bad-name-dotdot", dir("..", F("a.bin", 40000)), "the directory's name is '..'")
	add("bad-name-traverse", one("../../etc/cron.d/x", 40000, V1), "name climbs out of the mount")
	add("bad-name-absolute", one("/etc/passwd", 40000, V1), "name is an absolute path")
	add("bad-name-slash", one("dir/file.bin", 40000, V1), "a single file whose name holds a slash")
	add("bad-name-empty", dir("", F("a.bin", 40000)), "an empty name").should()
	add("bad-name-nul", one("a.bin\x00.txt", 40000, V1), "NUL in the name")
	add("bad-path-dotdot", file("../../etc/passwd"), "a path that climbs out")
	add("bad-path-mid-dotdot", file("a/../../../x"), "'..' after an honest directory")
	add("bad-path-slash-in-component", comp("a/../../../x"), "the climb is hidden inside one component")
	add("bad-path-absolute", comp("/etc", "passwd"), "a component that starts at the root")
	add("bad-path-nul", comp("ok\x00/../x"), "NUL inside a component")
	add("bad-path-repeated", dir("t", File{Path: []string{"same"}, Size: 20000, Data: Payload("x", 20000)}, F("same", 30000)),
		"two files of one path").should()
	add("bad-path-file-and-dir", dir("t", F("a", 20000), F("a/b", 20000)), "'a' is a file and also a directory").should()
	add("bad-depth-5000", file(strings.Repeat("d/", 5000)+"f"), "a directory 5000 levels deep")
	add("bad-symlink-escape", link("..", "..", "..", "etc", "shadow"), "a BEP 47 symlink that leaves the torrent").should()
	add("bad-symlink-absolute", link("", "etc", "shadow"), "a BEP 47 symlink to an absolute path").should()
}

func (s *set) v2() {
	add := func(name string, t *Torrent, why string) *Case { return s.reject("v2", name, t.Bytes(), why) }
	v2 := func() *Torrent { return one("v2.bin", 100000, V2) }
	small := func() *Torrent { return one("one.bin", 40000, V2) }
	leaf := func(l Dict) *Torrent {
		return v2().with(Dict{"file tree": Dict{"v2.bin": Dict{"": l}}})
	}
	layer := func(change func([]byte) []byte) *Torrent {
		t := v2()
		layers := t.Root["piece layers"].(Dict)
		for k, v := range layers {
			layers[k] = change(bytes.Clone(v.([]byte)))
		}
		return t
	}
	add("bad-v2-version-3", base(V2).with(Dict{"meta version": 3}), "an unknown meta version").should()
	add("bad-v2-root-short", leaf(Dict{"length": 100000, "pieces root": strings.Repeat("\x11", 31)}),
		"pieces root of 31 bytes")
	add("bad-v2-root-missing", leaf(Dict{"length": 100000}),
		"a file with bytes but no pieces root: nothing to verify against")
	add("bad-v2-layer-missing", v2().withRoot(Dict{"piece layers": Dict{}}),
		"no piece layer for a file of many pieces").should()
	add("bad-v2-layer-mismatch", layer(func(b []byte) []byte { clear(b[32:64]); return b }),
		"the piece layer does not hash to the pieces root")
	add("bad-v2-layer-unaligned", layer(func(b []byte) []byte { return b[:len(b)-5] }),
		"a piece layer that is not a multiple of 32 bytes")
	add("bad-v2-tree-dotdot", New(Spec{Name: "t", Files: []File{F("../../x", 40000)}, Mode: V2}),
		"'..' as a key of the file tree")
	add("bad-v2-tree-slash", New(Spec{Name: "t", Files: []File{{Path: []string{"a/b"}, Size: 40000}}, Mode: V2}),
		"a slash in a key of the file tree").should()
	add("bad-v2-piece-length-odd", small().with(Dict{"piece length": 50000}), "v2 piece length not a power of two")
	add("bad-v2-piece-length-small", small().with(Dict{"piece length": 4096}), "v2 piece length under 16 KiB")
	add("bad-v2-tree-deep",
		small().with(Dict{"file tree": Raw(strings.Repeat("d1:d", 20000) + "de" + strings.Repeat("e", 20000))}),
		"a file tree 20000 levels deep")
	add("bad-v2-tree-empty", small().with(Dict{"file tree": Dict{}}), "an empty file tree")
	h := base(Hybrid)
	h.Info["files"].(List)[0].(Dict)["length"] = 39999
	add("bad-hybrid-size-differs", h, "the v1 and the v2 view give a file different sizes")
	h = base(Hybrid)
	h.Info["files"].(List)[0].(Dict)["path"] = []string{"other.bin"}
	add("bad-hybrid-name-differs", h, "the v1 and the v2 view give a file different names").should()
}

func (s *set) sizes() {
	c := s.reject("size", "bad-1m-files", nil, "one million files in a 30 MB torrent").should()
	c.Big = true
	c.data = func() []byte { return ManyEmptyFiles(1_000_000) }
	c = s.reject("size", "bad-64mb-padding", nil, "a 64 MiB junk key round an honest info").should()
	c.Big = true
	c.data = func() []byte {
		return Encode(Dict{
			"announce": "http://tracker.invalid/a", "zz": make([]byte, 64<<20),
			"info": one("one.bin", 40000, V1).Info,
		})
	}
}

// ManyEmptyFiles returns a torrent of one byte and up to a million files of
// none, in as few bytes as that can be said.
func ManyEmptyFiles(n int) []byte {
	var b bytes.Buffer
	b.WriteString("d4:infod5:filesld6:lengthi1e4:pathl1:xee")
	entry := []byte("d6:lengthi0e4:pathl6:000000ee")
	for range n {
		b.Write(entry)
		for k := len(entry) - len("0ee"); ; k-- { // count up in place: a million are quick even with the race detector
			if entry[k]++; entry[k] <= '9' || entry[k-1] == ':' {
				break
			}
			entry[k] = '0'
		}
	}
	h := sha1.Sum([]byte("x"))
	fmt.Fprintf(&b, "e4:name1:t12:piece lengthi16384e6:pieces20:%see", h[:])
	return b.Bytes()
}
