//go:build race

package cache

const beside = false
