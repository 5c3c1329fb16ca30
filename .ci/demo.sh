#!/bin/bash
# Shows the whole path on this machine alone: a video is made, made into a
# torrent, seeded, mounted, played and copied out. Nothing leaves loopback, and
# everything is cleaned up at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
show() {
	printf '  $'
	printf ' %s' "${@//$work\//}"
	printf '\n'
	"$@" 2>&1 | sed 's/^/    /'
}

for program in ffmpeg ffprobe cmp timeout; do
	command -v "$program" >/dev/null || { echo "demo: $program is missing: run .ci/setup.sh demo as root" >&2; exit 1; }
done
[ -c /dev/fuse ] || { echo "demo: /dev/fuse is missing: run modprobe fuse as root" >&2; exit 1; }
if [ "$(id -u)" != 0 ]; then
	command -v fusermount3 >/dev/null || { echo "demo: fusermount3 is missing: install the package fuse3" >&2; exit 1; }
	if [ ! -r /dev/fuse ] || [ ! -w /dev/fuse ]; then
		echo "demo: no right to open /dev/fuse: as root: chmod 666 /dev/fuse, or run the demo as root" >&2
		exit 1
	fi
fi

work=$(mktemp -d)
seeder='' mounter=''
cleanup() {
	trap - EXIT INT TERM
	[ -z "$mounter" ] || kill "$mounter" 2>/dev/null || true
	[ -z "$seeder" ] || kill "$seeder" 2>/dev/null || true
	for _ in $(seq 50); do
		grep -q " $work/mnt " /proc/self/mountinfo || break
		sleep 0.1
	done
	if grep -q " $work/mnt " /proc/self/mountinfo; then
		[ -z "$mounter" ] || kill -KILL "$mounter" 2>/dev/null || true
		umount -l "$work/mnt" 2>/dev/null || fusermount3 -uz "$work/mnt" 2>/dev/null || true
	fi
	rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME ARGS...: runs swarmfs in the background and waits for its line.
start() {
	local name=$1
	shift
	printf '  $ swarmfs'
	printf ' %s' "${@//$work\//}"
	printf ' &\n'
	"$work/swarmfs" "$@" >"$work/$name.log" 2>&1 &
	started=$!
	for _ in $(seq 300); do
		if grep '^ready: ' "$work/$name.log" | sed "s|$work/||g; s/^/    /"; grep -q '^ready: ' "$work/$name.log"; then return; fi
		kill -0 "$started" 2>/dev/null || break
		sleep 0.1
	done
	echo "demo: swarmfs did not get ready:" >&2
	cat "$work/$name.log" >&2
	exit 1
}

say "Building swarmfs"
"${GO:-go}" build -o "$work/swarmfs" ./cmd/swarmfs
PATH=$work:$PATH
show swarmfs version
mkdir "$work/mnt" "$work/original" "$work/copy"

say "Making a video of 30 seconds"
film=$work/original/film.mp4
ffmpeg -nostdin -v error -f lavfi -i testsrc2=size=1280x720:rate=25:duration=30 \
	-f lavfi -i sine=frequency=440:duration=30 -c:v mpeg4 -b:v 6M -c:a aac "$film"
cd "$work"
show ls -sh original

say "Making a torrent of it"
show swarmfs create -o film.torrent original/film.mp4
show swarmfs info film.torrent

say "Seeding it, as somebody else would"
start seed seed --listen 127.0.0.1:0 --no-dht "$work/film.torrent" "$film"
seeder=$started
address=$(grep -o '127\.0\.0\.1:[0-9]*' seed.log | head -n 1)

say "Mounting it: only the torrent and the seeder's address are known"
start mount mount --listen 127.0.0.1:0 --no-dht --data "$work/data" --peer "$address" "$work/film.torrent" "$work/mnt"
mounter=$started
show timeout 20 ls -l mnt

say "Playing it: decoding every frame, from a seek first, then from the start"
show timeout 60 ffprobe -v error -show_entries format=duration,size,bit_rate -of default=noprint_wrappers=1 mnt/film.mp4
show timeout 60 ffmpeg -nostdin -v error -xerror -ss 20 -i mnt/film.mp4 -f null -
show timeout 60 ffmpeg -nostdin -v error -xerror -i mnt/film.mp4 -f null -
echo "    played without an error"

say "Copying it out and comparing every byte"
show timeout 60 cp mnt/film.mp4 copy/
show cmp copy/film.mp4 original/film.mp4
echo "    identical"

say "Unmounting"
show kill "$mounter"
wait "$mounter" && echo "    swarmfs ended with exit code 0"
mounter=''
if grep -q " $work/mnt " /proc/self/mountinfo; then
	echo "demo: still mounted" >&2
	exit 1
fi
kill "$seeder"
wait "$seeder" || true
seeder=''
say "That was a torrent, used as a file."
