package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strconv"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"
)

// maxConfig bounds a configuration file; a real one has a few hundred bytes.
const maxConfig = 1 << 20

// notInConfig are flags that make no sense as a setting.
var notInConfig = []string{"config", "help"}

// applyConfig sets the flags that a TOML file names and the command line does
// not. Keys are the flags' names; a repeatable flag takes an array.
func applyConfig(flags *pflag.FlagSet, path string) error {
	data, err := readConfig(path)
	if err != nil {
		return withCode(exitUsage, err)
	}
	settings, err := parseConfig(data)
	if err != nil {
		return failf(exitUsage, "config %s%w", path, err)
	}
	for _, s := range settings {
		f := flags.Lookup(s.key)
		if f == nil || slices.Contains(notInConfig, s.key) {
			return failf(exitUsage, "config %s: unknown key %q: keys are the names of this command's flags", path, s.key)
		}
		if f.Changed {
			continue
		}
		_, list := f.Value.(pflag.SliceValue)
		if len(s.values) != 1 && !list {
			return failf(exitUsage, "config %s: %s: want one value, not an array", path, s.key)
		}
		if list && len(s.values) == 0 {
			continue // an empty array is the default
		}
		for _, v := range s.values {
			if err := flags.Set(s.key, v); err != nil {
				return failf(exitUsage, "config %s: %w", path, settingError(s.key, v, err))
			}
		}
	}
	return nil
}

// settingError takes pflag's words on command lines off an error, leaving the cause.
func settingError(key, value string, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		err = invalid.Unwrap()
	}
	if errors.As(err, new(*strconv.NumError)) { // of a flag that is on or off
		err = errors.New("want true or false")
	}
	return fmt.Errorf("%s = %q: %w", key, value, err)
}

func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", path, cause(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", path, cause(err))
	}
	if len(data) > maxConfig {
		return nil, fmt.Errorf("config %s: larger than 1 MiB: this is no configuration file", path)
	}
	return data, nil
}

// cause takes operation and path off a file error, for messages that name both
// already.
func cause(err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// setting is one key of a configuration file; a scalar has one value.
type setting struct {
	key    string
	values []string
}

// parseConfig reads the keys of a TOML document in alphabetical order. Values
// are strings, integers, booleans, or arrays of these. The error starts with
// ":LINE:COLUMN: " or ": ", to be put behind the file's name.
func parseConfig(data []byte) ([]setting, error) {
	var table map[string]any
	if err := toml.NewDecoder(bytes.NewReader(data)).Decode(&table); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, column := at.Position()
			return nil, fmt.Errorf(":%d:%d: %s", row, column, at.Error())
		}
		return nil, fmt.Errorf(": %w", err)
	}
	settings := make([]setting, 0, len(table))
	for key, value := range table {
		s := setting{key: key}
		values, list := value.([]any)
		if !list {
			values = []any{value}
		}
		for _, v := range values {
			text, ok := scalar(v)
			if !ok {
				return nil, fmt.Errorf(": %s: want a string, an integer, true or false, or an array of strings", key)
			}
			s.values = append(s.values, text)
		}
		settings = append(settings, s)
	}
	sort.Slice(settings, func(i, j int) bool { return settings[i].key < settings[j].key })
	return settings, nil
}

// scalar is a TOML value as one would write it on the command line.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case int64:
		return strconv.FormatInt(v, 10), true
	case bool:
		return strconv.FormatBool(v), true
	default:
		return "", false
	}
}
