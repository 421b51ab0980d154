#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# tests/guest/scripts/node_death.sh - what test_node_death runs in the guest: Linux's client while a disk node is dead
#
# Usage: node_death.sh SERVER
#
# Mounts SERVER:/ with default options, which means hard. Lines that begin with "ok: " or "FAILED: " are results; after a
# line that begins with "host: " the host does its part and then sends a line.

set -uo pipefail

server=$1
blocks=100
failed=0

check() {
	if "${@:2}"; then
		echo "ok: $1"
	else
		echo "FAILED: $1"
		failed=1
	fi
}

host() {
	local line

	echo "host: $*"
	read -r line
}

same() {
	[ "$(md5sum <"$1")" = "$(md5sum <"$2")" ]
}

check "it is mounted" mount -t nfs "$server:/" /mnt
head -c $((blocks * 65536)) /dev/urandom >/tmp/data
cp /tmp/data /mnt/disk0/read
check "a file is written to both disks" cp /tmp/data /mnt/disk1/other
echo 3 >/proc/sys/vm/drop_caches

# Both are at it when the node dies: block by block, so that they last.
(for ((i = 0; i < blocks; i++)); do
	dd if=/tmp/data of=/mnt/disk0/written bs=64k count=1 skip=$i seek=$i conv=notrunc,fdatasync status=none || exit 1
	sleep 0.05
done) &
writer=$!
(for ((i = 0; i < blocks; i++)); do
	dd if=/mnt/disk0/read bs=64k count=1 skip=$i status=none || exit 1
	sleep 0.05
done >/tmp/copy) &
reader=$!
sleep 3
host "kills the disk node"
check "the writer waits" kill -0 $writer
check "the reader waits" kill -0 $reader
check "the other disk's file can be read meanwhile" same /tmp/data /mnt/disk1/other
check "a file can be made on the other disk" touch /mnt/disk1/new
host "starts the disk node again"
check "the writer ends without an error" wait $writer
check "the reader ends without an error" wait $reader
check "what was read is right" same /tmp/data /tmp/copy
echo 3 >/proc/sys/vm/drop_caches
check "what was written is right" same /tmp/data /mnt/disk0/written
check "it is unmounted" umount /mnt
exit $failed
