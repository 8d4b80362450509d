#!/usr/bin/env bash
# Runs the tests: first what needs nothing but Go, then what takes the machine (-count=1). "all" adds
# the runs on other storage forms and with forced fallbacks.
set -euo pipefail
cd "$(dirname "$0")/.."
export BERTH_BIN=$PWD/bin
if [ "${1:-}" = all ]; then export BERTH_TEST_ALL=1; fi
if [ "$(id -u)" != 0 ]; then
	echo "the tests make namespaces, mounts and networks: run them as root" >&2
	exit 1
fi
go test -count=1 -timeout 14m ./...
