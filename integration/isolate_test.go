package integration

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary runs itself twice more: the first stage builds the command
// (it still has a network) and makes the namespaces, "init" is process 1 in
// them, "test" runs the tests.
const (
	stageVar  = "SWARMFS_INTEGRATION_STAGE"
	binaryVar = "SWARMFS_INTEGRATION_BINARY"
)

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	if mode := os.Getenv(readerVar); benchReaders[mode] != nil {
		return benchReaderMain(mode, os.Args[1:])
	} else if mode != "" {
		return readerMain(mode, os.Args[1:])
	}
	switch os.Getenv(stageVar) {
	case "init":
		return initStage()
	case "test":
		flag.Parse()
		// Most tests wait for other programs' timers most of the time. The
		// default is a test per processor; leave any other number alone.
		if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
			if err := flag.Set(f.Name, "6"); err != nil {
				fmt.Fprintln(os.Stderr, "integration:", err)
				return 1
			}
		}
		return m.Run()
	}
	flag.Parse()
	if testing.Short() {
		return m.Run()
	}
	code, err := isolate()
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	return code
}

// isolate runs the tests in namespaces of their own.
func isolate() (int, error) {
	if err := requirements(); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "swarmfs-integration-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	binary, err := buildBinary(dir)
	if err != nil {
		return 1, err
	}
	// The kernel sends Pdeathsig when the *thread* that forked ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageVar+"=init", binaryVar+"="+binary)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("make namespaces (run as root, or allow user namespaces): %w", err)
	}
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// initStage is process 1 of the namespaces: it sets them up, starts the
// tests, and reaps what is orphaned (a daemon, say). When it ends, the kernel
// kills the rest.
func initStage() int {
	if err := setUpNamespaces(); err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		return 1
	}
	if err := os.Setenv(stageVar, "test"); err != nil {
		return 1
	}
	child, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration: start tests:", err)
		return 1
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			fmt.Fprintln(os.Stderr, "integration: wait for tests:", err)
			return 1
		case pid == child.Pid && status.Exited():
			return status.ExitStatus()
		case pid == child.Pid:
			fmt.Fprintln(os.Stderr, "integration: tests ended by", status.Signal())
			return 1
		}
	}
}

func setUpNamespaces() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount proc: %w", err)
	}
	// `ip netns` keeps its names here; ours end with the mount namespace. Only
	// /run is sure to be there, and other programs want the rest of it.
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		// Not root outside: /run is not ours, but in our mount namespace we may cover it.
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount tmpfs on /run: %w", err)
		}
		if err := os.MkdirAll("/run/netns", 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("tmpfs", "/run/netns", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount tmpfs on /run/netns: %w", err)
	}
	return ipBatch("",
		"link set lo mtu 1500",
		"link set lo up",
		// A bridge without an address of its own takes its ports' lowest. Then a
		// new port may change it, and who knew the old one loses the test process.
		"link add br0 address 02:00:00:00:00:01 type bridge",
		"addr add "+hubIP+"/16 dev br0",
		"link set br0 up",
	)
}

// requirements names every program that is missing, so that the first failure
// says it all.
func requirements() error {
	var missing []string
	for _, name := range []string{
		"fusermount3", "aria2c", "transmission-daemon", "rtorrent", "qbittorrent-nox", "opentracker", "nginx", "ffmpeg", "ffprobe",
		"ip", "nsenter", "unshare", "find", "cmp", "cp", "dd", "cat", "curl", python,
	} {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing programs %v: run .ci/setup.sh as root", missing)
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("mounting needs /dev/fuse (modprobe fuse): %w", err)
	}
	return f.Close()
}

// buildBinary builds the command once for all tests.
func buildBinary(dir string) (string, error) {
	binary := dir + "/swarmfs"
	cmd := exec.Command("go", "build", "-o", binary, "../cmd/swarmfs")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build swarmfs: %w\n%s", err, out)
	}
	return binary, nil
}
