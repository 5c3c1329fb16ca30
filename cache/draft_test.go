package cache

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

func TestFirstWriterOfABlockWins(t *testing.T) {
	data, g := content(1, 100_000, 100_000)
	v := openVolume(t, openStore(t, Options{}), 1, g)
	d, err := v.Draft(0, false)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, d, data)
	evil := make([]byte, BlockSize)
	if kept, err := d.WriteBlock(0, evil); kept || err != nil {
		t.Fatalf("late duplicate: kept %v, %v", kept, err)
	}
	for range 2 { // the second time it is known
		if !d.Verify() {
			t.Fatal("not verified")
		}
	}
	if err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	wantPiece(t, v, data, 0)
	if _, err := d.WriteBlock(0, evil); !errors.Is(err, ErrClosed) {
		t.Errorf("write after commit: %v", err)
	}
}

func TestOnlyWholeBlocksAreWritten(t *testing.T) {
	data, g := content(1, 100_000, 100_000) // six blocks and 1,696 bytes
	v := openVolume(t, openStore(t, Options{}), 1, g)
	d, err := v.Draft(0, false)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Discard()
	for _, c := range []struct{ off, n int }{
		{-BlockSize, BlockSize},
		{1, BlockSize},
		{0, 0},
		{0, BlockSize - 1},
		{0, BlockSize + 1},
		{6 * BlockSize, BlockSize},
		{6 * BlockSize, 1695},
		{7 * BlockSize, 1},
		{1 << 40, BlockSize},
	} {
		if kept, err := d.WriteBlock(c.off, make([]byte, c.n)); kept || !errors.Is(err, ErrNotBlock) {
			t.Errorf("write %d bytes at %d: kept %v, %v", c.n, c.off, kept, err)
		}
	}
	if kept, err := d.WriteBlock(6*BlockSize, data[6*BlockSize:]); !kept || err != nil {
		t.Errorf("write last block: kept %v, %v", kept, err)
	}
	if d.Verify() {
		t.Error("verified with blocks missing")
	}
	if err := d.Commit(); !errors.Is(err, ErrUnverified) {
		t.Errorf("commit with blocks missing: %v", err)
	}
	if got := d.Block(6); !bytes.Equal(got, data[6*BlockSize:]) || d.Block(5) != nil || d.Block(7) != nil || d.Block(-1) != nil {
		t.Error("Block does not return what is in, and only that")
	}
}

func TestWrongBytesAreNotVerified(t *testing.T) {
	data, g := content(1, 64<<10, 64<<10)
	v := openVolume(t, openStore(t, Options{}), 1, g)
	for flip := 0; flip < len(data); flip += 7919 {
		d, err := v.Draft(0, false)
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.Clone(data)
		bad[flip] ^= 1
		fill(t, d, bad)
		if d.Verify() {
			t.Fatalf("verified with byte %d wrong", flip)
		}
		if err := d.Commit(); !errors.Is(err, ErrUnverified) {
			t.Fatalf("commit: %v", err)
		}
		d.Discard()
		d.Discard()
		if d.Verify() || v.Has(0) {
			t.Fatal("a discarded draft is held")
		}
	}
	if st := v.store.Stats(); st.MemoryUsed != 0 || st.MemoryFirm != 0 || st.Drafts != 0 {
		t.Errorf("after all discards: %+v", st)
	}
}

// TestBlocksMayComeFromManyWritersInAnyOrder also discards drafts under their
// writers: memory that is used again would show as a wrong piece.
func TestBlocksMayComeFromManyWritersInAnyOrder(t *testing.T) {
	const pieces = 40
	data, g := content(2, 300_000, pieces*300_000)
	v := openVolume(t, openStore(t, Options{Memory: 2 << 20}), 1, g)
	for i := range pieces {
		d, err := v.Draft(i, true)
		if err != nil {
			t.Fatal(err)
		}
		p := pieceOf(data, g, i)
		var kept atomic.Int32
		var group sync.WaitGroup
		for w := range 4 {
			group.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(i), uint64(w)))
				for _, n := range rng.Perm((len(p) + BlockSize - 1) / BlockSize) {
					off := n * BlockSize
					ok, err := d.WriteBlock(off, p[off:min(off+BlockSize, len(p))])
					if err != nil && !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					if ok {
						kept.Add(1)
					}
				}
			})
		}
		if i%3 == 0 {
			d.Discard()
		}
		group.Wait()
		if i%3 == 0 {
			continue
		}
		if got := int(kept.Load()); got != len(d.blocks) {
			t.Fatalf("%d blocks kept of %d", got, len(d.blocks))
		}
		if !d.Verify() {
			t.Fatalf("piece %d is wrong", i)
		}
		if err := d.Commit(); err != nil {
			t.Fatal(err)
		}
		wantPiece(t, v, data, i)
	}
}

func TestWriteBlockDoesNotAllocate(t *testing.T) {
	data, g := content(1, 4<<20, 4<<20)
	v := openVolume(t, openStore(t, Options{}), 1, g)
	d, err := v.Draft(0, true)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Discard()
	n := 0
	got := testing.AllocsPerRun(100, func() {
		d.WriteBlock(n*BlockSize, data[n*BlockSize:(n+1)*BlockSize])
		n++
	})
	if got != 0 {
		t.Errorf("%v allocations a block", got)
	}
}
