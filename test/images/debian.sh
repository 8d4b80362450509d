#!/usr/bin/env bash
# Writes a minimal Debian of this machine's release, made from its packages, as a tar: the same bytes for
# the same package versions. The machine's apt sources and certificates go in: this image is for tests
# and the demo, never for users. It is made once a machine and release state, and kept in CACHE.
# Usage: debian.sh OUT.tar
set -euo pipefail
out=$1
"$(dirname "$0")/../packages.sh" mmdebstrap
cache=${BERTH_TEST_CACHE:-/var/cache/berth-test}
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
key=$({ cat "$0" /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null || true; } | sha256sum | cut -c1-16)
kept=$cache/debian-$release-$key.tar
if [ ! -e "$kept" ]; then
	mkdir -p "$cache"
	new=$(mktemp "$cache/.new-XXXXXX")
	trap 'rm -f "$new"' EXIT
	export SOURCE_DATE_EPOCH=1700000000
	certs=/etc/ssl/certs/ca-certificates.crt
	mmdebstrap --quiet --variant=minbase --format=tar \
		--customize-hook='mkdir -p "$1/etc/ssl/certs"' \
		--customize-hook="copy-in $certs /etc/ssl/certs" \
		--customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*' \
		"$release" "$new"
	mv "$new" "$kept"
fi
cp "$kept" "$out"
