package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"swarmfs/cmd/swarmfs/internal/api"
)

// remote is a command that talks to a running mount.
type remote struct {
	*cobra.Command
	std  *streams
	data string
}

func newRemote(std *streams, c *cobra.Command, run func(ctx context.Context, r *remote, mount *api.Client, args []string) error) *remote {
	r := &remote{Command: c, std: std}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		dir, err := dataFolder(r.data)
		if err != nil {
			return err
		}
		err = run(cmd.Context(), r, api.NewClient(dir), args)
		if errors.Is(err, api.ErrNoDaemon) {
			return failf(exitNobody, "%s: no mount uses the data folder %s: start one, or name its folder with --data DIR", cmd.Name(), dir)
		}
		return err
	}
	c.Flags().StringVar(&r.data, "data", "", "data folder `DIR` of the mount (default $XDG_DATA_HOME/swarmfs or ~/.local/share/swarmfs)")
	return r
}

// target is what an argument names. Whether it is a path the daemon finds out,
// which knows the mountpoint.
func target(arg string) api.Target {
	abs, err := filepath.Abs(arg)
	if err != nil {
		return api.Target{Arg: arg}
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	return api.Target{Arg: arg, Path: abs}
}

func newStatus(std *streams) *cobra.Command {
	var asJSON bool
	r := newRemote(std, &cobra.Command{
		Use:   "status [flags] [TORRENT|PATH]",
		Short: "Show what a running mount does, and what its reads wait for",
		Long: "Show what a running mount does: its torrents, and what reads wait for. With the name or\n" +
			"infohash of a torrent, or a path in the mount, that torrent in detail and its peers.",
		Args: argCount(0, 1),
	}, func(ctx context.Context, r *remote, mount *api.Client, args []string) error {
		var of api.Target
		if len(args) > 0 {
			of = target(args[0])
		}
		st, err := mount.Status(ctx, of)
		if err != nil {
			return err
		}
		if asJSON {
			enc := json.NewEncoder(r.std.out)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			err = enc.Encode(st)
		} else {
			_, err = fmt.Fprint(r.std.out, statusTable(st, isTerminal(r.std.out)))
		}
		if err != nil {
			return fmt.Errorf("status: %w", err)
		}
		return nil
	})
	r.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return r.Command
}

func newAdd(std *streams) *cobra.Command {
	return newRemote(std, &cobra.Command{
		Use:   "add [flags] SOURCE...",
		Short: "Add torrents to a running mount",
		Long: "Add torrents to a running mount, for as long as it runs. A SOURCE is what mount takes.\n" +
			"Prints the path under which each is shown. A magnet link is shown once peers have sent its metadata.",
		Args: argCount(1, -1),
	}, addTorrents).Command
}

// addTorrents reads the sources here, where the user's files and terminal are;
// the daemon follows links and URLs, over the network that it is confined to.
func addTorrents(ctx context.Context, r *remote, mount *api.Client, args []string) error {
	// Is there a mount at all? Sources may take long to read.
	if _, err := mount.Limit(ctx, api.LimitRequest{}); err != nil {
		return err
	}
	l := &loader{stdin: r.std.in, textOnly: true, urls: true, warn: r.std.warn}
	all, err := l.loadAll(ctx, args)
	if err != nil {
		return err
	}
	return forAll(ctx, r, all, func(t loaded) (string, error) {
		request := api.AddRequest{Label: t.label}
		if t.magnet != nil {
			request.Magnet = t.magnet.String()
		} else if t.url != "" {
			request.URL = t.url
		} else if request.Torrent, err = t.torrent.Marshal(); err != nil {
			return "", fmt.Errorf("add %s: %w", t.label, err)
		}
		reply, err := mount.Add(ctx, request)
		if reply.Resolving {
			return "resolving: " + printable(reply.Name), err
		}
		return "added: " + printable(reply.Name), err
	})
}

// forAll does one thing after the other and prints what was done. What fails is
// told and does not hold up the rest; the exit code is that of the first.
func forAll[T any](ctx context.Context, r *remote, things []T, do func(T) (string, error)) error {
	var told error
	for i, thing := range things {
		line, err := do(thing)
		switch {
		case err == nil:
			if _, err := fmt.Fprintln(r.std.out, line); err != nil {
				return fmt.Errorf("%s: %w", r.Name(), err)
			}
		case errors.Is(err, api.ErrNoDaemon), ctx.Err() != nil, told == nil && i == len(things)-1:
			return err
		default:
			fmt.Fprintln(r.std.err, errorLine(err))
			told = &exitError{code: exitCode(cmp.Or(told, err))}
		}
	}
	return told
}

func newRemove(std *streams) *cobra.Command {
	return newRemote(std, &cobra.Command{
		Use:   "rm [flags] TORRENT...",
		Short: "Take torrents out of a running mount",
		Long: "Take torrents, by name, infohash or path, out of a running mount. Files that are open\n" +
			"can be read no more (ESTALE). The cache keeps the pieces until it needs the room.",
		Args: argCount(1, -1),
	}, each("removed", (*api.Client).Remove)).Command
}

func newPin(std *streams) *cobra.Command {
	return newRemote(std, &cobra.Command{
		Use:   "pin [flags] TORRENT|PATH...",
		Short: "Complete and keep files, folders or torrents of a running mount",
		Long: "Fetch all of a torrent, or of a file or folder in the mount, whether it is read or not,\n" +
			"and keep it in the cache until it is unpinned, also when the mount is started again.",
		Args: argCount(1, -1),
	}, each("pinned", (*api.Client).Pin)).Command
}

func newUnpin(std *streams) *cobra.Command {
	return newRemote(std, &cobra.Command{
		Use:   "unpin [flags] TORRENT|PATH...",
		Short: "Let the cache drop what was pinned",
		Args:  argCount(1, -1),
	}, each("unpinned", (*api.Client).Unpin)).Command
}

// each does something to one target after the other, and says so.
func each(done string, do func(*api.Client, context.Context, api.Target) (api.Done, error)) func(context.Context, *remote, *api.Client, []string) error {
	return func(ctx context.Context, r *remote, mount *api.Client, args []string) error {
		return forAll(ctx, r, args, func(arg string) (string, error) {
			d, err := do(mount, ctx, target(arg))
			line := done + ": " + printable(d.Name)
			if d.Pieces > 0 {
				line += fmt.Sprintf(" (%s, %s)", plural(d.Pieces, "piece"), bytesText(d.Bytes))
			}
			return line, err
		})
	}
}

func newLimit(std *streams) *cobra.Command {
	var upload, download, cacheSize int64
	var seed string
	r := newRemote(std, &cobra.Command{
		Use:   "limit [flags] [TORRENT]",
		Short: "Show or change the limits of a running mount, or of a torrent in it",
		Long: "Change the limits of a running mount, for as long as it runs, and show those in force.\n" +
			"Without flags they are shown only. A smaller cache is one within a minute. With a\n" +
			"TORRENT, by name, infohash or path, its own limits, which hold beside those of all.",
		Example: "  swarmfs limit --upload 2MiB --download 0\n" +
			"  swarmfs limit --seed ratio:2 film",
		Args: argCount(0, 1),
	}, func(ctx context.Context, r *remote, mount *api.Client, args []string) error {
		var request api.LimitRequest
		if len(args) > 0 {
			request.Torrent = target(args[0])
		}
		if r.Flags().Changed("seed") {
			request.Seed = &seed
		}
		if r.Flags().Changed("upload") {
			request.Upload = &upload
		}
		if r.Flags().Changed("download") {
			request.Download = &download
		}
		if r.Flags().Changed("cache-size") {
			request.CacheSize = &cacheSize
		}
		l, err := mount.Limit(ctx, request)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("limits: %s; seed %s; cache on disk %s", ratesText(l), l.Seed, formatSize(l.CacheSize))
		if len(args) > 0 {
			line = fmt.Sprintf("limits of %s: %s; seed %s", args[0], ratesText(l), l.Seed)
		}
		if _, err := fmt.Fprintln(r.std.out, printable(line)); err != nil {
			return fmt.Errorf("limit: %w", err)
		}
		return nil
	})
	r.Flags().Var(sizeValue{bytes: &upload, suffix: "/s"}, "upload", "most bytes to send each second, as in 5MiB; 0: no limit")
	r.Flags().Var(sizeValue{bytes: &download, suffix: "/s"}, "download", "most bytes to fetch each second, as in 5MiB; 0: no limit")
	r.Flags().StringVar(&seed, "seed", "", "how long to upload what is held, as mount --seed; `default` of a torrent: as all")
	r.Flags().Var(sizeValue{bytes: &cacheSize}, "cache-size", "disk space for the cache; 0: memory only")
	return r.Command
}
