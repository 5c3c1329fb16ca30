package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// testFlags has a flag of each kind that a configuration file can set.
func testFlags() (*pflag.FlagSet, *int64, *[]string, *bool) {
	var (
		size int64
		list []string
		yes  bool
	)
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	fs.Var(sizeValue{bytes: &size}, "memory", "")
	fs.StringArrayVar(&list, "peer", nil, "")
	fs.BoolVar(&yes, "no-dht", false, "")
	fs.String("config", "", "")
	return fs, &size, &list, &yes
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigSetsWhatTheCommandLineDoesNot(t *testing.T) {
	fs, size, list, yes := testFlags()
	if err := fs.Parse([]string{"--memory", "1MiB"}); err != nil {
		t.Fatal(err)
	}
	path := writeFile(t, "c.toml", "memory = \"2MiB\"\npeer = [\"192.0.2.1:1\", \"192.0.2.2:2\"]\nno-dht = true\n")
	if err := applyConfig(fs, path); err != nil {
		t.Fatal(err)
	}
	if *size != 1<<20 {
		t.Errorf("memory: got %d, want the command line's %d", *size, 1<<20)
	}
	if want := []string{"192.0.2.1:1", "192.0.2.2:2"}; !slices.Equal(*list, want) {
		t.Errorf("peer: got %q, want %q", *list, want)
	}
	if !*yes {
		t.Error("no-dht: got false, want true")
	}
}

func TestWrongConfigsAreRefusedWithTheCause(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "listne = \":1\"", `unknown key "listne"`},
		{"not a setting", "config = \"x\"", `unknown key "config"`},
		{"syntax", "peer = [\n  \"a\"\n  \"b\"\n]", "c.toml:3:3: "},
		{"duplicate key", "memory = 1\nmemory = 2\n", "memory"},
		{"table", "[memory]\nx = 1\n", "memory: want a string"},
		{"float", "memory = 1.5", "memory: want a string"},
		{"nested array", "peer = [[\"a\"]]", "peer: want a string"},
		{"array for one value", "memory = [1, 2]", "memory: want one value"},
		{"bad value", "memory = \"much\"", `memory = "much": want a size`},
		{"bad boolean", "no-dht = \"perhaps\"", `no-dht = "perhaps": want true or false`},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs, _, _, _ := testFlags()
			err := applyConfig(fs, writeFile(t, "c.toml", c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
			if got := exitCode(err); got != exitUsage {
				t.Errorf("exit code: got %d, want %d", got, exitUsage)
			}
			if strings.Contains(errorLine(err), "\n") {
				t.Errorf("more than one line: %q", errorLine(err))
			}
		})
	}
}

func TestConfigOfHugeSizeIsRefused(t *testing.T) {
	fs, _, _, _ := testFlags()
	err := applyConfig(fs, writeFile(t, "c.toml", strings.Repeat("#\n", maxConfig)))
	if err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Fatalf("got %v, want a refusal by size", err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("memory = \"2MiB\"\npeer = [\"a:1\"]\nno-dht = true\n"))
	f.Add([]byte("peer = [[1]]"))
	f.Add([]byte("a.b.c = 1979-05-27T07:32:00Z"))
	f.Add([]byte("memory = 9223372036854775807"))
	f.Fuzz(func(t *testing.T, data []byte) {
		settings, err := parseConfig(data)
		if err != nil {
			if line := errorLine(err); strings.ContainsAny(line, "\n\r\x1b") {
				t.Fatalf("error breaks the line: %q", line)
			}
			return
		}
		flags, _, _, _ := testFlags()
		for _, s := range settings {
			for _, v := range s.values {
				_ = flags.Set(s.key, v) // any verdict, no panic
			}
		}
	})
}
