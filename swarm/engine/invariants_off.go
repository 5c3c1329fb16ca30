//go:build !invariants && !race

package engine

func (e *Engine) check() {}
