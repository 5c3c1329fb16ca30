package engine

// Cursor follows one handle's reads and says how far ahead to fetch. Reading in
// sequence opens the window, a seek closes it. It tolerates the kernel, which
// issues several read-ahead requests at a time and in any order. The zero value
// is a handle that has not been read. It is not safe for concurrent use.
type Cursor struct {
	end int64 // where the sequence has got to
	run int64 // bytes read in sequence
}

const (
	// A read this far off the end of the sequence still belongs to it: two or
	// three of the kernel's largest requests.
	cursorSlack = 4 << 20
	// A sequence shorter than this may be a probe of the head: nothing is
	// fetched ahead of it.
	cursorProbe = 512 << 10
)

// Read says that n bytes at off are being read, and returns how many bytes
// beyond off+n are to be fetched ahead: nothing for a probe, then twice what was
// read in sequence, at most limit.
func (c *Cursor) Read(off, n, limit int64) (ahead int64) {
	end := off + n
	switch {
	case c.run > 0 && off <= c.end+cursorSlack && end >= c.end-cursorSlack:
		if end > c.end {
			c.run += end - c.end
			c.end = end
		}
	default:
		c.end, c.run = end, n
	}
	if c.run <= cursorProbe {
		return 0
	}
	return max(0, min(2*c.run, limit)-(end-c.end))
}

// Sequence returns how many bytes were read in sequence up to now.
func (c *Cursor) Sequence() int64 { return c.run }
