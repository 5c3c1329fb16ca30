package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"

	"swarmfs/cache"
	"swarmfs/metainfo"
)

// maxTorrent bounds a .torrent in bytes, whatever it comes from. It is
// metainfo's own bound: more would be read only to be refused.
const maxTorrent = metainfo.MaxSize

var errTooLarge = fmt.Errorf("larger than %s: this is no .torrent", formatSize(maxTorrent))

// loaded is a torrent and what its source said besides.
type loaded struct {
	torrent *metainfo.Torrent
	label   string // for messages
	peers   []netip.AddrPort
	wanted  metainfo.FileRanges // of a link's so (BEP 53); nil: all files
	magnet  *metainfo.Magnet    // instead of a torrent: with textOnly, or links and unknown
	url     string              // instead of both: with urls
}

// errNoMetadata is why a magnet link or infohash cannot be used where nobody is
// asked for it.
var errNoMetadata = errors.New("its metadata is not known here: mount it once, or give the .torrent")

// hash returns the infohash (v1).
func (t *loaded) hash() (h metainfo.Hash, ok bool) {
	if t.torrent != nil {
		return t.torrent.Info.Hash, true
	}
	if t.magnet == nil {
		return h, false
	}
	return t.magnet.Hash, t.magnet.HasV1
}

// loader reads sources.
type loader struct {
	stdin io.Reader
	// state knows the torrents that were mounted before; nil: none.
	state *cache.State
	// textOnly leaves magnet links as they are: neither memory nor network is
	// asked for the torrent.
	textOnly bool
	// links leaves magnet links whose torrent is not remembered as they are.
	links bool
	// urls leaves URLs as they are: somebody else fetches them.
	urls bool
	nets nets
	// warn is told of what is skipped. It may be called from any goroutine.
	warn func(label string, err error)
}

// loadAll reads sources in parallel and returns their torrents in the order of
// the arguments, each infohash once. Sources whose metadata cannot be had yet
// are warned about, unless nothing else is left.
func (l *loader) loadAll(ctx context.Context, sources []string) ([]loaded, error) {
	found := make([][]loaded, len(sources))
	pending := make([]error, len(sources))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i, s := range sources {
		group.Go(func() error {
			var err error
			found[i], err = l.load(ctx, s)
			if errors.Is(err, errNoMetadata) {
				pending[i] = err
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := l.unique(slices.Concat(found...))
	for i, err := range pending {
		switch {
		case err == nil:
		case len(all) == 0:
			return nil, err
		default:
			l.warn(sourceLabel(sources[i]), errNoMetadata)
		}
	}
	return all, nil
}

// unique drops torrents that came twice. What their sources knew of peers is
// kept.
func (l *loader) unique(all []loaded) []loaded {
	first := make(map[metainfo.Hash]int, len(all))
	kept := all[:0]
	for _, t := range all {
		hash, ok := t.hash()
		if !ok {
			kept = append(kept, t)
			continue
		}
		if i, ok := first[hash]; ok {
			l.warn(t.label, fmt.Errorf("the same torrent as %s: mounted once", kept[i].label))
			kept[i].peers = append(kept[i].peers, t.peers...)
			if kept[i].torrent == nil {
				kept[i].torrent = t.torrent
			}
			continue
		}
		first[hash] = len(kept)
		kept = append(kept, t)
	}
	return kept
}

// load reads one source. Errors name it and have an exit code.
func (l *loader) load(ctx context.Context, source string) ([]loaded, error) {
	label := sourceLabel(source)
	one := func(t loaded, err error) ([]loaded, error) {
		if err != nil {
			return nil, failf(exitInput, "read %s: %w", label, inputCause(err))
		}
		t.label = label
		return []loaded{t}, nil
	}
	switch classify(source) {
	case sourceStdin:
		data, err := readBounded(l.stdin)
		if err != nil {
			return one(loaded{}, err)
		}
		return one(l.parse(ctx, data))
	case sourceURL:
		if l.urls {
			return one(loaded{url: source}, nil)
		}
		data, err := l.nets.forUser().fetch(ctx, source)
		if err != nil {
			return nil, failf(exitInput, "fetch %s: %w", label, err)
		}
		return one(parseTorrent(data))
	case sourceMagnet:
		return one(l.magnet(ctx, source))
	case sourceHash:
		return one(l.magnet(ctx, hashMagnet(source)))
	case sourceScheme:
		return one(loaded{}, errors.New("URL of an unsupported scheme: give an http or https URL, or a file"))
	}
	st, err := os.Stat(source)
	if err != nil {
		return one(loaded{}, fmt.Errorf("%w: give a .torrent file, a folder of them, a URL, a magnet link or an infohash", cause(err)))
	}
	if st.IsDir() {
		return l.folder(ctx, source)
	}
	return one(l.file(ctx, source))
}

// folder reads the .torrent files directly in dir in alphabetical order; a
// broken one is warned about and skipped.
func (l *loader) folder(ctx context.Context, dir string) ([]loaded, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, failf(exitInput, "read folder %s: %w", dir, cause(err))
	}
	var names []string
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if !strings.EqualFold(filepath.Ext(name), ".torrent") {
			continue
		}
		// Through symlinks, but no pipe: reading one could wait for ever.
		if st, err := os.Stat(name); err == nil && !st.Mode().IsRegular() {
			continue
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, failf(exitInput, "read folder %s: it holds no .torrent file", dir)
	}
	sort.Strings(names)
	var (
		all     []loaded
		skipped []error
	)
	for _, name := range names {
		t, err := l.file(ctx, name)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			skipped = append(skipped, fmt.Errorf("read %s: %w", filepath.Base(name), inputCause(err)))
			continue
		}
		t.label = name
		all = append(all, t)
	}
	if len(all) == 0 {
		return nil, failf(exitInput, "read folder %s: none of its %s can be used: %w", dir, plural(len(names), ".torrent file"), skipped[0])
	}
	for _, err := range skipped {
		l.warn(dir, err)
	}
	return all, nil
}

func (l *loader) file(ctx context.Context, path string) (loaded, error) {
	st, err := os.Stat(path)
	if err != nil {
		return loaded{}, cause(err)
	}
	if st.Mode().IsRegular() && st.Size() > maxTorrent {
		return loaded{}, errTooLarge
	}
	f, err := os.Open(path)
	if err != nil {
		return loaded{}, cause(err)
	}
	defer f.Close()
	data, err := readBounded(f)
	if err != nil {
		return loaded{}, cause(err)
	}
	return l.parse(ctx, data)
}

// parse reads the content of a file: a torrent, or a magnet link saved as text.
func (l *loader) parse(ctx context.Context, data []byte) (loaded, error) {
	if text, ok := magnetText(data); ok {
		return l.magnet(ctx, text)
	}
	return parseTorrent(data)
}

func parseTorrent(data []byte) (loaded, error) {
	t, err := metainfo.Parse(data)
	return loaded{torrent: t}, err
}

// magnetText is the magnet link that a file consists of, if it does.
func magnetText(data []byte) (string, bool) {
	if len(data) > 64<<10 || !hasPrefixFold(string(data[:min(len(data), 7)]), "magnet:") {
		return "", false
	}
	return strings.TrimSpace(string(data)), true
}

// magnet finds the metainfo of a magnet link: in memory, else at one of the
// addresses of its "xs" (BEP 9 knows no such thing, but clients write it).
func (l *loader) magnet(ctx context.Context, link string) (loaded, error) {
	m, err := metainfo.ParseMagnet(link)
	if err != nil {
		return loaded{}, err
	}
	if l.textOnly {
		return loaded{magnet: m}, nil
	}
	if t := l.remembered(m); t != nil {
		return fromMagnet(m, t), nil
	}
	if l.links {
		return loaded{magnet: m}, nil
	}
	return fromSources(ctx, m, l.nets)
}

// fromSources gets the torrent of a link from one of the addresses that it names.
func fromSources(ctx context.Context, m *metainfo.Magnet, n nets) (loaded, error) {
	var problems []error
	for _, address := range m.Sources {
		if classify(address) != sourceURL {
			continue
		}
		t, err := fetchFor(ctx, m, address, n)
		if err == nil {
			return fromMagnet(m, t), nil
		}
		problems = append(problems, fmt.Errorf("fetch %s: %w", redactURL(address), err))
	}
	if len(problems) > 0 {
		return loaded{}, problems[0]
	}
	return loaded{}, errNoMetadata
}

// remembered is the torrent of a link if it was mounted before. One that
// cannot be read is as good as none: the network may have it.
func (l *loader) remembered(m *metainfo.Magnet) *metainfo.Torrent {
	if l.state == nil || !m.HasV1 {
		return nil
	}
	data, err := l.state.Get(m.Hash)
	if err != nil {
		return nil
	}
	t, err := metainfo.Parse(data)
	if err != nil || !matches(m, t) {
		return nil
	}
	return t
}

// matches reports whether the torrent is the link's.
func matches(m *metainfo.Magnet, t *metainfo.Torrent) bool {
	return (!m.HasV1 || t.Info.Hash == m.Hash) &&
		(!m.HasV2 || t.Info.HasV2 && t.Info.Hash2 == m.Hash2)
}

// fetchFor gets the .torrent of a magnet link from an address that the link
// names, and believes it only if the infohash is the link's.
func fetchFor(ctx context.Context, m *metainfo.Magnet, address string, n nets) (*metainfo.Torrent, error) {
	data, err := n.forLinks().fetch(ctx, address)
	if err != nil {
		return nil, err
	}
	t, err := metainfo.Parse(data)
	if err != nil {
		return nil, err
	}
	if !matches(m, t) {
		return nil, errors.New("it is another torrent than the link's")
	}
	return t, nil
}

// fromMagnet adds the link's trackers, web seeds and peers to a torrent. A
// private torrent takes none: its peers come from its own trackers (BEP 27).
func fromMagnet(m *metainfo.Magnet, t *metainfo.Torrent) loaded {
	if t.Info.Private {
		return loaded{torrent: t, wanted: m.Select}
	}
	with := *t
	for _, tr := range m.Trackers {
		if !slices.ContainsFunc(with.Trackers, func(tier []string) bool { return slices.Contains(tier, tr) }) {
			with.Trackers = append(slices.Clip(with.Trackers), []string{tr})
		}
	}
	for _, ws := range m.WebSeeds {
		if !slices.Contains(with.WebSeeds, ws) {
			with.WebSeeds = append(slices.Clip(with.WebSeeds), ws)
		}
	}
	return loaded{torrent: &with, peers: literalPeers(m.Peers), wanted: m.Select}
}

// literalPeers are the addresses among a link's peers (x.pe). Names are left
// out: looking up what a stranger's link names is not worth it.
func literalPeers(peers []string) []netip.AddrPort {
	var all []netip.AddrPort
	for _, p := range peers {
		if a, err := netip.ParseAddrPort(p); err == nil && a.Port() != 0 {
			all = append(all, a)
		}
	}
	return all
}

// inputCause is why an input was refused, without the operation, for messages
// that say it.
func inputCause(err error) error {
	var input *metainfo.InputError
	if errors.As(err, &input) {
		return errors.New(input.What)
	}
	return cause(err)
}

// readBounded reads all of r, unless that is more than a .torrent can be.
func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxTorrent+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxTorrent {
		return nil, errTooLarge
	}
	return data, nil
}
