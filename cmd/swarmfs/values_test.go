package main

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSizesAreReadAsTheirUnitsSay(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "1": 1, "512": 512, "1k": 1000, "1kB": 1000, "1KiB": 1024, "5MiB": 5 << 20, "5MB": 5e6,
		"20GiB": 20 << 30, "1.5GiB": 3 << 29, "20 GiB": 20 << 30, "2tib": 2 << 40, "9223372036854775807": math.MaxInt64,
	} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("parseSize(%q): got %d, %v, want %d", in, got, err, want)
		}
	}
}

func TestWrongSizesAreRefused(t *testing.T) {
	for _, in := range []string{
		"", " ", "-1", "+1", "MiB", "5XB", "1,5GiB", "1.2.3", "1e9", "0x10", "5 MiB each", "9223372036854775808",
		"20EiB", "999999999999999999999999", "٣MiB", "NaN", "Inf", ".5GiB",
	} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("parseSize(%q): got %d, want an error", in, got)
		}
	}
}

func TestRatesMaySayPerSecond(t *testing.T) {
	var n int64
	v := sizeValue{bytes: &n, suffix: "/s"}
	for _, in := range []string{"5MiB", "5MiB/s", " 5MiB/s "} {
		n = 0
		if err := v.Set(in); err != nil || n != 5<<20 {
			t.Errorf("Set(%q): got %d, %v, want %d", in, n, err, 5<<20)
		}
	}
}

func TestShownSizesOfWholeUnitsReadBackAsThemselves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 1<<20).Draw(t, "n") << rapid.SampledFrom([]int{10, 20, 30}).Draw(t, "unit")
		got, err := parseSize(formatSize(n))
		if err != nil || got != n {
			t.Fatalf("parseSize(%q): got %d, %v, want %d", formatSize(n), got, err, n)
		}
	})
}

func TestTimeoutsNeedAUnitUnlessZero(t *testing.T) {
	var d time.Duration
	v := timeoutValue{&d}
	for in, want := range map[string]time.Duration{"0": 0, "90s": 90 * time.Second, "1m30s": 90 * time.Second} {
		if err := v.Set(in); err != nil || d != want {
			t.Errorf("Set(%q): got %v, %v, want %v", in, d, err, want)
		}
	}
	for _, in := range []string{"", "60", "-1s", "soon"} {
		if err := v.Set(in); err == nil {
			t.Errorf("Set(%q): got %v, want an error", in, d)
		}
	}
}

func TestOnlyLoopbackMeansEveryAddress(t *testing.T) {
	for _, c := range []struct {
		addresses []string
		want      bool
	}{
		{[]string{"127.0.0.1:6881"}, true},
		{[]string{"127.8.8.8:0", "[::1]:0", "localhost:1", "[::ffff:127.0.0.1]:1"}, true},
		{[]string{"127.0.0.1:6881", ":6881"}, false},
		{[]string{"0.0.0.0:6881"}, false},
		{[]string{"[::]:6881"}, false},
		{[]string{"localhost.example.org:1"}, false},
		{[]string{"127.0.0.1"}, false},
		{nil, false},
	} {
		if got := onlyLoopback(c.addresses); got != c.want {
			t.Errorf("onlyLoopback(%q): got %v, want %v", c.addresses, got, c.want)
		}
	}
}

func TestAddressesAreCheckedForForm(t *testing.T) {
	for _, in := range []string{":0", "127.0.0.1:65535", "[::1]:1", "host.example:80"} {
		if _, _, err := splitAddress(in); err != nil {
			t.Errorf("splitAddress(%q): %v", in, err)
		}
	}
	for _, in := range []string{"", "host", "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:http", "::1:1:"} {
		if _, _, err := splitAddress(in); err == nil {
			t.Errorf("splitAddress(%q): want an error", in)
		}
	}
}

func TestErrorsAreOneLineWhateverTheirText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOf(rapid.Byte()).Draw(t, "text"))
		line := errorLine(failf(exitInput, "torrent %s", text))
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x202e || r == 0x2028 }) {
			t.Fatalf("got %q", line)
		}
	})
}

func TestPrintableKeepsHonestTextAndEscapesTheRest(t *testing.T) {
	for in, want := range map[string]string{
		"Größe 映画 🎬.mkv": "Größe 映画 🎬.mkv",
		"two\nlines":     `two\nlines`,
		"\x1b[31mred":    `\x1b[31mred`,
		"exe\u202efdp":   `exe\u202efdp`,
		"bad\xff":        `bad\xff`,
		"\uFFFD":         "\uFFFD",
		"a\uFFFDb\xffc":  "a\uFFFDb\\xffc",
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q): got %s, want %s", in, got, want)
		}
	}
}

func TestTheInnermostExitCodeWins(t *testing.T) {
	err := withCode(exitData, failf(exitInput, "inner"))
	if got := exitCode(err); got != exitInput {
		t.Errorf("got %d, want %d", got, exitInput)
	}
}
