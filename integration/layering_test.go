package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "swarmfs"

// rule is a line of the table "Who may import whom" in docs/architecture.md.
type rule struct {
	pkg    string   // below the module; a trailing /... means the packages below, too
	ours   []string // the packages of ours it may import, in the same notation
	banned []string // what it must not import of others; a trailing /... as above
	why    string
}

// The first rule that matches a package is its rule; every package needs one.
var rules = []rule{
	{
		"metainfo", nil,
		[]string{"net/http", "github.com/hanwen/go-fuse/v2/..."},
		"metainfo is a leaf: what a torrent is, from bytes that somebody else fetched",
	},
	{
		"metainfo/...",
		[]string{"metainfo/..."},
		[]string{"net/http"},
		"what helps to test metainfo is a leaf, too",
	},
	{
		"cache", nil,
		[]string{"net/...", "github.com/hanwen/go-fuse/v2/..."},
		"the cache stores numbered pieces of volumes and knows no torrents",
	},
	{
		"swarm/bencoding", nil,
		[]string{"net/...", "time", "os/...", "sync/..."},
		"bencoding measures and decodes what strangers sent, and nothing else",
	},
	{
		"swarm/wire",
		[]string{"swarm/bencoding"},
		[]string{"net", "net/http", "time", "os/...", "sync/..."},
		"wire turns bytes into messages and back, and nothing else",
	},
	{
		"swarm/engine",
		[]string{"metainfo", "swarm/wire"},
		[]string{"net", "net/http", "os/...", "sync/...", "context"},
		"the engine is a pure state machine: the loop owns it, and time, bytes and chance come in as arguments",
	},
	{
		"swarm/metadata",
		[]string{"swarm/wire"},
		[]string{"net", "os", "sync"},
		"how metadata is fetched is decided by messages and moments alone",
	},
	{
		"swarm/webseed",
		[]string{"metainfo"},
		[]string{"github.com/hanwen/go-fuse/v2/..."},
		"a web seed's requests are planned from the torrent alone; who wants what is decided elsewhere",
	},
	{
		"swarm/dht", nil,
		[]string{"net/http", "github.com/hanwen/go-fuse/v2/..."},
		"the DHT is asked for infohashes and knows no session",
	},
	{
		"swarm/lsd", nil,
		[]string{"net/http", "github.com/hanwen/go-fuse/v2/..."},
		"the local network is asked for infohashes by what knows no session",
	},
	{
		"swarm/network", nil,
		[]string{"net/http", "github.com/hanwen/go-fuse/v2/..."},
		"the network opens sockets under a policy and knows no torrents",
	},
	{
		"swarm/tracker",
		[]string{"swarm/bencoding", "swarm/network"},
		[]string{"github.com/hanwen/go-fuse/v2/..."},
		"the tracker client is told what to announce and knows no session",
	},
	{
		"swarm/...",
		[]string{"metainfo", "cache", "swarm/..."},
		[]string{"github.com/hanwen/go-fuse/v2/..."},
		"the swarm serves any front end and knows none",
	},
	{
		"fs",
		[]string{"metainfo"},
		nil,
		"the file system sees torrents through the interfaces that it declares",
	},
	{"cmd/...", []string{"..."}, nil, "the command wires everything"},
	{"integration/...", nil, nil, "these tests use the command as users do"},
}

// matches says whether a package is named by a pattern of the rules.
func matches(pattern, pkg string) bool {
	if pattern == "..." {
		return true
	}
	if base, deep := strings.CutSuffix(pattern, "/..."); deep {
		return pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	return pkg == pattern
}

func matchesAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) })
}

// violations says which imports of a package are against its rule.
func violations(pkg string, imports []string) []string {
	i := slices.IndexFunc(rules, func(r rule) bool { return matches(r.pkg, pkg) })
	if i < 0 {
		return []string{fmt.Sprintf("package %s has no rule: add it to the table in docs/architecture.md and here", pkg)}
	}
	r := rules[i]
	var out []string
	for _, imported := range imports {
		own, isOwn := strings.CutPrefix(imported, module+"/")
		if isOwn && !matchesAny(r.ours, own) || !isOwn && matchesAny(r.banned, imported) {
			out = append(out, fmt.Sprintf("%s imports %s, but %s", pkg, imported, r.why))
		}
	}
	return out
}

type listedPackage struct {
	ImportPath, Dir string
	Imports         []string
	GoFiles         []string // not tests
	CgoFiles        []string
}

func listPackages(t *testing.T) []listedPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Imports,GoFiles,CgoFiles", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []listedPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listedPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func TestPackagesImportOnlyWhatTheirLayerMay(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, v := range violations(strings.TrimPrefix(p.ImportPath, module+"/"), p.Imports) {
			t.Error(v)
		}
	}
}

func TestLayeringRulesCatchViolations(t *testing.T) {
	for _, c := range []struct {
		pkg, imported string
		want          bool // a violation
	}{
		{"metainfo", module + "/swarm", true},
		{"metainfo", "net/http", true},
		{"cache", module + "/metainfo", true},
		{"swarm/wire", "time", true},
		{"swarm/wire", "encoding/binary", false},
		{"swarm/engine", "sync/atomic", true},
		{"swarm/engine", module + "/cache", true},
		{"swarm/engine", module + "/swarm/wire", false},
		{"swarm/tracker", module + "/metainfo", true},
		{"swarm/dht", module + "/swarm", true},
		{"swarm", module + "/fs", true},
		{"swarm", "github.com/hanwen/go-fuse/v2/fuse", true},
		{"swarm", module + "/swarm/engine", false},
		{"fs", module + "/swarm", true},
		{"fs", module + "/metainfo", false},
		{"cmd/swarmfs", module + "/swarm", false},
		{"util", "fmt", true},
	} {
		if got := len(violations(c.pkg, []string{c.imported})) > 0; got != c.want {
			t.Errorf("%s imports %s: violation %v, want %v", c.pkg, c.imported, got, c.want)
		}
	}
}

// launchers are the files that may start a goroutine with a bare go
// statement: they pair it with a guard and a wait. Everyone else starts
// goroutines through them, a sync.WaitGroup or an errgroup, which are waited
// for. The one exception is stale.go, which asks a mount that may never answer:
// to wait for that is what it must not do.
var launchers = []string{"guard.go", "supervise.go", "group.go", "stale.go"}

// impure are the clocks and the chance that must come in as arguments.
var impure = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
	"math/rand": {
		"Int", "Intn", "Int31", "Int31n", "Int63", "Int63n", "Uint32", "Uint64",
		"Float32", "Float64", "ExpFloat64", "NormFloat64", "Perm", "Shuffle", "Read", "Seed",
	},
	"math/rand/v2": {
		"Int", "IntN", "Int32", "Int32N", "Int64", "Int64N", "Uint", "UintN", "Uint32", "Uint32N", "Uint64", "Uint64N",
		"N", "Float32", "Float64", "ExpFloat64", "NormFloat64", "Perm", "Shuffle",
	},
}

// Parsing opens every source file of the module in this process: that is also
// what makes `go test` run these tests again when the command changed.
func TestGoroutinesHaveAnOwnerAndTheEngineIsPure(t *testing.T) {
	fset := token.NewFileSet()
	for _, p := range listPackages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module+"/")
		if strings.HasPrefix(pkg, "integration") {
			continue
		}
		for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Error(err)
				continue
			}
			for _, v := range sourceViolations(pkg, name, file) {
				t.Errorf("%s: %s", fset.Position(v.pos), v.text)
			}
		}
	}
}

type violation struct {
	pos  token.Pos
	text string
}

func sourceViolations(pkg, name string, file *ast.File) []violation {
	var out []violation
	pure := slices.Contains([]string{"swarm/engine", "swarm/wire", "swarm/bencoding"}, pkg)
	imported := make(map[string]string) // local name to path
	for _, spec := range file.Imports {
		where, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		local := strings.TrimPrefix(path.Base(where), "v2")
		if local == "" {
			local = path.Base(path.Dir(where))
		}
		if spec.Name != nil {
			local = spec.Name.Name
		}
		imported[local] = where
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			switch {
			case pure:
				out = append(out, violation{n.Pos(), pkg + " starts a goroutine, but it is pure: its caller decides when it runs"})
			case !slices.Contains(launchers, name):
				out = append(out, violation{n.Pos(), fmt.Sprintf("bare go statement outside %v: nobody waits for this goroutine or catches its panic", launchers)})
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && pure && slices.Contains(impure[imported[x.Name]], n.Sel.Name) {
				out = append(out, violation{n.Pos(), fmt.Sprintf("%s uses %s.%s, but time and chance come in as arguments", pkg, x.Name, n.Sel.Name)})
			}
		}
		return true
	})
	return out
}

func TestSourceRulesCatchViolations(t *testing.T) {
	for _, c := range []struct {
		pkg, name, source string
		want              int
	}{
		{"swarm", "run.go", "package p; func f() { go f() }", 1},
		{"swarm", "guard.go", "package p; func f() { go f() }", 0},
		{"cache", "store.go", "package p; func f() { go func() {}() }", 1},
		{"fs", "mount.go", "package p; import \"sync\"; func f(wg *sync.WaitGroup) { wg.Go(func() {}) }", 0},
		{"swarm/engine", "guard.go", "package p; func f() { go f() }", 1},
		{"swarm/engine", "a.go", "package p; import \"time\"; var t = time.Now()", 1},
		{"swarm/engine", "a.go", "package p; import clock \"time\"; var t = clock.Now()", 1},
		{"swarm/engine", "a.go", "package p; import \"time\"; var d = 2*time.Second", 0},
		{"swarm/engine", "a.go", "package p; import \"math/rand/v2\"; var n = rand.IntN(3)", 1},
		{"swarm/engine", "a.go", "package p; import \"math/rand/v2\"; func f(r *rand.Rand) int { return r.IntN(3) }", 0},
		{"swarm/engine", "a.go", "package p; import \"math/rand/v2\"; func f(rand *rand.Rand) {}", 0},
		{"swarm", "run.go", "package p; import \"time\"; var t = time.Now()", 0},
	} {
		file, err := parser.ParseFile(token.NewFileSet(), c.name, c.source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if got := sourceViolations(c.pkg, c.name, file); len(got) != c.want {
			t.Errorf("%s/%s: %q: %d violations %v, want %d", c.pkg, c.name, c.source, len(got), got, c.want)
		}
	}
}
