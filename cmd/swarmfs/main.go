package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// streams are the three standard streams, replaceable in tests.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// warn tells the user of something that is no reason to stop.
func (s *streams) warn(what string, err error) {
	fmt.Fprintln(s.err, "swarmfs: warning: "+printable(what+": "+err.Error()))
}

// run is the whole command: it returns the exit code. SIGINT, SIGTERM and
// SIGHUP end it; what a second one does is up to the command, by default it
// kills.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	defer context.AfterFunc(ctx, stop)()

	root := newRoot(&streams{in: stdin, out: stdout, err: stderr})
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if !reported(err) {
		fmt.Fprintln(stderr, errorLine(err))
	}
	if ctx.Err() != nil {
		return exitOther // whatever the signal made fail
	}
	return exitCode(err)
}

// newRoot builds the command tree.
func newRoot(std *streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "swarmfs",
		Short: "Mount torrents as a directory",
		Long: "swarmfs mounts torrents as a directory: files are there at once, and what is read is\n" +
			"fetched from the swarm, verified and kept in a cache of bounded size.\n\n" +
			"Exit codes: 0 done, 1 other error, 2 usage, 3 bad input, 4 mountpoint or FUSE,\n" +
			"5 network address, 6 data folder, 7 verify found bad or missing data,\n" +
			"8 no mount is running.",
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return failf(exitUsage, "no command given: run \"swarmfs --help\"")
			}
			hint := "run \"swarmfs --help\""
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = "did you mean " + strings.Join(near, " or ") + "?"
			}
			return failf(exitUsage, "no command %q: %s", args[0], hint)
		},
	}
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.SetVersionTemplate("swarmfs {{.Version}}\n")
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return failf(exitUsage, "%s: %w: see \"%s --help\"", cmd.Name(), err, cmd.CommandPath())
	})
	root.AddCommand(
		newMount(std), newSeed(std), newCreate(std), newInfo(std), newVerify(std),
		newStatus(std), newAdd(std), newRemove(std), newPin(std), newUnpin(std), newLimit(std),
		newVersion(std), newMan(std),
	)
	strictCompletion(root)
	return root
}

// strictCompletion makes cobra's command for completions refuse a shell that it
// does not know, where it would print its help and succeed.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		c.Use = "completion bash|zsh|fish"
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return failf(exitUsage, "completion: too few arguments: usage: swarmfs %s", cmd.Use)
			}
			return failf(exitUsage, "completion: there is none for %q: usage: swarmfs %s", args[0], cmd.Use)
		}
		for _, shell := range c.Commands() {
			if shell.Name() == "powershell" { // swarmfs is for Linux
				c.RemoveCommand(shell)
			}
		}
	}
}

// argCount is an Args function: between least and most arguments (most < 0: no
// bound), or a usage error that shows how the command is called.
func argCount(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		var problem error
		switch {
		case len(args) < least:
			problem = errors.New("too few arguments")
		case most >= 0 && len(args) > most:
			problem = fmt.Errorf("unexpected argument %q", args[most])
		default:
			return nil
		}
		return failf(exitUsage, "%s: %w: usage: %s", cmd.Name(), problem, cmd.UseLine())
	}
}
