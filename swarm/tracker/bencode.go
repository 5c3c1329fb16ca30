package tracker

import (
	"fmt"

	"swarmfs/swarm/bencoding"
)

// Bounds on the dictionary of an answer, besides the length of its body. Three
// levels are in use: dictionary, list of peers, peer. So many tokens are 2 MiB of
// peers as dictionaries.
var answerBounds = bencoding.Bounds{Depth: 8, Tokens: 1 << 18}

type dict bencoding.Dict

// parseDict decodes the dictionary at the start of p. What follows it is
// ignored: some trackers end their answer with a line feed.
func parseDict(p []byte) (dict, error) {
	if len(p) == 0 || p[0] != 'd' {
		return nil, errNotDict
	}
	d, _, err := answerBounds.Dict(p)
	if err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	return dict(d), nil
}

// number returns the number under key, and whether there is one.
func (d dict) number(key string) (n int64, ok bool) {
	raw, ok := d[key]
	if !ok || answerBounds.Decode(raw, &n) != nil {
		return 0, false
	}
	return n, true
}

// bytes returns the string under key, and whether there is one.
func (d dict) bytes(key string) (p []byte, ok bool) {
	raw, ok := d[key]
	if !ok || answerBounds.Decode(raw, &p) != nil {
		return nil, false
	}
	return p, true
}

// eachDict calls yield for the dictionaries in the list raw, until it returns
// false.
func eachDict(raw []byte, yield func(dict) bool) {
	answerBounds.Each(raw, func(value []byte) bool {
		d, _, err := answerBounds.Dict(value)
		return err != nil || yield(dict(d))
	})
}
