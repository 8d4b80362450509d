#!/usr/bin/env bash
# Writes the root file system of the smallest base image, Debian's static busybox, as a tar: the same
# bytes for the same version of the package. Usage: busybox.sh OUT.tar
set -euo pipefail
out=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir"/{bin,dev,etc,home,proc,root,sys,tmp,usr/bin,usr/sbin,var/log}
chmod 1777 "$dir/tmp"
chmod 0700 "$dir/root"
cp /bin/busybox "$dir/bin/busybox"
for applet in $("$dir/bin/busybox" --list); do
	[ "$applet" = busybox ] || ln "$dir/bin/busybox" "$dir/bin/$applet"
done
cat > "$dir/etc/passwd" <<-PASSWD
	root:x:0:0:root:/root:/bin/sh
	daemon:x:1:1:daemon:/usr/sbin:/bin/false
	app:x:1000:1000:app:/home:/bin/sh
	nobody:x:65534:65534:nobody:/home:/bin/false
PASSWD
cat > "$dir/etc/group" <<-GROUP
	root:x:0:
	daemon:x:1:
	tty:x:5:
	app:x:1000:
	extra:x:2000:app
	nogroup:x:65534:
GROUP
echo 'hosts: files dns' > "$dir/etc/nsswitch.conf" # without it the C library asks a name server first
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$dir" -cf "$out" .
