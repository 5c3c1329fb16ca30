// Package metainfotest makes torrents for tests: honest ones with known
// content, and a set of crafted ones, hostile or odd but legal, each with the
// verdict that it must get.
//
// It is for _test.go files only, of any package. It shares no code with package
// metainfo, so that a mistake there is not repeated here: it has its own
// bencode writer, which can also write what no honest encoder writes.
package metainfotest
