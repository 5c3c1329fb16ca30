// Package bencoding reads the dictionaries of strangers, peers and trackers:
// within bounds that hold before anything is allocated, and one value at a time,
// so that a value of a wrong type costs that value and not the rest. Decoding
// itself is a library's, which follows its input's nesting and believes the
// lengths that it finds.
//
// It is pure and a leaf. Torrents have a stricter reader, in package metainfo.
package bencoding
