package integration

import (
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
)

// hubIP is the test process's own address in the tests' network.
const hubIP = "10.77.255.254"

var nodes atomic.Int32

// node is a machine of the tests' network: a network namespace with one
// interface. It is given up with the test.
type node struct {
	name, ip string
}

// requireNamespaces ends tests that need the command or a network early when
// -short asks for quick ones.
func requireNamespaces(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs namespaces, which -short does without")
	}
}

func newNode(t testing.TB) *node {
	t.Helper()
	requireNamespaces(t)
	i := nodes.Add(1)
	n := &node{name: fmt.Sprintf("n%d", i), ip: fmt.Sprintf("10.77.%d.%d", i/250, i%250+1)}
	port := fmt.Sprintf("p%d", i)
	steps := []struct {
		netns string
		lines []string
	}{
		{"", []string{
			"netns add " + n.name,
			"link add " + port + " type veth peer name eth0 netns " + n.name,
			"link set " + port + " master br0 up",
		}},
		{n.name, []string{
			"link set lo mtu 1500",
			"link set lo up",
			"addr add " + n.ip + "/16 dev eth0",
			"link set eth0 up",
			"route add default via " + hubIP, // nothing answers there, as behind a dead uplink
		}},
	}
	for _, s := range steps {
		if err := ipBatch(s.netns, s.lines...); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := ipBatch("", "netns del "+n.name); err != nil {
			t.Error(err)
		}
	})
	return n
}

// command is a program that will run on the node. `ip netns exec` would also
// give it a mount namespace, and its mounts would be seen by nobody else.
func (n *node) command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=/run/netns/" + n.name, "--", name}, args...)...)
}

// addr is HOST:PORT on the node.
func (n *node) addr(port int) string { return fmt.Sprintf("%s:%d", n.ip, port) }

func ipBatch(netns string, lines ...string) error {
	args := []string{"-batch", "-"}
	if netns != "" {
		args = append([]string{"-n", netns}, args...)
	}
	cmd := exec.Command("ip", args...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
