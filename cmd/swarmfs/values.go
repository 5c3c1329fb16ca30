package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"swarmfs/swarm"
)

// sizeValue is a flag that holds a number of bytes, as in 512MiB or 20GB.
type sizeValue struct {
	bytes *int64
	// suffix is taken off before parsing: "/s" for rates.
	suffix string
}

func (v sizeValue) Set(s string) error {
	n, err := parseSize(strings.TrimSuffix(strings.TrimSpace(s), v.suffix))
	if err != nil {
		return err
	}
	*v.bytes = n
	return nil
}

func (v sizeValue) String() string {
	switch {
	case v.bytes == nil || *v.bytes == 0:
		return "0"
	case *v.bytes < 0: // to be found out
		return ""
	}
	return formatSize(*v.bytes) + v.suffix
}

func (v sizeValue) Type() string {
	if v.suffix != "" {
		return "rate"
	}
	return "size"
}

// formatSize is the shortest exact form of n where there is one, so that what
// is shown can be given back; else rounded.
func formatSize(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strings.ReplaceAll(humanize.IBytes(uint64(max(n, 0))), " ", "")
}

// parseSize reads a number of bytes: digits with an optional decimal point and
// an optional unit, decimal (kB, MB, GB, TB) or binary (KiB, MiB, GiB, TiB). A
// comma is refused: "1,5GiB" means 1.5 to some and 15 to others.
func parseSize(s string) (int64, error) {
	s = strings.TrimSpace(s)
	if s == "" || s[0] < '0' || s[0] > '9' || strings.Contains(s, ",") {
		return 0, errors.New("want a size such as 512MiB, 20GiB or 0")
	}
	n, err := humanize.ParseBytes(s)
	if err != nil {
		return 0, errors.New("want a size such as 512MiB, 20GiB or 0")
	}
	if n > math.MaxInt64 {
		return 0, errors.New("size does not fit in 63 bits")
	}
	return int64(n), nil
}

// timeoutValue is a flag that holds a duration; a bare 0 needs no unit.
type timeoutValue struct{ d *time.Duration }

func (v timeoutValue) Set(s string) error {
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil {
		return errors.New("want a duration such as 90s, 5m or 0")
	}
	if d < 0 {
		return errors.New("a duration cannot be negative: 0 waits for ever")
	}
	*v.d = d
	return nil
}

func (v timeoutValue) String() string {
	if v.d == nil {
		return "0s"
	}
	return v.d.String()
}

func (timeoutValue) Type() string { return "duration" }

// seedValue is a flag that holds how long torrents are seeded.
type seedValue struct{ seeding *swarm.Seeding }

func (v seedValue) Set(s string) (err error) {
	parsed, err := swarm.ParseSeeding(s)
	if err == nil {
		*v.seeding = parsed
	}
	return err
}

func (v seedValue) String() string {
	if v.seeding == nil {
		return ""
	}
	return v.seeding.String()
}

func (seedValue) Type() string { return "rule" }

// choiceValue is a flag that holds one of a few words.
type choiceValue struct {
	value   *string
	choices []string
}

func (v choiceValue) Set(s string) error {
	for _, c := range v.choices {
		if s == c {
			*v.value = s
			return nil
		}
	}
	last := len(v.choices) - 1
	return fmt.Errorf("want %s or %s", strings.Join(v.choices[:last], ", "), v.choices[last])
}

func (v choiceValue) String() string {
	if v.value == nil {
		return ""
	}
	return *v.value
}

func (v choiceValue) Type() string { return strings.Join(v.choices, "|") }

// splitAddress checks the form of HOST:PORT. The host may be empty or a name;
// a port of 0 asks the system for a free one.
func splitAddress(s string) (host string, port uint16, err error) {
	host, portText, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, errors.New("want HOST:PORT, as in 192.0.2.1:6881, [2001:db8::1]:6881 or :6881")
	}
	n, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port %q is not a number from 0 to 65535", portText)
	}
	return host, uint16(n), nil
}

// onlyLoopback reports whether every address can be reached from this machine
// alone. An empty host listens everywhere, so it is not one of them.
func onlyLoopback(addresses []string) bool {
	for _, a := range addresses {
		host, _, err := splitAddress(a)
		if err != nil {
			return false
		}
		if strings.EqualFold(host, "localhost") {
			continue
		}
		ip, err := netip.ParseAddr(host)
		if err != nil || !ip.Unmap().IsLoopback() {
			return false
		}
	}
	return len(addresses) > 0
}
