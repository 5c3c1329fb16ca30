package metainfo

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"swarmfs/metainfo/metainfotest"
)

func hybrid(files ...metainfotest.File) *metainfotest.Torrent {
	return metainfotest.New(metainfotest.Spec{Name: "h", Files: files, Mode: metainfotest.Hybrid})
}

// fileTree returns a torrent's v2 tree, to be bent.
func fileTree(t *metainfotest.Torrent) dict { return t.Info["file tree"].(dict) }

func TestAHybridIsReadOnlyIfItsViewsAgree(t *testing.T) {
	f := metainfotest.F
	link := func(target ...string) metainfotest.File {
		return metainfotest.File{Path: []string{"link"}, Attr: "l", Symlink: target}
	}
	leaf := func(m *metainfotest.Torrent, name string) dict { return fileTree(m)[name].(dict)[""].(dict) }
	for _, c := range []struct {
		name string
		bend func(m *metainfotest.Torrent)
		want string // of the error; "" to be accepted
	}{
		{"unbent", func(*metainfotest.Torrent) {}, ""},
		{"no piece layers, as from a peer", func(m *metainfotest.Torrent) { delete(m.Root, "piece layers") }, ""},
		{"meta version 1 means v1", func(m *metainfotest.Torrent) { m.Info["meta version"] = 1 }, ""},
		{"a pad file at the end", func(m *metainfotest.Torrent) {
			m.Info["files"] = append(m.Info["files"].(list), dict{"attr": "p", "length": 5, "path": []string{".pad", "5"}})
			m.Info["pieces"] = append(m.Info["pieces"].([]byte), make([]byte, 20)...)
		}, ""},
		{"piece layers missing", func(m *metainfotest.Torrent) { m.Root["piece layers"] = dict{} }, "has no v2 piece layer"},
		{"piece layers are no dictionary", func(m *metainfotest.Torrent) { m.Root["piece layers"] = "x" }, "not a dictionary"},
		{"a wrong layer", func(m *metainfotest.Torrent) {
			for _, layer := range m.Root["piece layers"].(dict) {
				layer.([]byte)[40] ^= 1
			}
		}, "does not hash to its root"},
		{"a short layer", func(m *metainfotest.Torrent) {
			for k, layer := range m.Root["piece layers"].(dict) {
				m.Root["piece layers"].(dict)[k] = layer.([]byte)[:96]
			}
		}, "is 96 bytes, not 224"},
		{"a file less in v2", func(m *metainfotest.Torrent) { delete(fileTree(m), "z") }, "holds more than its v2 file tree"},
		{"a file more in v2", func(m *metainfotest.Torrent) {
			fileTree(m)["zz"] = dict{"": dict{"length": 0}}
		}, "not in its v1 list"},
		{"another length", func(m *metainfotest.Torrent) { leaf(m, "z")["length"] = 16383 }, "different lengths"},
		{"another name", func(m *metainfotest.Torrent) {
			fileTree(m)["y"] = fileTree(m)["z"]
			delete(fileTree(m), "z")
		}, "name a file differently"},
		{"a link in v1 only", func(m *metainfotest.Torrent) { delete(leaf(m, "link"), "attr") }, "do not agree"},
		{"another target", func(m *metainfotest.Torrent) { leaf(m, "link")["symlink path"] = []string{"z"} }, "do not agree"},
		{"a target outside", func(m *metainfotest.Torrent) { leaf(m, "link")["symlink path"] = []string{".."} }, "leads out"},
		{"files not at pieces", func(m *metainfotest.Torrent) {
			var v1 list
			for _, e := range m.Info["files"].(list) {
				if e.(dict)["attr"] != "p" {
					v1 = append(v1, e)
				}
			}
			m.Info["files"], m.Info["pieces"] = v1, make([]byte, 20*8)
		}, "does not start a piece"},
		{"a negative length", func(m *metainfotest.Torrent) { leaf(m, "z")["length"] = -1 }, "bad length"},
		{"lengths that wrap", func(m *metainfotest.Torrent) { leaf(m, "z")["length"] = 1 << 62 }, "bad length"},
		{"a leaf that is no dictionary", func(m *metainfotest.Torrent) { fileTree(m)["z"] = dict{"": 5} }, "not a dictionary"},
		{"a child that is no dictionary", func(m *metainfotest.Torrent) { fileTree(m)["z"] = 5 }, "not a dictionary"},
		{"a file that is a directory", func(m *metainfotest.Torrent) {
			fileTree(m)["z"].(dict)["x"] = fileTree(m)["a"]
		}, "both a file and a directory"},
		{"a root that is a file", func(m *metainfotest.Torrent) { fileTree(m)[""] = dict{"length": 0} }, "a name is empty"},
		{"a directory climbs", func(m *metainfotest.Torrent) { fileTree(m)[".."] = fileTree(m)["d"] }, `a name is ".."`},
		{"the tree is unsorted", func(m *metainfotest.Torrent) {
			p := metainfotest.Pairs{}
			fileTree(m)["y"] = dict{"": dict{"length": 0}}
			for _, k := range []string{"a", "d", "link", "z", "y"} {
				p = append(p, metainfotest.Pair{Key: k, Value: fileTree(m)[k]})
			}
			m.Info["file tree"] = p
		}, "not sorted"},
		{"a name twice in the tree", func(m *metainfotest.Torrent) {
			p := metainfotest.Pairs{}
			for _, k := range []string{"a", "a", "d", "link", "z"} {
				p = append(p, metainfotest.Pair{Key: k, Value: fileTree(m)[k]})
			}
			m.Info["file tree"] = p
		}, "not sorted"},
		{"no tree", func(m *metainfotest.Torrent) { delete(m.Info, "file tree") }, "missing"},
		{"an unknown version", func(m *metainfotest.Torrent) { m.Info["meta version"] = 3 }, "newer program"},
		{"a version that is no number", func(m *metainfotest.Torrent) { m.Info["meta version"] = "2" }, "newer program"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := hybrid(f("a", 100000), f("d/b", 5), f("d/e", 0), link("d", "b"), f("z", 16384))
			c.bend(m)
			got, err := Parse(m.Bytes())
			checkInputError(t, err)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got error %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got error %v, want one with %q", err, c.want)
			case c.want == "" && got.Info.HasV2 != (m.Info["meta version"] == 2):
				t.Errorf("HasV2 = %v", got.Info.HasV2)
			}
		})
	}
}

func TestPieceLayersStayWithAHybrid(t *testing.T) {
	m := hybrid(metainfotest.F("a", 100000))
	data, err := mustParse(t, m.Bytes()).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if want := metainfotest.Encode(m.Root["piece layers"]); !bytes.Contains(data, want) {
		t.Error("Marshal lost the piece layers")
	}
}

func TestMerkleRootsAreThoseOfTheWholeTree(t *testing.T) {
	data := metainfotest.Payload("merkle", 40*BlockSize)
	for _, pieceLength := range []int{BlockSize, 2 * BlockSize, 8 * BlockSize} {
		for size := pieceLength + 1; size <= len(data); size += BlockSize {
			root, layer := metainfotest.V2Hashes(data[:size], pieceLength)
			if got := layerRoot(layer, piecePad(int64(pieceLength))); !bytes.Equal(got[:], root) {
				t.Fatalf("%d bytes in pieces of %d: got %s, want %x", size, pieceLength, got, root)
			}
			layer[len(layer)/2] ^= 1
			if got := layerRoot(layer, piecePad(int64(pieceLength))); bytes.Equal(got[:], root) {
				t.Fatal("a changed layer has the same root")
			}
		}
	}
}

// A tree near the bound of depth above a wide directory, and one large layer
// that many files name, must not be gone over again and again.
func TestAV2TreeIsGoneOverOnce(t *testing.T) {
	const depth = 90
	var leaves strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&leaves, "5:%05dd0:d6:lengthi0eee", i)
	}
	tree := strings.Repeat("d1:d", depth) + "d" + leaves.String() + "e" + strings.Repeat("e", depth)
	data := fmt.Sprintf("d4:infod9:file tree%s12:meta versioni2e4:name1:t12:piece lengthi16384eee", tree)
	c := v2Check{info: &Info{PieceLength: BlockSize}, rest: value(tree)}
	if err := c.directory(); err != nil || len(c.rest) != 0 || c.files != 20_000 {
		t.Errorf("got %d files, %d bytes left, error %v", c.files, len(c.rest), err)
	}
	checkCost(t, []byte(data))
}
