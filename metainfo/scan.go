package metainfo

import "math"

// Bounds on what is read. They are libtorrent's, so that what opens there
// opens here.
const (
	// MaxSize is the largest .torrent or info dictionary accepted, in bytes.
	// Do not read more than MaxSize+1 bytes of a source.
	MaxSize = 30 << 20
	// maxTokens bounds the values in it (some 400,000 files), as the memory
	// that is needed grows with them.
	maxTokens = 2_500_000
	// maxDepth bounds its nesting: the library recurses, and so does
	// whoever walks a file tree.
	maxDepth = 100
)

// scan checks that data is one well-formed bencoded value within our bounds
// (BEP 3). It does not recurse and does not allocate, so that everything after
// it may take the syntax for granted: value, and the library too, whose
// recursion would otherwise follow the input.
func scan(data []byte) error {
	if len(data) > MaxSize {
		return badf("it is larger than %d MiB", MaxSize>>20)
	}
	if len(data) == 0 {
		return bad("it is empty")
	}
	s := scanner{data: data}
	for {
		if err := s.token(); err != nil {
			return err
		}
		if s.depth == 0 {
			break
		}
	}
	if s.pos < len(data) {
		return badf("%d bytes follow its end", len(data)-s.pos)
	}
	return nil
}

// What a dictionary or list that is open expects next.
const (
	inList byte = iota
	inDictKey
	inDictValue
)

type scanner struct {
	data   []byte
	pos    int
	tokens int
	depth  int
	open   [maxDepth]byte
}

// token reads one integer, string, opening or end.
func (s *scanner) token() error {
	if s.pos >= len(s.data) {
		return bad("it is cut off: the end is missing")
	}
	c := s.data[s.pos]
	if c == 'e' && s.depth > 0 {
		if s.open[s.depth-1] == inDictValue {
			return badf("a dictionary key has no value at byte %d", s.pos)
		}
		s.pos++
		s.depth--
		return nil
	}
	s.tokens++
	if s.tokens > maxTokens {
		return badf("it holds more than %d values", maxTokens)
	}
	isString := c >= '0' && c <= '9'
	if s.depth > 0 {
		switch top := &s.open[s.depth-1]; *top {
		case inDictKey:
			if !isString {
				return badf("a dictionary key is not a string at byte %d", s.pos)
			}
			*top = inDictValue
		case inDictValue:
			*top = inDictKey
		}
	}
	switch {
	case isString:
		return s.str()
	case c == 'i':
		return s.integer()
	case c == 'l', c == 'd':
		if s.depth == maxDepth {
			return badf("it is nested more than %d levels deep", maxDepth)
		}
		s.open[s.depth] = inList
		if c == 'd' {
			s.open[s.depth] = inDictKey
		}
		s.depth++
		s.pos++
		return nil
	}
	return badf("byte %d (%s) does not start a value", s.pos, quote(s.data[s.pos:s.pos+1]))
}

// str passes a string: its length in decimal, a colon, the bytes.
func (s *scanner) str() error {
	start, n := s.pos, 0
	for ; s.pos < len(s.data) && s.data[s.pos] != ':'; s.pos++ {
		c := s.data[s.pos]
		if c < '0' || c > '9' || (s.pos > start && s.data[start] == '0') {
			return badf("a string has a bad length at byte %d", start)
		}
		n = n*10 + int(c-'0')
		if n > len(s.data) { // before it can wrap
			return badf("a string runs beyond the end at byte %d", start)
		}
	}
	if s.pos == len(s.data) || n > len(s.data)-s.pos-1 {
		return badf("it is cut off: the string at byte %d runs beyond the end", start)
	}
	s.pos += 1 + n
	return nil
}

// integer passes an integer. Any that 64 bits hold, signed or not, is well
// formed; a key that we read must also fit an int64.
func (s *scanner) integer() error {
	start := s.pos
	s.pos++
	negative := s.pos < len(s.data) && s.data[s.pos] == '-'
	if negative {
		s.pos++
	}
	digits := s.pos
	var n uint64
	for ; s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9'; s.pos++ {
		d := uint64(s.data[s.pos] - '0')
		if n > (math.MaxUint64-d)/10 {
			return badf("the integer at byte %d does not fit in 64 bits", start)
		}
		n = n*10 + d
	}
	if s.pos == len(s.data) {
		return badf("it is cut off inside the integer at byte %d", start)
	}
	leadingZero := s.data[digits] == '0' && (s.pos > digits+1 || negative)
	if s.data[s.pos] != 'e' || s.pos == digits || leadingZero {
		return badf("the integer at byte %d is malformed", start)
	}
	if negative && n > 1<<63 {
		return badf("the integer at byte %d does not fit in 64 bits", start)
	}
	s.pos++
	return nil
}
