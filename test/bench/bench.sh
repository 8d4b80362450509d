#!/usr/bin/env bash
# Runs the benchmark in namespaces of its own: a network with nothing but loopback, mounts that nobody
# else sees, and processes that end with it. Flags are passed on (-h lists them).
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "the benchmark starts an engine and containers: run it as root" >&2; exit 1; }
if [ -z "${BERTH_BENCH_INSIDE-}" ]; then
	test/packages.sh hyperfine crun runc
	program=$(mktemp /var/tmp/berth-bench-XXXXXX)
	trap 'rm -f "$program"' EXIT
	trap : INT TERM # the benchmark ends by itself, and cleans up
	CGO_ENABLED=0 go build -o "$program" ./test/bench
	BERTH_BENCH_INSIDE=$program unshare -m -n -p --fork --kill-child --mount-proc "$0" "$@"
	exit
fi
ip link set lo up
# crun refuses a hybrid cgroup hierarchy; only this mount namespace loses sight of the second one.
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
trap : INT TERM
"$BERTH_BENCH_INSIDE" -bin "$PWD/bin" "$@"
