package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version of the next release, or of this one when it is built
// from its tag.
const release = "0.1.0"

// version is the release and, where the Go toolchain recorded it, the commit,
// so that a bug report names the code it is about.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release
	}
	var commit, changed string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = ".changed"
		}
	}
	if len(commit) < 12 {
		return release
	}
	return release + "+" + commit[:12] + changed
}

func newVersion(std *streams) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  argCount(0, 0),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(std.out, "swarmfs %s (%s %s/%s)\n",
				version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
