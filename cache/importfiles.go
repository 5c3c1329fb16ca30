package cache

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"slices"
	"sort"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// importFile is a place in an imported volume, and the file that was found for it.
type importFile struct {
	Extent
	number  int   // in what find returned
	stamp   stamp // of the file that is used; zero: none
	trouble error // the file is not used, or not all of it could be read
	retry   pause // of a file that is not used for its trouble
}

// stamp tells a file from another, and from what it is after a change.
type stamp struct {
	size, mtime, ctime int64 // bytes; ns
	inode, device      uint64
}

func stampOf(fi os.FileInfo) stamp {
	st := fi.Sys().(*syscall.Stat_t)
	return stamp{size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(), inode: st.Ino, device: st.Dev}
}

// key is what is remembered of a stamp: size, modification time and inode. It is
// never 0.
func (s stamp) key() uint64 {
	h := fnv.New64a()
	var b [24]byte
	binary.LittleEndian.PutUint64(b[:], uint64(s.size))
	binary.LittleEndian.PutUint64(b[8:], uint64(s.mtime))
	binary.LittleEndian.PutUint64(b[16:], s.inode)
	h.Write(b[:])
	return max(h.Sum64(), 1)
}

var (
	errFileChanged = errors.New("it has changed")
	errFileGone    = errors.New("it is gone")
	errFileShorter = errors.New("it has become shorter")
	errFileBusy    = errors.New("it is being written")
)

// gone says that a read failed for what has become of the file, not of its disk.
func gone(err error) bool {
	for _, why := range []error{errFileChanged, errFileGone, errFileShorter, fs.ErrNotExist, fs.ErrPermission, unix.ENOTDIR, unix.ESTALE} {
		if errors.Is(err, why) {
			return true
		}
	}
	return false
}

// part is a range of a file, or of zeros, that a piece or a part of it lies in.
type part struct {
	file  int // index in Imported.files
	path  string
	zero  bool
	stamp stamp
	off   int64 // in the file, bytes
	n     int   // bytes
}

// parts returns where n bytes at an offset of the volume lie. m.mu is held.
func (m *Imported) parts(at int64, n int) []part {
	i := sort.Search(len(m.files), func(i int) bool { return m.files[i].Offset+m.files[i].Length > at })
	var all []part
	for ; n > 0; i++ {
		f := &m.files[i]
		k := int(min(int64(n), f.Offset+f.Length-at))
		all = append(all, part{file: i, path: f.Path, zero: f.Zero, stamp: f.stamp, off: at - f.Offset, n: k})
		n, at = n-k, at+int64(k)
	}
	return all
}

// current says that the files are still those of the parts. m.mu is held.
func (m *Imported) current(parts []part) bool {
	for _, p := range parts {
		if f := &m.files[p.file]; f.stamp != p.stamp || f.Path != p.path {
			return false
		}
	}
	return true
}

// read fills p with what lies skip bytes from the beginning of parts on. With an error
// it returns the part at fault.
func (im *Imports) read(parts []part, p []byte, skip int) (*part, error) {
	for i := range parts {
		t := &parts[i]
		if skip >= t.n {
			skip -= t.n
			continue
		}
		k := min(t.n-skip, len(p))
		if k == 0 {
			break
		}
		if t.zero {
			clear(p[:k])
		} else if err := im.readFile(t, p[:k], t.off+int64(skip)); err != nil {
			return t, err
		}
		p, skip = p[k:], 0
	}
	return nil, nil
}

// readFile reads from a file, and then looks whether it is still the one that was
// hashed: who writes to it changes its times before its content.
func (im *Imports) readFile(t *part, p []byte, off int64) error {
	e, err := im.fds.get(t.path)
	if err != nil {
		return err
	}
	defer im.fds.put(t.path, e)
	readErr := im.pread(e.file, off, p)
	fi, err := e.file.Stat()
	switch {
	case err != nil:
		return fmt.Errorf("look at %s: %w", t.path, err)
	case fi.Sys().(*syscall.Stat_t).Nlink == 0:
		im.fds.forgetOne(t.path, e)
		return errFileGone
	case stampOf(fi) == t.stamp:
		return readErr
	case errors.Is(readErr, io.ErrUnexpectedEOF):
		im.fds.forgetOne(t.path, e)
		return errFileShorter
	default:
		im.fds.forgetOne(t.path, e)
		return errFileChanged
	}
}

// withdraw takes back all pieces of a file that is not what it was. It is looked for
// again later.
func (m *Imported) withdraw(bad *part, why error) {
	m.mu.Lock()
	f := &m.files[bad.file]
	if m.closed || f.stamp != bad.stamp || !f.used() {
		m.mu.Unlock()
		return
	}
	path := f.Path
	f.stamp, f.trouble = stamp{}, why
	f.retry.took(why)
	m.clearPieces(f.Offset, f.Offset+f.Length)
	m.mu.Unlock()
	m.imports.log.Info("imported file is not used any more", "file", path, "error", why)
	m.imports.relook(m)
	m.store.news.push(recount{m})
}

// used says that there is a file to read from.
func (f *importFile) used() bool { return f.stamp != stamp{} }

// clearPieces has the pieces of a range of the volume neither held nor undecided.
// m.mu is held.
func (m *Imported) clearPieces(from, to int64) {
	for piece := int(from / m.geometry.PieceLength); int64(piece)*m.geometry.PieceLength < to; piece++ {
		m.undecided.clear(piece)
		m.held.clear(piece)
		m.checked.clear(piece)
	}
}

// settleTime is how old the last change of a file must be for its times to tell of the
// next: they are those of the kernel's clock, which ticks every 10 ms at worst.
const settleTime = 100 * time.Millisecond

// look finds the files, unless that was done.
func (m *Imported) look() {
	if m.isLooked() {
		return
	}
	m.looking.Lock()
	defer m.looking.Unlock()
	if m.isLooked() { // by somebody else meanwhile
		return
	}
	files, err := m.findFiles()
	m.mu.Lock()
	m.looked = true
	if err != nil { // a bug of who finds them: nothing is imported
		m.mu.Unlock()
		m.imports.log.Warn("files are not imported", "error", err)
		m.store.news.push(recount{m})
		return
	}
	m.files = files
	troubled := m.decideAll()
	for i := range m.files {
		if f := &m.files[i]; f.used() && m.partial.IsZero() && m.lacks(f) {
			m.partial, troubled = time.Now().Add(lookPartial), true
		}
	}
	m.mu.Unlock()
	if troubled {
		m.imports.relook(m)
	}
	m.store.news.push(recount{m})
	if m.isShared() {
		m.Share() // now that there is something to offer
	}
}

func (m *Imported) isLooked() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.looked || m.closed
}

// findFiles asks where the files are, and looks at them.
func (m *Imported) findFiles() ([]importFile, error) {
	extents := m.find()
	files := make([]importFile, 0, len(extents))
	for i, e := range extents {
		if e.Length > 0 {
			files = append(files, importFile{Extent: e, number: i})
		}
	}
	slices.SortStableFunc(files, func(a, b importFile) int { return cmp.Compare(a.Offset, b.Offset) })
	if err := covers(files, m.geometry.Length); err != nil {
		return nil, err
	}
	var young []int
	now := time.Now()
	for i := range files {
		if f := &files[i]; f.Path != "" && !f.Zero {
			f.look()
			if f.used() && now.UnixNano()-f.stamp.ctime < int64(m.imports.settle) {
				young = append(young, i)
			}
		}
	}
	if len(young) > 0 {
		time.Sleep(m.imports.settle)
	}
	for _, i := range young {
		f := &files[i]
		was := f.stamp
		if f.look(); f.used() && f.stamp != was {
			f.stamp, f.trouble = stamp{}, errFileBusy
			f.retry.took(errFileBusy)
		}
	}
	return files, nil
}

func covers(files []importFile, length int64) error {
	var end int64
	for _, f := range files {
		if f.Offset != end {
			return fmt.Errorf("extent begins at %d, not at %d", f.Offset, end)
		}
		end += f.Length
	}
	if end != length {
		return fmt.Errorf("extents end at %d, not at %d", end, length)
	}
	return nil
}

// look takes the stamp of the file that is there now.
func (f *importFile) look() {
	f.stamp, f.trouble = stamp{}, nil
	fi, err := os.Stat(f.Path)
	switch {
	case err == nil && fi.Mode().IsRegular():
		f.stamp = stampOf(fi)
	case err == nil:
		f.trouble = errors.New("it is not a regular file")
	case errors.Is(err, fs.ErrNotExist):
		f.trouble = errFileGone
	default:
		f.trouble = errors.Unwrap(err)
	}
	f.retry.took(f.trouble)
}

// decideAll sets what is held and undecided after all files were looked at for the
// first time. It reports whether some of them are to be looked at again. m.mu is held.
func (m *Imported) decideAll() (troubled bool) {
	n := m.geometry.NumPieces()
	m.undecided, m.held, m.checked = newBitmap(n), newBitmap(n), newBitmap(n)
	for i := range m.files {
		f := &m.files[i]
		troubled = troubled || f.trouble != nil
		if f.used() || f.Zero { // several pads may make a piece
			m.doubt(f)
		}
	}
	// What is remembered holds for pieces all of whose files are as they were.
	known := m.known
	m.known = ImportRecord{}
	if len(known.Stamps) == 0 {
		return troubled
	}
	fresh := newBitmap(n)
	for i := range m.files {
		if f := &m.files[i]; f.used() && f.stamp.key() != known.stamp(f.number) {
			f.pieces(m.geometry, fresh.set)
		}
	}
	for piece := range n {
		if !m.undecided.has(piece) || fresh.has(piece) {
			continue
		}
		if has(known.Held, piece) {
			m.held.set(piece)
			m.undecided.clear(piece)
		} else if has(known.Lacking, piece) {
			m.undecided.clear(piece)
		}
	}
	return troubled
}

// pieces calls a function with each piece that the file has a part in.
func (f *importFile) pieces(g Geometry, do func(piece int)) {
	for piece := int(f.Offset / g.PieceLength); int64(piece)*g.PieceLength < f.Offset+f.Length; piece++ {
		do(piece)
	}
}

// doubt makes the pieces of a file undecided that the files found may hold. m.mu is
// held.
func (m *Imported) doubt(f *importFile) {
	f.pieces(m.geometry, func(piece int) {
		m.held.clear(piece)
		m.checked.clear(piece)
		m.undecided.clear(piece)
		if m.possible(piece) {
			m.undecided.set(piece)
		}
	})
}

// possible says that there are files long enough to hold a piece. m.mu is held.
func (m *Imported) possible(piece int) bool {
	at := int64(piece) * m.geometry.PieceLength
	end := at + int64(m.geometry.PieceSize(piece))
	i := sort.Search(len(m.files), func(i int) bool { return m.files[i].Offset+m.files[i].Length > at })
	for ; i < len(m.files) && m.files[i].Offset < end; i++ {
		f := &m.files[i]
		if !f.Zero && (!f.used() || f.stamp.size < min(end-f.Offset, f.Length)) {
			return false
		}
	}
	return true
}

// lookPartial is how often files are looked at that lack something: another client may
// be about to complete them.
const lookPartial = time.Minute

// lookAgain looks for files that are not used, and at those that lack something, if it
// is time. It returns when it is to be called again; the zero time if it is not.
func (m *Imported) lookAgain(now time.Time) (next time.Time) {
	m.looking.Lock()
	defer m.looking.Unlock()
	m.mu.Lock()
	due := false
	for i := range m.files {
		due = due || m.files[i].lost(now)
	}
	due = due || !m.partial.IsZero() && !now.Before(m.partial)
	m.mu.Unlock()
	if due {
		m.takeUp(now)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next = m.partial
	for i := range m.files {
		if f := &m.files[i]; !f.used() && f.trouble != nil && (next.IsZero() || f.retry.until.Before(next)) {
			next = f.retry.until
		}
	}
	return next
}

// lacks says that some of a file is not right, or not there. m.mu is held.
func (m *Imported) lacks(f *importFile) (some bool) {
	f.pieces(m.geometry, func(piece int) { some = some || !m.held.has(piece) && !m.undecided.has(piece) })
	return some
}

// lost says that a file went away and is due to be looked for.
func (f *importFile) lost(now time.Time) bool {
	return !f.used() && f.trouble != nil && !now.Before(f.retry.until)
}

// takeUp uses the files that are there now. m.looking is held.
func (m *Imported) takeUp(now time.Time) {
	found, err := m.findFiles()
	if err != nil {
		return // the first look has said so
	}
	some := false
	m.mu.Lock()
	m.partial = time.Time{}
	for i := range m.files {
		f := &m.files[i]
		switch {
		case f.Zero:
		case found[i].used() && (f.used() || f.trouble == nil || f.lost(now)):
			if found[i].stamp == f.stamp && found[i].Path == f.Path {
				break
			}
			wait := f.retry // one that keeps changing is looked at less and less often
			*f = found[i]
			f.retry = wait
			m.doubt(f)
			m.imports.fds.forgetPath(f.Path)
			some = true
		case f.lost(now):
			f.trouble = cmp.Or(found[i].trouble, f.trouble)
			f.retry.took(f.trouble)
		}
	}
	for i := range m.files {
		if f := &m.files[i]; f.used() && m.lacks(f) {
			m.partial = now.Add(lookPartial)
		}
	}
	m.mu.Unlock()
	if some {
		m.imports.again(m)
		m.store.news.push(recount{m})
	}
}

// ImportRecord is what is remembered of an imported volume, so that its files are not
// hashed again by the next run.
type ImportRecord struct {
	// Stamps tell, by 8 bytes for each extent in order, the files that were hashed: a
	// sum of size, modification time and inode; zeros where there was none.
	Stamps []byte `json:"stamps,omitempty"`
	// Held and Lacking are pieces that the files were found to hold, or not; piece i is
	// bit i%8 of byte i/8.
	Held    []byte `json:"held,omitempty"`
	Lacking []byte `json:"lacking,omitempty"`
}

func (r ImportRecord) equal(o ImportRecord) bool {
	return slices.Equal(r.Stamps, o.Stamps) && slices.Equal(r.Held, o.Held) && slices.Equal(r.Lacking, o.Lacking)
}

// IsZero says that nothing is remembered.
func (r ImportRecord) IsZero() bool { return len(r.Stamps) == 0 }

// stamp returns that of an extent, 0 if there is none.
func (r ImportRecord) stamp(i int) uint64 {
	if len(r.Stamps) < 8*(i+1) {
		return 0
	}
	return binary.LittleEndian.Uint64(r.Stamps[8*i:])
}

func has(set []byte, i int) bool { return i/8 < len(set) && set[i/8]>>(i%8)&1 != 0 }

// Record returns what is to be remembered.
func (m *Imported) Record() ImportRecord {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.looked {
		return m.known
	}
	var r ImportRecord
	possible := newBitmap(m.geometry.NumPieces())
	some := false
	for i := range m.files {
		f := &m.files[i]
		for len(r.Stamps) < 8*(f.number+1) {
			r.Stamps = append(r.Stamps, 0)
		}
		if f.used() {
			some = true
			binary.LittleEndian.PutUint64(r.Stamps[8*f.number:], f.stamp.key())
			f.pieces(m.geometry, possible.set)
		}
	}
	if !some {
		return ImportRecord{}
	}
	r.Held, r.Lacking = make([]byte, (m.geometry.NumPieces()+7)/8), make([]byte, (m.geometry.NumPieces()+7)/8)
	for piece := range m.geometry.NumPieces() {
		switch {
		case m.held.has(piece):
			r.Held[piece/8] |= 1 << (piece % 8)
		case possible.has(piece) && !m.undecided.has(piece):
			r.Lacking[piece/8] |= 1 << (piece % 8)
		}
	}
	return r
}

// ImportStatus is a moment of an imported volume.
type ImportStatus struct {
	Files, Held, Undecided int   // files used; pieces
	Hashed                 int64 // bytes, in this run
	// Troubles are files that are not used, or not all of them, maxTroubles of them;
	// Troubled counts all.
	Troubles []FileTrouble
	Troubled int
}

// FileTrouble is why a file is not used.
type FileTrouble struct {
	Path string
	Why  error
}

// maxTroubles bounds what a status lists.
const maxTroubles = 16

// Status returns how it is.
func (m *Imported) Status() ImportStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := ImportStatus{Hashed: m.hashed, Held: m.held.count(), Undecided: m.undecided.count()}
	if !m.looked {
		st.Undecided = m.geometry.NumPieces()
	}
	for i := range m.files {
		f := &m.files[i]
		if f.used() {
			st.Files++
		}
		if f.trouble == nil {
			continue
		}
		st.Troubled++
		if len(st.Troubles) < maxTroubles {
			st.Troubles = append(st.Troubles, FileTrouble{f.Path, f.trouble})
		}
	}
	return st
}
