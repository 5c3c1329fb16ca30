package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestADataFolderOfANewerProgramIsRefused(t *testing.T) {
	data := t.TempDir()
	if err := os.Mkdir(filepath.Join(data, "torrents"), 0o755); err != nil {
		t.Fatal(err)
	}
	// The sum is of "3\n{}": what the next format will look like is promised.
	const next = "swarmfs-state 3 ce578b6742b5c697b639be3cce3edab74d0d8d8213086296198be42cef53db0c\n{}"
	index := filepath.Join(data, "torrents", "index")
	if err := os.WriteFile(index, []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := openData(data)
	if exitCode(err) != exitData || !strings.Contains(err.Error(), index) || !strings.Contains(err.Error(), "newer swarmfs") {
		t.Errorf("got %v, want an error with code %d that names %s", err, exitData, index)
	}
	if now, err := os.ReadFile(index); err != nil || string(now) != next {
		t.Errorf("it was changed: %q, %v", now, err)
	}
}
