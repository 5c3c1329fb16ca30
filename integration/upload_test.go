package integration

import (
	"os"
	"path/filepath"
	"testing"
)

func TestEveryClientDownloadsFromASeedOfExistingFiles(t *testing.T) {
	for i, to := range clients {
		scheme := []string{"http", "udp"}[i%2]
		t.Run(to.name+" by "+scheme, func(t *testing.T) {
			t.Parallel()
			tracker := newTracker(t)
			c := album(t, tracker.url(scheme))
			tracker.serve(c)
			p := seed(t, newNode(t), c)
			tracker.waitSeeder(c)
			dir := t.TempDir()
			to.leech(t, newNode(t), c, dir)
			to.compare(t, c, dir)
			stopSeed(t, p)
		})
	}
}

// What was read through the mount is served to others, when nobody else is
// left who could.
func TestEveryClientDownloadsFromAMountThatHoldsTheData(t *testing.T) {
	for i, to := range clients {
		scheme := []string{"udp", "http"}[i%2]
		t.Run(to.name+" by "+scheme, func(t *testing.T) {
			t.Parallel()
			tracker := newTracker(t)
			c := album(t, tracker.url(scheme))
			tracker.serve(c)
			l := seedLibtorrent(t, newNode(t), c)
			m := mount(t, newNode(t), mountOptions{flags: []string{"--peer", l.address}}, c.torrent)
			c.copyOut(t, m.point)
			l.kill()
			dir := t.TempDir()
			to.leech(t, newNode(t), c, dir)
			to.compare(t, c, dir)
			m.unmount()
		})
	}
}

// PATH is what the torrent was made from, or the folder that holds it.
func TestSeedFindsTheFilesInTheFolderThatHoldsThem(t *testing.T) {
	t.Parallel()
	c := single(t, "held", 1<<20, 64<<10)
	n := newNode(t)
	p := start(t, "swarmfs seed", swarmfsOn(n, append(append([]string{"seed", "--listen", n.addr(swarmfsPort)},
		onlyGivenPeers...), c.torrent, c.dir)...))
	p.waitLine("^ready: .*$", readyLimit)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--peer", n.addr(swarmfsPort)}}, c.torrent)
	c.copyOut(t, m.point)
	m.unmount()
	stopSeed(t, p)
}

// A seed whose files are damaged serves what is right and never a wrong byte.
func TestADamagedSeedServesNoWrongByte(t *testing.T) {
	t.Parallel()
	c := single(t, "damaged", 4<<20, 64<<10)
	whole := seedLibtorrent(t, newNode(t), c)
	damaged := t.TempDir()
	mustRun(t, copyLimit, "cp", c.original(c.files[0]), damaged)
	f, err := os.OpenFile(filepath.Join(damaged, c.name), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("these bytes are not in the torrent"), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	n := newNode(t)
	p := start(t, "swarmfs seed", swarmfsOn(n, append(append([]string{"seed", "--listen", n.addr(swarmfsPort)},
		onlyGivenPeers...), c.torrent, damaged)...))
	p.waitLine("^ready: .*$", readyLimit)
	m := mount(t, newNode(t), mountOptions{flags: []string{"--peer", n.addr(swarmfsPort), "--peer", whole.address}}, c.torrent)
	c.copyOut(t, m.point)
	m.unmount()
	stopSeed(t, p)
}
