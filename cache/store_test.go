package cache

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Badger v4.9.6 leaves these two behind when Open fails, which the
		// tests of damaged databases provoke.
		goleak.IgnoreTopFunction("github.com/dgraph-io/badger/v4.(*DB).monitorCache"),
		goleak.IgnoreTopFunction("github.com/dgraph-io/ristretto/v2/z.(*AllocatorPool).freeupAllocators"))
}

// fastDir returns a folder in RAM where there is one: the tests sync often.
func fastDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "swarmfs-cache-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// content makes the bytes of a volume, and its geometry.
func content(seed uint64, pieceLength, length int64) ([]byte, Geometry) {
	data := make([]byte, length)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	rand.NewChaCha8(key).Read(data)
	return data, geometryOf(data, pieceLength)
}

func geometryOf(data []byte, pieceLength int64) Geometry {
	g := Geometry{PieceLength: pieceLength, Length: int64(len(data))}
	for at := int64(0); at < g.Length; at += pieceLength {
		sum := sha1.Sum(data[at:min(at+pieceLength, g.Length)])
		g.Sums = append(g.Sums, sum[:]...)
	}
	return g
}

func openStore(t testing.TB, opts Options) *Store {
	t.Helper()
	s, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

func openVolume(t testing.TB, s *Store, id byte, g Geometry) *Volume {
	t.Helper()
	v, err := s.Volume([20]byte{id}, g)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// pieceOf returns the bytes of a piece.
func pieceOf(data []byte, g Geometry, piece int) []byte {
	at := int64(piece) * g.PieceLength
	return data[at : at+int64(g.PieceSize(piece))]
}

// fill writes all blocks of a draft in order.
func fill(t testing.TB, d *Draft, p []byte) {
	t.Helper()
	for off := 0; off < len(p); off += BlockSize {
		kept, err := d.WriteBlock(off, p[off:min(off+BlockSize, len(p))])
		if err != nil || !kept {
			t.Fatalf("write block at %d: kept %v, %v", off, kept, err)
		}
	}
}

// put commits a piece that nobody waits for, after waiting for room.
func put(t testing.TB, v *Volume, data []byte, piece int) {
	t.Helper()
	putFor(t, v, data, piece, false)
}

func putFor(t testing.TB, v *Volume, data []byte, piece int, urgent bool) {
	t.Helper()
	d, err := v.Draft(piece, urgent)
	for errors.Is(err, ErrNoRoom) {
		_ = v.store.Sync() // a faulty disk fails here
		d, err = v.Draft(piece, urgent)
	}
	if err != nil {
		t.Fatal(err)
	}
	fill(t, d, pieceOf(data, v.geometry, piece))
	if !d.Verify() {
		t.Fatalf("piece %d: not verified", piece)
	}
	if err := d.Commit(); err != nil {
		t.Fatal(err)
	}
}

// wantPiece reads a piece whole and compares it.
func wantPiece(t testing.TB, v *Volume, data []byte, piece int) {
	t.Helper()
	want := pieceOf(data, v.geometry, piece)
	got := make([]byte, len(want)+1)
	n, err := v.ReadAt(piece, got, 0)
	if err != nil || n != len(want) || !bytes.Equal(got[:n], want) {
		t.Fatalf("read piece %d: %d bytes, %v, right: %v", piece, n, err, bytes.Equal(got[:n], want))
	}
}

func TestCommittedPiecesSurviveARestart(t *testing.T) {
	dir := fastDir(t)
	for _, pieceLength := range []int64{BlockSize, 100_000, 256 << 10, 1 << 20, 4 << 20} {
		data, g := content(1, pieceLength, 9*pieceLength/2+77)
		id := byte(pieceLength >> 14)
		s := openStore(t, Options{Dir: dir, Budget: 256 << 20})
		v := openVolume(t, s, id, g)
		for i := range g.NumPieces() {
			put(t, v, data, i)
			wantPiece(t, v, data, i)
		}
		closeStore(t, s)
		s = openStore(t, Options{Dir: dir, Budget: 256 << 20})
		if err := s.Degraded(); err != nil {
			t.Fatal(err)
		}
		v = openVolume(t, s, id, g)
		for i := range g.NumPieces() {
			wantPiece(t, v, data, i)
		}
		if st := s.Stats(); st.HitsDisk != int64(g.NumPieces()) || st.HitsRAM != 0 {
			t.Errorf("hits: %d on disk, %d in RAM; want all on disk", st.HitsDisk, st.HitsRAM)
		}
		closeStore(t, s)
	}
}
