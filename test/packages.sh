#!/usr/bin/env bash
# What tests and the demo need of Debian, by name; installed only where it is missing.
set -euo pipefail
packages=(
	attr             # setfattr, getfattr
	busybox-static   # the smallest base image
	ca-certificates
	curl
	docker-registry  # a real registry, on loopback
	iproute2
	iptables         # a firewall of others beside ours
	libcap2-bin      # setcap
	nftables         # nft, to look at the rules
	procps
	skopeo umoci     # independent readers and unpackers of images
	tar
	"$@"
)
missing=()
for p in "${packages[@]}"; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q --no-install-recommends "${missing[@]}"
