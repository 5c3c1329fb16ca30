package main

import (
	"io"
	"os"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"
)

// isTerminal reports whether w is a terminal that a person looks at.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// progressBar shows bytes done on w if that is a terminal; else it does
// nothing. set and done are for one goroutine at a time.
type progressBar struct {
	w    io.Writer
	what string

	bars *mpb.Progress
	bar  *mpb.Bar // nil before the first set, and without a terminal
}

// set says how much is done of how much, in bytes.
func (p *progressBar) set(done, total int64) {
	if p.bars == nil {
		if !isTerminal(p.w) || total <= 0 {
			return
		}
		p.bars = mpb.New(mpb.WithOutput(p.w), mpb.WithWidth(80))
		p.bar = p.bars.AddBar(total, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name(p.what+" "), decor.Counters(decor.SizeB1024(0), "% .1f / % .1f")),
			mpb.AppendDecorators(
				decor.Percentage(decor.WC{W: 4}),
				decor.AverageSpeed(decor.SizeB1024(0), " % .0f "),
				decor.AverageETA(decor.ET_STYLE_GO),
			),
		)
	}
	p.bar.SetCurrent(done)
}

// done takes the bar off the terminal, complete or not, so that what is printed
// next stands on a line of its own.
func (p *progressBar) done() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.bars.Wait()
	}
}
