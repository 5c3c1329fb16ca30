package fs

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// accessBook keeps what an observer is told, and checks that whoever asks is
// still there to be looked at.
type accessBook struct {
	mu    sync.Mutex
	dead  int
	all   []Access
	ended int // releases
}

func (b *accessBook) observe(a Access) {
	gone := a.Op != OpRelease && unix.Kill(int(a.Caller), 0) != nil
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, a)
	if gone {
		b.dead++
	}
	if a.Op == OpRelease {
		b.ended++
	}
}

// wait returns what came when so many handles have been released.
func (b *accessBook) wait(t *testing.T, releases int) []Access {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		b.mu.Lock()
		all, ended, dead := b.all, b.ended, b.dead
		b.mu.Unlock()
		switch {
		case dead > 0:
			t.Fatalf("%d requests were told of when their program had ended", dead)
		case ended >= releases:
			return all
		case time.Now().After(deadline):
			t.Fatalf("got %d releases, want %d", ended, releases)
		}
	}
}

func TestAnObserverSeesOpenReadsAndRelease(t *testing.T) {
	const size = 1_000_000
	var book accessBook
	s := New(Options{Logger: testLog(t), Observe: book.observe, Files: func() []VirtualFile {
		return []VirtualFile{{"version", func() []byte { return []byte("1\n") }}}
	}})
	mustAdd(t, s, newFake(newInfo(t, "show", spec{path: "a/film", length: size}, spec{path: "b", length: 5})))
	mustAdd(t, s, newFake(newInfo(t, "song", spec{length: 5})))
	dir := mountFor(t, s)
	sh(t, dir, "cat .swarmfs/version; cat show/a/film | wc -c")
	first := book.wait(t, 1)
	open, release := first[0], first[len(first)-1]
	if open.Op != OpOpen || open.Path != filepath.Join("show", "a", "film") || open.Length != size {
		t.Errorf("got %+v first, want the open of a/film", open)
	}
	if release.Op != OpRelease || release.Handle != open.Handle {
		t.Errorf("got %+v last, want the release of handle %d", release, open.Handle)
	}
	var sum int64
	for _, a := range first[1 : len(first)-1] {
		if a.Op != OpRead || a.Handle != open.Handle || a.Path != open.Path || a.Took < 0 || a.Came.Before(open.Came) {
			t.Errorf("got %+v, want a read of handle %d", a, open.Handle)
		}
		sum += a.Length
	}
	if sum != size {
		t.Errorf("got reads of %d bytes together, want %d", sum, size)
	}
	sh(t, dir, "cat show/b")
	if again := book.wait(t, 2)[len(first)]; again.Op != OpOpen || again.Handle == open.Handle || again.Path != "show/b" {
		t.Errorf("got %+v, want another handle for show/b", again)
	}
	before := len(book.wait(t, 2))
	sh(t, dir, "cat song")
	if open := book.wait(t, 3)[before]; open.Op != OpOpen || open.Path != "song" {
		t.Errorf("got %+v, want the open of song", open)
	}
}
