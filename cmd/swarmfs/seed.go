package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"swarmfs/metainfo"
	"swarmfs/swarm"
)

// seedFlags are the flags of seed.
type seedFlags struct {
	networkFlags
	logFlags
}

func newSeed(std *streams) *cobra.Command {
	f := &seedFlags{logFlags: defaultLog}
	cmd := &cobra.Command{
		Use:   "seed [flags] FILE.torrent PATH",
		Short: "Share files that are there already",
		Long: "Serve the files of a torrent where they are, without a copy and without a data folder. PATH\n" +
			"is what the torrent was made from, or the folder that holds it. All pieces are verified\n" +
			"first; those of missing or changed files are not offered.",
		Example: "  swarmfs seed talk.mkv.torrent ~/videos",
		Args:    argCount(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), std, args[0], args[1])
		},
	}
	f.networkFlags.register(cmd.Flags())
	f.logFlags.register(cmd.Flags())
	return cmd
}

func (f *seedFlags) run(ctx context.Context, std *streams, source, path string) error {
	signal.Ignore(syscall.SIGPIPE)
	if f.seed.Mode == swarm.SeedWhileOpen {
		return failf(exitUsage, "seed: --seed while-open is for mount: nothing is open here")
	}
	nets := f.networks(f.logger(std.err))
	t, err := loadOne(ctx, std, source, nil, nets)
	if err != nil {
		return err
	}
	files, err := openOnDisk(t.Info, path)
	if err != nil {
		return err
	}
	defer files.Close()
	switch {
	case files.allAbsent(t.Info.NumPieces()):
		return failf(exitInput, "seed %s: nothing of it is there (%s is missing or too short): give what the torrent was made from, or its folder",
			printable(t.Info.Name), someOf(files.missing))
	case len(files.missing) > 0:
		std.warn("missing or too short", errors.New(someOf(files.missing)))
	}
	peers, err := f.resolvePeers(ctx, nets.own)
	if err != nil {
		return err
	}
	// Listen first: a port in use should not be found after an hour of hashing.
	session, err := f.newSession(swarm.Options{Network: nets.own}, f.logger(std.err))
	if err != nil {
		return err
	}
	return f.serve(ctx, std, session, t, files, swarm.AddOptions{Volume: files, Quiet: true, Peers: peers})
}

// serve verifies the files, then runs the session until ctx ends.
func (f *seedFlags) serve(ctx context.Context, std *streams, session *swarm.Session, t *metainfo.Torrent, files *diskFiles, o swarm.AddOptions) error {
	root := newSupervisor(f.logger(std.err))
	root.Add(session)
	serving := startServices(ctx, root)
	defer serving.stop(context.Background())
	torrent, err := session.Add(t, o)
	if err != nil {
		return fmt.Errorf("seed %s: %w", t.Info.Name, err)
	}
	held := 0
	err = hashFiles(ctx, std, t.Info, files, func(piece int, ok bool) {
		if ok {
			held++
			torrent.Verified(piece)
		}
	})
	if err == nil && held == 0 {
		err = failf(exitInput, "none of %s is there: give what the torrent was made from, or its folder", plural(t.Info.NumPieces(), "piece"))
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped as asked
		}
		return fmt.Errorf("seed %s: %w", t.Info.Name, err)
	}
	torrent.Announce() // now it can be said how much is there
	fmt.Fprintf(std.out, "ready: seeding %s, %s%s (pid %d)\n",
		printable(t.Info.Name), heldText(held, t.Info.NumPieces()), onAddrs(session.Addrs()), os.Getpid())
	<-ctx.Done()
	return nil
}

// onAddrs is " on 127.0.0.1:6881, [::1]:6881".
func onAddrs(addrs []net.Addr) string {
	if len(addrs) == 0 {
		return ""
	}
	all := make([]string, len(addrs))
	for i, a := range addrs {
		all[i] = a.String()
	}
	return " on " + strings.Join(all, ", ")
}
