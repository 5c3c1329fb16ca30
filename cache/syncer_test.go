package cache

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// The syncer is due after syncBytes, or after syncPeriod with any, and never
// with none; what is written while it syncs counts for the next time. Memory is given
// back only after those that bytes made due, until one fails.
func TestSyncerIsDueByBytesAndByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		syncs, recycled := 0, 0
		var failure error
		release := make(chan struct{}, 1)
		y := startSyncer(func() error { syncs++; <-release; return failure }, func() { recycled++ }, syncBytes)
		defer y.stop()
		expect := func(want int, when string) {
			t.Helper()
			synctest.Wait()
			if syncs != want {
				t.Fatalf("%d syncs %s, want %d", syncs, when, want)
			}
		}

		y.wrote(syncBytes - 1)
		expect(0, "below the bound")
		y.wrote(1)
		expect(1, "at the bound")
		y.wrote(syncBytes)
		y.wrote(syncBytes)
		expect(1, "during the first")
		release <- struct{}{}
		expect(2, "after it")
		release <- struct{}{}

		time.Sleep(2 * syncPeriod)
		expect(2, "with nothing written")
		y.wrote(1)
		expect(2, "at once after one byte")
		time.Sleep(syncPeriod)
		expect(3, "a period later")
		release <- struct{}{}
		synctest.Wait()
		failure = errors.New("the disk is full")
		y.wrote(syncBytes)
		release <- struct{}{}
		expect(4, "at the bound, in vain")
		failure = nil
		y.wrote(syncBytes)
		release <- struct{}{}
		expect(5, "at the bound")
		if recycled != 2 {
			t.Fatalf("memory given back after %d syncs, want the 2 that bytes made due before one failed", recycled)
		}
	})
}
