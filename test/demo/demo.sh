#!/usr/bin/env bash
# The whole way, on real input: build an image from a Dockerfile, run it, fetch a page from it, push it to
# a registry, wipe the engine, pull it and run it again. Everything is in a private directory and on
# loopback; the machine is left as it was found.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "the demo starts an engine: run it as root" >&2; exit 1; }
test/packages.sh curl
bin=$PWD/bin
dir=$(mktemp -d /var/tmp/berth-demo-XXXXXX)
export BERTH_HOST=unix://$dir/berth.sock
export DOCKER_CONFIG=$dir/config
daemon= registry=

cleanup() {
	status=$?
	set +e
	if [ -n "$daemon" ] && kill -0 "$daemon" 2>/dev/null; then
		wipe >/dev/null 2>&1
		stop_engine
	fi
	[ -n "$registry" ] && kill "$registry" && wait "$registry" 2>/dev/null
	[ $status = 0 ] || { echo; echo "the demo failed; the engine's log:"; tail -n 30 "$dir/berthd.log"; }
	rm -rf "$dir"
	exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

berth() { "$bin/berth" "$@"; }
step() { # step WHAT COMMAND...: runs it and says how long it took
	local what=$1 from to; shift
	printf '%-52s' "$what"
	from=$(date +%s%N)
	"$@" > "$dir/out" 2>&1 || { echo "failed"; cat "$dir/out" >&2; return 1; }
	to=$(date +%s%N)
	awk -v ns=$((to - from)) 'BEGIN { printf "%9.3f s\n", ns / 1e9 }'
}
start_engine() {
	"$bin/berthd" --data-root "$dir/data" --exec-root "$dir/exec" -H "$BERTH_HOST" >> "$dir/berthd.log" 2>&1 &
	daemon=$!
	for _ in $(seq 500); do [ -S "$dir/berth.sock" ] && return; kill -0 "$daemon" || return 1; sleep 0.02; done
	return 1
}
stop_engine() { kill "$daemon"; wait "$daemon" 2>/dev/null || true; daemon=; }
start_registry() {
	cat > "$dir/registry.yml" <<-CONFIG
		version: 0.1
		log: {level: error}
		storage: {filesystem: {rootdirectory: $dir/registry}}
		http: {addr: 127.0.0.1:$port}
	CONFIG
	docker-registry serve "$dir/registry.yml" > "$dir/registry.log" 2>&1 &
	registry=$!
	for _ in $(seq 500); do curl -fs "http://127.0.0.1:$port/v2/" > /dev/null && return; kill -0 "$registry" || return 1; sleep 0.02; done
	return 1
}
run() { berth run -d --name web -p 127.0.0.1::8080 "$image"; }
fetch() {
	local at; at=$(berth port web 8080/tcp | head -n 1)
	for _ in $(seq 500); do curl -fs "http://$at/" && return; sleep 0.02; done
	return 1
}
wipe() {
	local all; all=$(berth ps -aq)
	[ -z "$all" ] || berth rm -f $all
	berth system prune -af --volumes
}

port=$(shuf -i 20000-29999 -n 1)
image=127.0.0.1:$port/demo/service:1
step "make a Debian base image of packages"       test/images/debian.sh "$dir/debian.tar"
step "start an engine"                            start_engine
step "import the base image"                      berth import --change 'CMD ["bash"]' "$dir/debian.tar" debian:demo
step "build the service (two stages)"             berth build -t "$image" test/demo/app
step "build it again, from the cache"             berth build -t "$image" test/demo/app
step "run it, with a published port"              run
step "fetch a page from it"                       fetch; page=$(cat "$dir/out")
step "run a command in it"                        berth exec web id
step "start a registry on loopback"               start_registry
step "push the image"                             berth push "$image"; pushed=$(berth image inspect -f '{{.Id}}' "$image")
step "wipe the engine"                            wipe
step "pull the image"                             berth pull "$image"; pulled=$(berth image inspect -f '{{.Id}}' "$image")
step "run it again"                               run
step "fetch a page from it"                       fetch
step "remove everything"                          wipe
step "stop the engine"                            stop_engine
echo
echo "The page: $page"
echo "The image: $pulled"
[ "$pushed" = "$pulled" ] || { echo "it was $pushed before" >&2; exit 1; }
