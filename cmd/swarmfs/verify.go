package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"swarmfs/cache"
	"swarmfs/cmd/swarmfs/internal/api"
	"swarmfs/metainfo"
)

func newVerify(std *streams) *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "verify [flags] SOURCE [PATH]",
		Short: "Check the cached pieces of a torrent, or its files on disk",
		Long: "Hash every piece of a torrent and say how many are good, bad and missing. With PATH, which\n" +
			"is what the torrent was made from or the folder that holds it, the files on disk are\n" +
			"checked; without, what the cache holds. If a mount uses the data folder, it does that, as\n" +
			"slowly as not to be in the way of reads, and SOURCE may be a name or a path in it. Bad\n" +
			"pieces are dropped from the cache. The exit code is 7 when a piece is bad or missing.",
		Args: argCount(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return verifyFiles(cmd.Context(), std, args[0], args[1])
			}
			return verifyCache(cmd.Context(), std, args[0], data)
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "data folder `DIR` (default $XDG_DATA_HOME/swarmfs or ~/.local/share/swarmfs)")
	return cmd
}

// tally counts pieces.
type tally struct{ good, bad, missing int }

func (t *tally) all() int { return t.good + t.bad + t.missing }

// report prints the tally of a torrent; it is an error when not all is good.
func (t *tally) report(std *streams, name string) error {
	_, err := fmt.Fprintf(std.out, "%s: %s: %d good, %d bad, %d missing\n",
		printable(name), plural(t.all(), "piece"), t.good, t.bad, t.missing)
	if err == nil && t.good < t.all() {
		err = failf(exitVerify, "verify %s: %s bad or missing", name, heldText(t.bad+t.missing, t.all()))
	}
	return err
}

// loadOne reads a source that must be one torrent.
func loadOne(ctx context.Context, std *streams, source string, state *cache.State, n nets) (*metainfo.Torrent, error) {
	l := &loader{stdin: std.in, state: state, nets: n, warn: std.warn}
	all, err := l.loadAll(ctx, []string{source})
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, failf(exitInput, "read %s: it holds %d torrents: give one of them", sourceLabel(source), len(all))
	}
	return all[0].torrent, nil
}

func verifyFiles(ctx context.Context, std *streams, source, path string) error {
	t, err := loadOne(ctx, std, source, nil, nets{})
	if err != nil {
		return err
	}
	files, err := openOnDisk(t.Info, path)
	if err != nil {
		return err
	}
	defer files.Close()
	if len(files.missing) > 0 {
		std.warn("missing or too short", errors.New(someOf(files.missing)))
	}
	var sum tally
	err = hashFiles(ctx, std, t.Info, files, func(piece int, ok bool) {
		switch {
		case ok:
			sum.good++
		case files.absent[piece/64]>>(piece%64)&1 != 0:
			sum.missing++
		default:
			sum.bad++
		}
	})
	if err != nil {
		return fmt.Errorf("verify %s: %w", path, err)
	}
	return sum.report(std, t.Info.Name)
}

// hashFiles verifies all pieces with a progress bar. found is called by one
// goroutine at a time.
func hashFiles(ctx context.Context, std *streams, info *metainfo.Info, files *diskFiles, found func(piece int, ok bool)) error {
	bar := progressBar{w: std.err, what: "verifying"}
	defer bar.done()
	layout := info.Layout()
	var done int64
	return files.Verify(ctx, runtime.GOMAXPROCS(0), func(piece int, ok bool) {
		done += int64(layout.PieceSize(piece))
		bar.set(done, info.Length)
		found(piece, ok)
	})
}

// verifyCache has what the cache holds of a torrent hashed, by the mount that uses it
// if there is one.
func verifyCache(ctx context.Context, std *streams, source, data string) error {
	data, err := dataFolder(data)
	if err != nil {
		return err
	}
	if err := verifyMounted(ctx, std, source, api.NewClient(data)); !errors.Is(err, api.ErrNoDaemon) {
		return err
	}
	store, state, err := openData(data)
	if err != nil {
		return err
	}
	defer store.Close(context.WithoutCancel(ctx))
	t, err := loadOne(ctx, std, source, state, nets{})
	if err != nil {
		return err
	}
	volume, err := store.Volume(t.Info.Hash, geometry(t.Info))
	if err != nil {
		return failf(exitData, "open cache in %s: %w", data, err)
	}
	if err := store.Degraded(); err != nil {
		return failf(exitData, "open cache in %s: %w", data, err)
	}
	sum, err := hashVolume(ctx, std, t.Info, volume)
	if err != nil {
		return fmt.Errorf("verify cache of %s: %w", t.Info.Name, err)
	}
	return sum.report(std, t.Info.Name)
}

// verifyMounted has a mount check a torrent, a moment at a time.
func verifyMounted(ctx context.Context, std *streams, source string, mount *api.Client) error {
	r := api.VerifyRequest{Target: target(source)}
	reply, err := mount.Verify(ctx, r)
	if remote := (*api.Error)(nil); errors.As(err, &remote) && remote.Code == exitInput {
		// It is no name in the mount: a torrent that is?
		t, loadErr := loadOne(ctx, std, source, nil, nets{})
		if loadErr != nil {
			return err
		}
		r.Target = api.Target{Arg: t.Info.Hash.String()}
		reply, err = mount.Verify(ctx, r)
	}
	bar := progressBar{w: std.err, what: "verifying"}
	defer bar.done()
	var sum tally
	for ; err == nil; reply, err = mount.Verify(ctx, r) {
		sum.good, sum.bad, sum.missing = sum.good+reply.Good, sum.bad+reply.Bad, sum.missing+reply.Missing
		bar.set(reply.Done, reply.Bytes)
		r.Piece = reply.Next
		if reply.Next >= reply.Pieces {
			bar.done()
			return sum.report(std, reply.Name)
		}
	}
	return err
}

// hashVolume reads and hashes the held pieces of a volume.
func hashVolume(ctx context.Context, std *streams, info *metainfo.Info, volume *cache.Volume) (tally, error) {
	layout := info.Layout()
	held := volume.Pieces()
	var count int
	for _, w := range held {
		count += bits.OnesCount64(w)
	}
	sum := tally{missing: layout.NumPieces() - count}
	bar := progressBar{w: std.err, what: "verifying"}
	defer bar.done()

	results := make(chan bool)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0) + 1)
	var counted errgroup.Group
	counted.Go(func() error {
		done := int64(0)
		for ok := range results {
			if ok {
				sum.good++
			} else {
				sum.bad++
			}
			done += info.PieceLength
			bar.set(min(done, int64(count)*info.PieceLength), int64(count)*info.PieceLength)
		}
		return nil
	})
	for piece := range layout.NumPieces() {
		if held[piece/64]>>(piece%64)&1 == 0 {
			continue
		}
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			results <- volume.Check(piece) == nil
			return nil
		})
	}
	err := group.Wait()
	close(results)
	_ = counted.Wait()
	return sum, err
}

// noEviction is a bound that no cache reaches: looking must not evict.
const noEviction = math.MaxInt64 / 4

// openData opens the data folder for a command that only looks into it. A
// folder that is not there is made by nobody.
func openData(data string) (*cache.Store, *cache.State, error) {
	if !isDir(data) {
		return nil, nil, failf(exitData, "open data folder %s: there is none: mount something first, or give --data DIR", data)
	}
	store, err := cache.Open(cache.Options{Dir: data, Budget: noEviction, KeepAll: true})
	if err != nil {
		return nil, nil, dataError(err)
	}
	state, err := cache.OpenState(data, nil)
	if err != nil {
		_ = store.Close(context.Background())
		return nil, nil, dataError(err)
	}
	return store, state, nil
}

// dataError adds what to do about a data folder that cannot be used.
func dataError(err error) error {
	switch {
	case errors.As(err, new(*cache.LockedError)):
		return failf(exitData, "%w: stop that, or give another --data DIR", err)
	case errors.As(err, new(*cache.FormatError)):
		return failf(exitData, "open data folder: %w: a newer swarmfs wrote it: use that, or give another --data DIR", err)
	}
	return err
}
