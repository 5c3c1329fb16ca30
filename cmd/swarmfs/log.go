package main

import (
	"io"
	"log/slog"

	"github.com/spf13/pflag"
)

// logFlags are the flags of commands that keep running.
type logFlags struct {
	level, format string
}

var (
	logLevels  = []string{"debug", "info", "warn", "error"}
	logFormats = []string{"text", "json"}
)

// logger writes to w what the flags ask for.
func (f logFlags) logger(w io.Writer) *slog.Logger {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	o := &slog.HandlerOptions{Level: levels[f.level]}
	if f.format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// defaultLog is quiet: what a user must know, and nothing else.
var defaultLog = logFlags{level: "warn", format: "text"}

func (f *logFlags) register(flags *pflag.FlagSet) {
	flags.Var(choiceValue{&f.level, logLevels}, "log-level", "least important messages to log: debug, info, warn or error")
	flags.Var(choiceValue{&f.format, logFormats}, "log-format", "form of the log: text or json")
}
