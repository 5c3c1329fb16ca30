#!/bin/sh
# Sees to it that the programs of a purpose (demo, test, race) are there.
# Root on Debian: installs the packages of the missing ones. Anyone else: says
# in one line what is missing and how to get it, and exits 1.
set -eu

purpose=${1:-test}
missing=
add() { case " $missing " in *" $1 "*) ;; *) missing="$missing $1" ;; esac; }
need() { command -v "$1" >/dev/null 2>&1 || add "$2"; }   # program, package

# Daemons live in sbin, which is not in the path of plain users on Debian.
PATH=$PATH:/usr/sbin:/sbin

command -v go >/dev/null 2>&1 || [ -n "${GO:-}" ] || {
	echo "setup: Go is missing: install Go 1.26 or newer from https://go.dev/dl/" >&2
	exit 1
}
need make make
need fusermount3 fuse3
need ffmpeg ffmpeg
need ffprobe ffmpeg
need cmp diffutils
need timeout coreutils
case $purpose in
demo) ;;
race) need cc gcc; [ -e /usr/include/stdlib.h ] || add libc6-dev ;;
test)
	need aria2c aria2
	need transmission-daemon transmission-daemon
	need rtorrent rtorrent
	need qbittorrent-nox qbittorrent-nox
	need opentracker opentracker
	need nginx nginx-light
	need curl curl
	need ip iproute2
	need nsenter util-linux
	need unshare util-linux
	need ps procps
	need find findutils
	# The tests call Debian's interpreter by its full name: python3-libtorrent is built for it.
	/usr/bin/python3 -c 'import libtorrent' >/dev/null 2>&1 || add python3-libtorrent
	;;
*) echo "usage: setup.sh demo|test|race" >&2; exit 2 ;;
esac

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "setup: missing:$missing; as root: apt-get install --no-install-recommends$missing" >&2
	exit 1
fi

echo "setup: installing$missing"
# The packages of daemons start them; nobody asked for a torrent client that
# listens on this machine. invoke-rc.d asks policy-rc.d: 101 means "do not".
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	trap 'exit 1' INT TERM
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086 # a list of package names
apt-get -qq -y install --no-install-recommends $missing
