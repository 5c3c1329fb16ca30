package cache

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// model is what a store may hold: nothing but what was committed, right, in
// the memory that it was given.
type model struct {
	s       *Store
	opts    Options
	volumes []*modelVolume
}

type modelVolume struct {
	v      *Volume
	id     byte
	data   []byte
	g      Geometry
	drafts map[int]*modelDraft
	held   map[int]bool // committed once
}

type modelDraft struct {
	d      *Draft
	blocks map[int]bool // written
	bad    bool         // one of them wrong
}

func (m *model) open(t *rapid.T) {
	s, err := Open(m.opts)
	if err != nil {
		t.Fatal(err)
	}
	m.s = s
	for _, mv := range m.volumes {
		if mv.v, err = s.Volume([20]byte{mv.id}, mv.g); err != nil {
			t.Fatal(err)
		}
		mv.drafts = make(map[int]*modelDraft)
	}
}

// check compares a piece with the model.
func (mv *modelVolume) check(t *rapid.T, piece int) {
	want := pieceOf(mv.data, mv.g, piece)
	off := min(piece*977, len(want)-1)
	got := make([]byte, len(want))
	n, err := mv.v.ReadAt(piece, got, off)
	switch {
	case errors.Is(err, ErrMissing):
		if mv.held[piece] && mv.v.Has(piece) {
			t.Fatalf("volume %d: piece %d is held and missing", mv.id, piece)
		}
	case err != nil:
		t.Fatal(err)
	case !mv.held[piece]:
		t.Fatalf("volume %d: piece %d was never committed", mv.id, piece)
	case n != len(want)-off || string(got[:n]) != string(want[off:]):
		t.Fatalf("volume %d: piece %d is wrong", mv.id, piece)
	}
}

func TestStoreAgreesWithAModel(t *testing.T) {
	type kind struct{ pieceLength, length int64 }
	kinds := []kind{{BlockSize, 40*BlockSize + 1}, {100_000, 3_000_000}, {256 << 10, 6 << 20}, {1 << 20, 5<<20 + 5}}
	var volumes []*modelVolume
	for i, k := range kinds {
		data, g := content(uint64(i), k.pieceLength, k.length)
		volumes = append(volumes, &modelVolume{id: byte(i), data: data, g: g})
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{volumes: volumes, opts: Options{Dir: fastDir(t), Memory: rapid.Int64Range(1, 4).Draw(rt, "memory") << 20, floor: 1}}
		m.opts.Budget = rapid.SampledFrom([]int64{0, 6 << 20, 12 << 20}).Draw(rt, "budget")
		for _, mv := range volumes {
			mv.held = make(map[int]bool)
		}
		m.open(rt)
		defer func() { closeStore(t, m.s) }()
		pick := func(t *rapid.T) (*modelVolume, int) {
			mv := rapid.SampledFrom(m.volumes).Draw(t, "volume")
			return mv, rapid.IntRange(0, mv.g.NumPieces()-1).Draw(t, "piece")
		}
		draft := func(t *rapid.T) (*modelVolume, int, *modelDraft) {
			mv := rapid.SampledFrom(m.volumes).Draw(t, "volume")
			if len(mv.drafts) == 0 {
				t.Skip("no draft")
			}
			piece := rapid.SampledFrom(slices.Sorted(maps.Keys(mv.drafts))).Draw(t, "piece")
			return mv, piece, mv.drafts[piece]
		}
		commit := func(t *rapid.T, mv *modelVolume, piece int, d *modelDraft) {
			good := len(d.blocks) == len(d.d.blocks) && !d.bad
			if got := d.d.Verify(); got != good {
				t.Fatalf("piece %d: verified %v, want %v", piece, got, good)
			}
			err := d.d.Commit()
			if good != (err == nil) {
				t.Fatalf("piece %d: commit: %v", piece, err)
			}
			if good {
				mv.held[piece] = true
				delete(mv.drafts, piece)
			}
		}
		open := func(t *rapid.T) {
			mv, piece := pick(t)
			d, err := mv.v.Draft(piece, rapid.Bool().Draw(t, "urgent"))
			switch {
			case err == nil:
				mv.drafts[piece] = &modelDraft{d: d, blocks: make(map[int]bool)}
			case errors.Is(err, ErrNoRoom):
			case errors.Is(err, ErrHeld) && mv.held[piece]:
			case errors.Is(err, ErrDraftOpen) && mv.drafts[piece] != nil:
			default:
				t.Fatalf("draft of piece %d: %v", piece, err)
			}
		}
		block := func(t *rapid.T, mv *modelVolume, piece int, d *modelDraft, n int) {
			p := pieceOf(mv.data, mv.g, piece)
			p = slices.Clone(p[n*BlockSize : min((n+1)*BlockSize, len(p))])
			bad := rapid.IntRange(0, 99).Draw(t, "bad") == 0
			if bad {
				p[len(p)/2] ^= 1
			}
			kept, err := d.d.WriteBlock(n*BlockSize, p)
			if err != nil || kept == d.blocks[n] {
				t.Fatalf("block %d of piece %d: kept %v, %v", n, piece, kept, err)
			}
			d.bad = d.bad || kept && bad
			d.blocks[n] = true
		}
		rt.Repeat(map[string]func(*rapid.T){
			"open a draft": open,
			"write a block": func(t *rapid.T) {
				mv, piece, d := draft(t)
				block(t, mv, piece, d, rapid.IntRange(0, len(d.d.blocks)-1).Draw(t, "block"))
			},
			"fill and commit": func(t *rapid.T) {
				mv, piece, d := draft(t)
				for n := range d.d.blocks {
					if !d.blocks[n] {
						block(t, mv, piece, d, n)
					}
				}
				commit(t, mv, piece, d)
			},
			"commit": func(t *rapid.T) {
				mv, piece, d := draft(t)
				commit(t, mv, piece, d)
			},
			"discard": func(t *rapid.T) {
				mv, piece, d := draft(t)
				d.d.Discard()
				delete(mv.drafts, piece)
			},
			"read": func(t *rapid.T) {
				mv, piece := pick(t)
				mv.check(t, piece)
			},
			"sync": func(t *rapid.T) {
				if err := m.s.Sync(); err != nil {
					t.Fatal(err)
				}
			},
			"restart": func(t *rapid.T) {
				if err := m.s.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				m.open(t)
			},
			"": func(t *rapid.T) {
				st := m.s.Stats()
				// A volume may have one piece beyond the budget.
				if st.MemoryUsed > m.opts.Memory+4<<20 || st.MemoryFirm > st.MemoryUsed {
					t.Fatalf("memory: %+v", st)
				}
				for _, mv := range m.volumes {
					for i, word := range mv.v.Pieces() {
						for b := range 64 {
							if piece := i*64 + b; word&(1<<b) != 0 && !mv.held[piece] {
								t.Fatalf("volume %d: piece %d is held, was never committed", mv.id, piece)
							}
						}
					}
				}
			},
		})
		if err := m.s.Sync(); err != nil {
			rt.Fatal(err)
		}
		for _, mv := range m.volumes {
			for piece := range mv.g.NumPieces() {
				mv.check(rt, piece)
			}
		}
	})
}
