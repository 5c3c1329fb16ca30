package swarm

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// kernel is Linux in front of one open file of the mount: a page cache, and the
// read-ahead of mm/readahead.c over fs/fuse/file.c (6.12), as far as programs
// that read with read(2) see it. There is no memory pressure.
//
//	                 ┌── size ──────────────┐
//	                 start     ▼ marker      start+size
//	program ► page ► [########][############]  ► READs of at most 128 KiB, several
//	                           └ async size ┘    under way, answered in any order
//
// A page that is not there makes a synchronous read-ahead: a window of two to
// four times the read. Who comes to the marker page has the next window asked
// for, twice as large, up to 1 MiB. A read at a random place reads its own pages
// alone.
type kernel struct {
	s       *seat
	rng     *rand.Rand
	maxREAD int // pages

	mu      sync.Mutex
	changed *sync.Cond
	pages   []pageState
	marked  map[int]bool // pages whose reader has the next window asked for
	failed  map[int]error
	flying  int       // READs
	sent    time.Time // the newest of them
	ra      window
	prev    int // the last page that was read; -1: none
}

type pageState uint8

const (
	pageNone pageState = iota
	pageAsked
	pageThere
)

// window is a read-ahead window, in pages.
type window struct{ start, size, async int }

const (
	pageSize = 4096
	// The mount's own numbers: read_ahead_kb, and the largest READ.
	maxWindow = 1 << 20 / pageSize
	maxREAD   = 128 << 10
	// A READ is taken from the queue so much after the one before, and may be
	// overtaken by the next on its way to the Reader.
	readGap = 20 * time.Microsecond
)

func newKernel(s *seat) *kernel {
	k := &kernel{
		s: s, rng: rand.New(rand.NewPCG(s.sc.seed, s.key+9000)), maxREAD: int(s.spec.maxREAD / pageSize),
		pages: make([]pageState, (len(s.c.data)+pageSize-1)/pageSize), marked: map[int]bool{}, failed: map[int]error{}, prev: -1,
	}
	k.changed = sync.NewCond(&k.mu)
	return k
}

// read is read(2): it returns when all pages are there.
func (k *kernel) read(off, n int64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	first, end := int(off/pageSize), int((off+n+pageSize-1)/pageSize)
	for page := first; page < end; page++ {
		if k.pages[page] == pageNone {
			k.sync(page, end-page)
		}
		if k.marked[page] {
			k.async(page)
		}
		for k.pages[page] == pageAsked {
			k.changed.Wait()
		}
		if err := k.failed[page]; err != nil {
			delete(k.failed, page)
			return err
		}
		k.prev = page
	}
	return nil
}

// sync is page_cache_sync_ra: page is missing, and count pages are to be read.
func (k *kernel) sync(page, count int) {
	switch {
	case page == 0 || page-k.prev <= 1 && page >= k.prev || count > maxWindow:
		size := firstWindow(count)
		async := size / 2
		if size > count {
			async = size - count
		}
		k.ra = window{page, size, async}
	default:
		known := 0 // pages in front of this one: a stream that was begun before
		for page-known > 0 && known < maxWindow && k.pages[page-known-1] != pageNone {
			known++
		}
		if known <= count {
			k.submit(page, min(count, maxWindow), -1)
			return
		}
		if known >= page {
			known *= 2
		}
		k.ra = window{page, min(known+count, maxWindow), 1}
	}
	k.submit(k.ra.start, k.ra.size, k.ra.start+k.ra.size-k.ra.async)
}

// async is page_cache_async_ra: somebody reads the marker page.
func (k *kernel) async(page int) {
	delete(k.marked, page)
	if page == k.ra.start+k.ra.size-k.ra.async {
		k.ra.start += k.ra.size
		k.ra.size = nextWindow(k.ra.size)
	} else { // of another window: go on behind what is there
		start := page + 1
		for start < len(k.pages) && k.pages[start] != pageNone {
			start++
		}
		k.ra = window{start, nextWindow(start - page), 0}
	}
	k.ra.async = k.ra.size
	k.submit(k.ra.start, k.ra.size, k.ra.start)
}

// firstWindow is get_init_ra_size, nextWindow get_next_ra_size.
func firstWindow(count int) int {
	size := 1
	for size < count {
		size *= 2
	}
	switch {
	case size <= maxWindow/32:
		return size * 4
	case size <= maxWindow/4:
		return size * 2
	}
	return maxWindow
}

func nextWindow(size int) int {
	switch {
	case size < maxWindow/16:
		return size * 4
	case size <= maxWindow/2:
		return size * 2
	}
	return maxWindow
}

// submit asks for the pages that are not there, in READs, and puts the marker.
func (k *kernel) submit(start, size, marker int) {
	end := min(start+size, len(k.pages))
	if marker >= start && marker < end && k.pages[marker] == pageNone {
		k.marked[marker] = true
	}
	for page := start; page < end; {
		if k.pages[page] != pageNone {
			page++
			continue
		}
		from := page
		for page < end && page-from < k.maxREAD && k.pages[page] == pageNone {
			k.pages[page] = pageAsked
			page++
		}
		now := time.Now()
		if k.sent.Before(now) {
			k.sent = now
		}
		k.sent = k.sent.Add(readGap)
		k.send(from, page, k.sent.Sub(now)+time.Duration(k.rng.Int64N(int64(2*readGap))))
	}
}

// send has one READ on its way.
func (k *kernel) send(from, end int, after time.Duration) {
	k.flying++
	k.s.all.asked([2]int64{int64(from) * pageSize, int64(end-from) * pageSize})
	k.s.peers.Go(func() {
		k.s.net.Sleep(after, k.s.key<<32|uint64(from))
		off := int64(from) * pageSize
		err := k.s.fetch(off, min(int64(end)*pageSize, int64(len(k.s.c.data)))-off)
		k.mu.Lock()
		defer k.mu.Unlock()
		for page := from; page < end; page++ {
			k.pages[page] = pageThere
			if err != nil {
				k.pages[page] = pageNone
				k.failed[page] = err
			}
		}
		k.flying--
		k.changed.Broadcast()
	})
}

// wait returns when no READ is under way.
func (k *kernel) wait() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.flying > 0 {
		k.changed.Wait()
	}
}

// The traces are of a mount whose largest READ was this.
const recordedREAD = 256 << 10

// TestTheKernelReadsAheadAsTheRealOne compares the READs of programs that read in
// sequence with those that were recorded of them on a mount.
func TestTheKernelReadsAheadAsTheRealOne(t *testing.T) {
	for name, chunk := range map[string]int{"cp": 128 << 10, "tar": 10 << 10, "rsync": 256 << 10} {
		t.Run(name, func(t *testing.T) {
			i := slices.IndexFunc(loadTraces(t), func(tr *trace) bool { return tr.name == name })
			tr := loadTraces(t)[i]
			var want [][2]int64
			for _, op := range tr.ops {
				if op.kind == traceRead {
					want = append(want, [2]int64{op.off, op.n})
				}
			}
			sc, err := parseScenario(name, fmt.Sprintf("torrent f file=%d\npeer p x2\nreader r kernel copy chunk=%d", tr.size, chunk))
			sc.torrents[0].readers[0].maxREAD = recordedREAD
			if err != nil {
				t.Fatal(err)
			}
			got := sc.run(t, "", func(string, ...any) {}).readers["r"].reads
			last := &got[len(got)-1]
			last[1] = min(last[1], tr.size-last[0])
			slices.SortFunc(got, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
			slices.SortFunc(want, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
			if !slices.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}
