package main

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"swarmfs/metainfo"
)

// createFlags are the flags of create.
type createFlags struct {
	output    string
	force     bool
	pieceSize int64 // bytes; 0: by total size
	trackers  []string
	webSeeds  []string
	private   bool
	comment   string
	source    string
}

func newCreate(std *streams) *cobra.Command {
	f := &createFlags{}
	cmd := &cobra.Command{
		Use:   "create [flags] PATH",
		Short: "Make a .torrent of a file or folder",
		Long: "Make a .torrent of a file or folder, and print its infohash and its magnet link, each\n" +
			"on a line.",
		Example: "  swarmfs create --tracker https://tracker.example/announce ~/videos/talk.mkv",
		Args:    argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), std, args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.output, "output", "o", "", "write to `FILE`; - is standard output (default NAME.torrent)")
	flags.BoolVar(&f.force, "force", false, "overwrite FILE")
	flags.Var(sizeValue{bytes: &f.pieceSize}, "piece-size", "a power of two, as in 1MiB (default by total size)")
	flags.StringArrayVar(&f.trackers, "tracker", nil, "announce `URL`; repeatable, each is a tier")
	flags.StringArrayVar(&f.webSeeds, "web-seed", nil, "`URL` of the same files on a web server; repeatable")
	flags.BoolVar(&f.private, "private", false, "peers come from the trackers alone")
	flags.StringVar(&f.comment, "comment", "", "a comment")
	flags.StringVar(&f.source, "source", "", "a word that sets the infohash apart from that of other trackers")
	return cmd
}

func (f *createFlags) run(ctx context.Context, std *streams, path string) error {
	if f.pieceSize != 0 && (bits.OnesCount64(uint64(f.pieceSize)) != 1 ||
		f.pieceSize < metainfo.BlockSize || f.pieceSize > metainfo.MaxPieceLength) {
		return failf(exitUsage, "create: --piece-size %d: want a power of two from %s to %s",
			f.pieceSize, formatSize(metainfo.BlockSize), formatSize(metainfo.MaxPieceLength))
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	output := f.output
	if output == "" {
		output = filepath.Base(path) + ".torrent"
	}
	if err := f.checkOutput(output); err != nil {
		return err
	}
	t, err := f.create(ctx, std, path)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return failf(exitInput, "create torrent of %s: %w", path, inputCause(err))
	}
	data, err := t.Marshal()
	if err != nil {
		return fmt.Errorf("create torrent of %s: %w", path, err)
	}
	summary := std.out
	if output == "-" {
		summary = std.err
		_, err = std.out.Write(data)
	} else {
		err = writeNew(output, data, f.force)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", output, cause(err))
	}
	_, err = fmt.Fprintf(summary, "%s\n%s\n", t.Info.Hash, magnetOf(t))
	return err
}

// checkOutput finds out before the long work that its result could not be
// written.
func (f *createFlags) checkOutput(output string) error {
	if output == "-" {
		return nil
	}
	st, err := os.Stat(output)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(output)); err != nil {
			return fmt.Errorf("write %s: %w", output, cause(err))
		}
		return nil
	case err != nil:
		return fmt.Errorf("write %s: %w", output, cause(err))
	case st.IsDir():
		return failf(exitUsage, "write %s: it is a directory: give a file with -o", output)
	case !f.force:
		return fmt.Errorf("write %s: file exists: give --force, or another file with -o", output)
	default:
		return nil
	}
}

func (f *createFlags) create(ctx context.Context, std *streams, path string) (*metainfo.Torrent, error) {
	bar := progressBar{w: std.err, what: "hashing"}
	defer bar.done()
	tiers := make([][]string, len(f.trackers))
	for i, t := range f.trackers {
		tiers[i] = []string{t}
	}
	return metainfo.Create(ctx, path, metainfo.CreateOptions{
		PieceLength: f.pieceSize, Private: f.private, Source: f.source,
		Trackers: tiers, WebSeeds: f.webSeeds, Comment: f.comment,
		CreatedBy: "swarmfs " + release, CreationDate: time.Now(),
		Progress: bar.set,
	})
}

// magnetOf is the magnet link of a torrent, with what helps to find peers.
func magnetOf(t *metainfo.Torrent) string {
	m := &metainfo.Magnet{
		Hash: t.Info.Hash, HasV1: true, Hash2: t.Info.Hash2, HasV2: t.Info.HasV2,
		Name: t.Info.Name, Length: t.Info.Length, WebSeeds: t.WebSeeds,
	}
	for _, tier := range t.Trackers {
		m.Trackers = append(m.Trackers, tier...)
	}
	return m.String()
}

// writeNew writes a file that is there complete or not at all. Without force a
// file that appeared meanwhile is kept, and an error.
func writeNew(path string, data []byte, force bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".swarmfs-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o666 &^ umask())
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if !force {
		err := unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
			return err
		} // else a file system that cannot do that: checkOutput has looked
	}
	return os.Rename(f.Name(), path)
}

// umask is what new files of this process lack.
func umask() os.FileMode {
	mask := unix.Umask(0)
	unix.Umask(mask)
	return os.FileMode(mask)
}
