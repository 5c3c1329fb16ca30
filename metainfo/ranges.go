package metainfo

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// maxFileRanges bounds a selection of files, in ranges.
const maxFileRanges = 1000

// A FileRange is the files from First to Last, both counted from 0 and
// included.
type FileRange struct{ First, Last int }

// FileRanges selects files by their index in Info.Files (BEP 53). They are
// sorted and neither overlap nor touch.
type FileRanges []FileRange

// ParseFileRanges reads a selection like "0,2,4-6". Its cost does not depend
// on how many files a range spans. The error is an *InputError.
func ParseFileRanges(s string) (FileRanges, error) {
	r, err := parseFileRanges(s)
	if err != nil {
		return nil, inputError("read file selection", err)
	}
	return r, nil
}

func parseFileRanges(s string) (FileRanges, error) {
	if strings.Count(s, ",") >= maxFileRanges {
		return nil, badf("it has more than %d ranges", maxFileRanges)
	}
	var all FileRanges
	for item := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(item, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 31)
		last, err2 := strconv.ParseUint(to, 10, 31)
		if err1 != nil || err2 != nil || first > last || last == math.MaxInt32 {
			return nil, badf("%s is not a file number or a range of them", quote(item))
		}
		all = append(all, FileRange{int(first), int(last)})
	}
	slices.SortFunc(all, func(a, b FileRange) int { return cmp.Compare(a.First, b.First) })
	merged := all[:1]
	for _, r := range all[1:] {
		if top := &merged[len(merged)-1]; r.First <= top.Last+1 {
			top.Last = max(top.Last, r.Last)
		} else {
			merged = append(merged, r)
		}
	}
	return merged, nil
}

// Has reports whether a file is selected.
func (r FileRanges) Has(file int) bool {
	n := sort.Search(len(r), func(i int) bool { return r[i].Last >= file })
	return n < len(r) && r[n].First <= file
}

// String returns the selection as ParseFileRanges reads it.
func (r FileRanges) String() string {
	var b strings.Builder
	for i, x := range r {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(x.First))
		if x.Last > x.First {
			b.WriteString("-" + strconv.Itoa(x.Last))
		}
	}
	return b.String()
}
