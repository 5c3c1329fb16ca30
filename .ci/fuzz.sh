#!/bin/sh
# Runs every fuzz target of the module, one after the other: fuzz.sh DURATION
set -eu
go=${GO:-go}
time=${1:-20s}
for pkg in $($go list ./...); do
	for target in $($go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
		echo "== $pkg $target ($time)"
		$go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$pkg"
	done
done
