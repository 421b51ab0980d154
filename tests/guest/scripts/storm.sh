#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# tests/guest/scripts/storm.sh - what tests/lab/test_storm.py --guest runs in the guest: Linux's client in a storm
#
# Usage: storm.sh SERVER
#
# Mounts SERVER:/ with nconnect=4, and that means hard. Two workers in each of /disk0 to /disk2 write, rename, link, list and
# remove, and compare all they read; three processes count under a lock. They work from the line that begins with "host: "
# until the host answers. Lines that begin with "ok: " or "FAILED: " are results.
#
# A server whose daemon was killed has forgotten which calls it has answered, so a rename that was done may be answered
# ENOENT. That alone is allowed for here; tests/client/storm_load.c is strict about it.

# shellcheck disable=SC2317 # shellcheck does not see that functions are called through "check"

set -uo pipefail

server=$1
disks=(/mnt/disk0 /mnt/disk1 /mnt/disk2)
stop=/tmp/stop
failed=0

check() {
	if "${@:2}"; then
		echo "ok: $1"
	else
		echo "FAILED: $1"
		failed=1
	fi
}

wrong() {
	echo "$*" >&2
	exit 1
}

renamed() {
	mv "$1" "$2" 2>/tmp/mv.$BASHPID || [ ! -e "$1" ] || wrong "mv $1 $2: $(cat /tmp/mv.$BASHPID)"
}

same() {
	cmp "$1" "$2" || wrong "$2 is not as it was written"
}

# worker DISK NUMBER - in a directory of its own
worker() {
	local dir=$1/guest-$2 data=/tmp/data-${1##*/}-$2 round

	mkdir -p "$dir" || wrong "mkdir $dir"
	for ((round = 1; ; round++)); do
		tail -c +$((RANDOM + 1)) /tmp/data | head -c $((RANDOM * 12 + 1)) >"$data"
		cp "$data" "$dir/new" || wrong "cp to $dir/new"
		same "$data" "$dir/new"
		renamed "$dir/new" "$dir/kept"
		ln -f "$dir/kept" "$dir/link" || wrong "ln $dir/link"
		[ "$(cd "$dir" && echo *)" = "kept link" ] || wrong "$dir has $(cd "$dir" && echo *)"
		rm -f "$dir/link" || wrong "rm $dir/link"
		[ $((round % 5)) -ne 0 ] || echo 3 >/proc/sys/vm/drop_caches
		same "$data" "$dir/kept"
		[ ! -e $stop ] || break
	done
	rm -rf "$dir" || wrong "rm -rf $dir"
	echo "$dir: $round rounds"
}

# counter NUMBER - what it has added is in /tmp/added-NUMBER
counter() {
	local added=0 file=/mnt/disk0/counter count

	while [ ! -e $stop ]; do
		{
			flock -x 9 || wrong "flock"
			count=$(cat $file) || wrong "counting"
			echo $((count + 1)) >$file || wrong "counting"
		} 9>>/mnt/disk0/lock
		added=$((added + 1))
		sleep 0.1
	done
	echo $added >"/tmp/added-$1"
}

counted() {
	local sum=0 number

	for number in 1 2 3; do
		sum=$((sum + $(cat /tmp/added-"$number")))
	done
	echo "$sum counted under the lock"
	[ "$(cat /mnt/disk0/counter)" -eq "$sum" ] || { echo "the file says $(cat /mnt/disk0/counter)"; false; }
}

check "mount" mount -t nfs -o nconnect=4 "$server:/" /mnt
head -c 1M /dev/urandom >/tmp/data
echo 0 >/mnt/disk0/counter
workers=() counters=()
for disk in "${disks[@]}"; do
	for number in 1 2; do
		worker "$disk" $number &
		workers+=($!)
	done
done
for number in 1 2 3; do
	counter $number &
	counters+=($!)
done
echo "host: storms"
read -r _
touch $stop
for process in "${workers[@]}"; do
	check "what a worker wrote, moved, listed and read was right" wait "$process"
done
for process in "${counters[@]}"; do
	check "a lock could be taken and given back all the time" wait "$process"
done
check "nobody counted while another had the lock" counted
rm -f /mnt/disk0/{counter,lock}
for disk in "${disks[@]}"; do
	check "$disk: nothing of it is left" [ -z "$(ls -d "$disk"/guest-* "$disk"/counter 2>/dev/null)" ]
done
check "umount" umount /mnt
exit $failed
