package cache

import (
	"testing"
	"testing/synctest"
	"time"
)

// The syncer is due after syncBytes, or after syncPeriod with any, and never
// with none; what is written while it syncs counts for the next time.
func TestSyncerIsDueByBytesAndByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		syncs := 0
		release := make(chan struct{}, 1)
		y := startSyncer(func() error { syncs++; <-release; return nil }, syncBytes)
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
	})
}
