package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A player seeks: the index of an MP4 stands at the end, that of Matroska
// somewhere else.
func TestVideosPlayFromTheMount(t *testing.T) {
	for _, format := range []string{"mp4", "mkv"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			name := "video." + format
			film := filepath.Join(t.TempDir(), name)
			mustRun(t, copyLimit, "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=20",
				"-f", "lavfi", "-i", "sine=frequency=440:duration=20", "-c:v", "mpeg4", "-b:v", "4M", "-c:a", "aac", film)
			c := adopt(t, film, 256<<10)
			l := seedLibtorrent(t, newNode(t), c)
			m := mount(t, newNode(t), mountOptions{flags: []string{"--peer", l.address}}, c.torrent)
			seen := m.path(c, c.files[0])

			probe := []string{"-v", "error", "-show_entries", "format=duration,nb_streams,size", "-of", "csv"}
			got, want := mustRun(t, copyLimit, "ffprobe", append(probe, seen)...), mustRun(t, copyLimit, "ffprobe", append(probe, film)...)
			if got != want {
				t.Errorf("ffprobe: got %q, want %q", got, want)
			}
			for _, seek := range []string{"13", "4", "0"} {
				// Every decoded frame counts: a checksum over all of them.
				decode := func(path string) string {
					return mustRun(t, copyLimit, "ffmpeg", "-v", "error", "-ss", seek, "-i", path, "-f", "md5", "-")
				}
				if got, want := decode(seen), decode(film); got != want || !strings.HasPrefix(want, "MD5=") {
					t.Errorf("frames from second %s: got %q, want %q", seek, got, want)
				}
			}
			m.unmount()
		})
	}
}

// adopt makes a torrent of a file that is there.
func adopt(t *testing.T, path string, pieceLength int64) *content {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	c := &content{
		name: filepath.Base(path), dir: filepath.Dir(path), pieceLength: pieceLength,
		files: []fileSpec{{size: info.Size()}}, size: info.Size(),
	}
	c.describe(t)
	return c
}
