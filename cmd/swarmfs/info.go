package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"swarmfs/metainfo"
)

func newInfo(std *streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "info [flags] SOURCE",
		Short: "Show what a torrent holds",
		Long: "Show what a torrent holds. A magnet link or an infohash is judged by its text:\n" +
			"nothing is asked of the network.",
		Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := readInfos(cmd.Context(), std, args[0])
			if err != nil {
				return err
			}
			for i, r := range all {
				if err := r.write(std.out, asJSON, i > 0); err != nil {
					return fmt.Errorf("info: %w", err)
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON: one object for each torrent")
	return cmd
}

// report is what info knows of a torrent or a magnet link. Its JSON form is
// part of the interface: null is what a magnet link does not tell.
type report struct {
	Name        *string      `json:"name"`
	Hash        *string      `json:"infohash_v1"`
	Hash2       *string      `json:"infohash_v2"`
	Private     *bool        `json:"private"`
	PieceLength *int64       `json:"piece_length"`
	Length      *int64       `json:"length"`
	Trackers    []string     `json:"trackers"`
	WebSeeds    []string     `json:"webseeds"`
	Files       []reportFile `json:"files"`

	torrent *metainfo.Torrent
	magnet  *metainfo.Magnet
}

type reportFile struct {
	Path   string `json:"path"`
	Length int64  `json:"length"`
	Target string `json:"target,omitempty"` // of a symbolic link
}

// readInfos reads the torrents of a source, or a magnet link without following it.
func readInfos(ctx context.Context, std *streams, source string) ([]*report, error) {
	link := source
	switch classify(source) {
	case sourceMagnet:
	case sourceHash:
		link = hashMagnet(source)
	default:
		l := &loader{stdin: std.in, textOnly: true, warn: std.warn}
		all, err := l.loadAll(ctx, []string{source})
		if err != nil {
			return nil, err
		}
		reports := make([]*report, len(all))
		for i, t := range all {
			if t.magnet != nil {
				reports[i] = magnetReport(t.magnet)
			} else {
				reports[i] = torrentReport(t.torrent)
			}
		}
		return reports, nil
	}
	m, err := metainfo.ParseMagnet(link)
	if err != nil {
		return nil, failf(exitInput, "read %s: %w", sourceLabel(source), inputCause(err))
	}
	return []*report{magnetReport(m)}, nil
}

func torrentReport(t *metainfo.Torrent) *report {
	info := t.Info
	r := &report{
		Name: &info.Name, Hash: new(info.Hash.String()), Private: &info.Private,
		PieceLength: &info.PieceLength, Length: &info.Length,
		Trackers: []string{}, WebSeeds: append([]string{}, t.WebSeeds...), Files: []reportFile{},
		torrent: t,
	}
	if info.HasV2 {
		r.Hash2 = new(info.Hash2.String())
	}
	for _, tier := range t.Trackers {
		r.Trackers = append(r.Trackers, tier...)
	}
	tree := info.Tree()
	for n := range metainfo.Node(tree.Len()) {
		if tree.IsDir(n) {
			continue
		}
		path := tree.Name(metainfo.Root)
		if n != metainfo.Root {
			path += "/" + tree.Path(n)
		}
		f := reportFile{Path: path, Length: info.Files[tree.File(n)].Length}
		if tree.IsSymlink(n) {
			f.Target = tree.Target(n)
		}
		r.Files = append(r.Files, f)
	}
	return r
}

func magnetReport(m *metainfo.Magnet) *report {
	r := &report{
		Trackers: append([]string{}, m.Trackers...), WebSeeds: append([]string{}, m.WebSeeds...),
		magnet: m,
	}
	if m.HasV1 {
		r.Hash = new(m.Hash.String())
	}
	if m.HasV2 {
		r.Hash2 = new(m.Hash2.String())
	}
	if m.Name != "" {
		r.Name = &m.Name
	}
	if m.Length > 0 {
		r.Length = &m.Length
	}
	return r
}

// write prints the report; next says that another stands before it.
func (r *report) write(w io.Writer, asJSON, next bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	var b strings.Builder
	if next {
		b.WriteByte('\n')
	}
	r.text(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *report) text(b *strings.Builder) {
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(b, "%-13s %s\n", key+":", printable(value))
		}
	}
	list := func(key string, values []string) {
		for i, v := range values {
			if i > 0 {
				fmt.Fprintf(b, "%-13s %s\n", "", printable(v))
				continue
			}
			line(key, v)
		}
	}
	line("name", deref(r.Name))
	line("infohash v1", deref(r.Hash))
	line("infohash v2", deref(r.Hash2))
	if r.torrent != nil {
		r.textOfTorrent(line)
	} else if r.Length != nil {
		line("size", sizeText(*r.Length))
	}
	list("trackers", r.Trackers)
	list("web seeds", r.WebSeeds)
	if r.magnet != nil {
		list("peers", r.magnet.Peers)
		list("torrent at", r.magnet.Sources)
		return
	}
	b.WriteString("files:\n")
	for _, f := range r.Files {
		if f.Target != "" {
			fmt.Fprintf(b, "%12s  %s -> %s\n", "link", printable(f.Path), printable(f.Target))
			continue
		}
		fmt.Fprintf(b, "%12s  %s\n", humanize.IBytes(uint64(f.Length)), printable(f.Path))
	}
}

func (r *report) textOfTorrent(line func(key, value string)) {
	t, info := r.torrent, r.torrent.Info
	layout := info.Layout()
	line("size", fmt.Sprintf("%s in %s", sizeText(info.Length), plural(len(r.Files), "file")))
	line("pieces", fmt.Sprintf("%d of %s", layout.NumPieces(), humanize.IBytes(uint64(info.PieceLength))))
	if info.Private {
		line("private", "yes")
	}
	line("source", info.Source)
	line("comment", t.Comment)
	line("created by", t.CreatedBy)
	if !t.CreationDate.IsZero() {
		line("created", t.CreationDate.UTC().Format(time.RFC3339))
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func sizeText(n int64) string {
	return fmt.Sprintf("%s (%d bytes)", humanize.IBytes(uint64(n)), n)
}

// plural is "1 file", "2 files".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
