package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"swarmfs/cache"
)

// mountFlags are the flags of mount, and the keys of its configuration file.
type mountFlags struct {
	networkFlags
	logFlags
	data        string
	cacheSize   int64 // bytes; negative: autoCacheSize
	minFree     int64 // bytes
	memory      int64 // bytes
	background  string
	readTimeout time.Duration
	allowOther  bool
	imports     []string // folders of existing downloads; absolute after complete
	readLog     string   // path; empty: none
	config      string
	daemon      bool
}

func newMount(std *streams) *cobra.Command {
	f := &mountFlags{
		cacheSize: -1, minFree: cache.DefaultMinFree, memory: 64 << 20, background: "opened", readTimeout: time.Minute,
		logFlags: defaultLog,
	}
	cmd := &cobra.Command{
		Use:   "mount [flags] SOURCE... MOUNTPOINT",
		Short: "Mount torrents as a directory",
		Long: "Mount torrents as a directory.\n\n" +
			"A SOURCE is a .torrent file, a folder of them, an http or https URL, a magnet link, an\n" +
			"infohash, or - for standard input. The mount appears when all of them are in it, and a\n" +
			"line that starts with \"ready: \" says so. It ends with SIGINT, SIGTERM or an unmount.",
		Example: "  swarmfs mount debian.torrent ~/mnt\n" +
			"  swarmfs mount --daemon --cache-size 20GiB ~/torrents /mnt/torrents\n" +
			"  curl -s https://example.org/a.torrent | swarmfs mount - ~/mnt",
		Args: argCount(2, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, std, args[:len(args)-1], args[len(args)-1])
		},
	}
	flags := cmd.Flags()
	f.networkFlags.register(flags)
	f.logFlags.register(flags)
	flags.StringVar(&f.data, "data", "", "data folder `DIR` (default $XDG_DATA_HOME/swarmfs or ~/.local/share/swarmfs)")
	flags.Var(sizeValue{bytes: &f.cacheSize}, "cache-size", "disk space for the cache; 0: memory only (default a tenth of what is free, 1GiB to 50GiB)")
	flags.Var(sizeValue{bytes: &f.minFree}, "min-free", "leave at least this much of the disk free: the cache shrinks for others")
	flags.Var(sizeValue{bytes: &f.memory}, "memory", "memory for pieces under way and just read")
	flags.Var(choiceValue{&f.background, []string{"off", "opened", "all"}}, "background", "fetch beyond what is read: nothing, files read in sequence, or whole torrents")
	flags.Var(timeoutValue{&f.readTimeout}, "read-timeout", "end a read with an error after this long without progress; 0: never")
	flags.BoolVar(&f.allowOther, "allow-other", false, "let other users read the mount")
	flags.StringArrayVar(&f.imports, "import", nil, "use files below `DIR`, where other clients keep downloads, in place: nothing is copied; repeatable")
	flags.StringVar(&f.readLog, "read-log", "", "append a line for every read of a program to `FILE`: who read what, and how long it waited")
	flags.StringVar(&f.config, "config", "", "read flags from a TOML `FILE`; the command line wins")
	flags.BoolVar(&f.daemon, "daemon", false, "run in the background; return when the mount is ready")
	return cmd
}

// run completes the flags, moves to the background if asked, and mounts.
func (f *mountFlags) run(cmd *cobra.Command, std *streams, sources []string, dir string) error {
	if f.config != "" {
		if err := applyConfig(cmd.Flags(), f.config); err != nil {
			return err
		}
	}
	if err := f.complete(sources); err != nil {
		return err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		real = dir // the mount will say what is wrong with it
	}
	m := &mounter{realDir: real, flags: f, std: std, sources: sources, dir: dir, log: f.logger(std.err), saveNow: make(chan struct{}, 1), added: make(chan struct{}, 1)}
	if f.daemon {
		m.daemon = asDaemon(std, f.data)
		if m.daemon == nil {
			return startDaemon(cmd.Context(), std, slices.Contains(sources, "-"))
		}
		m.log = f.logger(m.daemon.log)
		if m.daemon.unlogged != nil {
			m.log.Info("no log is written", "error", m.daemon.unlogged)
		}
	}
	return m.run(cmd.Context())
}

// complete checks flags against each other and fills in what depends on the
// machine.
func (f *mountFlags) complete(sources []string) error {
	if n := len(slices.DeleteFunc(slices.Clone(sources), func(s string) bool { return s != "-" })); n > 1 {
		return failf(exitUsage, "mount: standard input can be one source only: give - once")
	}
	if f.memory < 1<<20 {
		return failf(exitUsage, "mount: --memory %s is too little: give at least 1MiB", formatSize(f.memory))
	}
	if f.minFree < cache.LeastFree {
		return failf(exitUsage, "mount: --min-free %s is too little: give at least %s", formatSize(f.minFree), formatSize(cache.LeastFree))
	}
	if f.cacheSize > 0 && f.cacheSize < cache.MinBudget {
		return failf(exitUsage, "mount: --cache-size %s is too small: give at least %s, or 0 to keep pieces in memory only", formatSize(f.cacheSize), formatSize(cache.MinBudget))
	}
	err := checkImports(f.imports)
	if err != nil {
		return err
	}
	if f.data, err = dataFolder(f.data); err != nil {
		return err
	}
	if f.cacheSize < 0 {
		f.cacheSize = autoCacheSize(f.data)
	}
	return nil
}

// dataFolder is the absolute path of the data folder; empty: the default.
func dataFolder(dir string) (string, error) {
	if dir == "" {
		switch home, err := os.UserHomeDir(); {
		case filepath.IsAbs(os.Getenv("XDG_DATA_HOME")):
			dir = filepath.Join(os.Getenv("XDG_DATA_HOME"), "swarmfs")
		case err == nil:
			dir = filepath.Join(home, ".local", "share", "swarmfs")
		case os.Geteuid() == 0: // a system service has no home
			dir = "/var/lib/swarmfs"
		default:
			return "", failf(exitData, "data folder: neither XDG_DATA_HOME nor HOME is set: give --data DIR")
		}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", failf(exitData, "data folder %s: %w", dir, err)
	}
	return abs, nil
}

const (
	minAutoCache = 1 << 30
	maxAutoCache = 50 << 30
)

// autoCacheSize is a tenth of what is free on the disk of a data folder that
// may not exist yet, between 1 and 50 GiB. What the cache takes already counts
// as free, or the cache would shrink at every start.
func autoCacheSize(data string) int64 {
	var taken int64
	_ = filepath.WalkDir(data, func(_ string, e os.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be seen does not count
		}
		if info, err := e.Info(); err == nil && e.Type().IsRegular() {
			taken += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	for dir := data; ; dir = filepath.Dir(dir) {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			free := int64(st.Bavail)*st.Bsize + taken
			return min(max(free/10, minAutoCache), maxAutoCache)
		}
		if !errors.Is(err, unix.ENOENT) || dir == filepath.Dir(dir) {
			return minAutoCache
		}
	}
}

// readWait is --read-timeout as swarm takes it, where 0 is the default.
func (f *mountFlags) readWait() time.Duration {
	if f.readTimeout == 0 {
		return -1
	}
	return f.readTimeout
}
