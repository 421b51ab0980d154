#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# tests/guest/scripts/client.sh - what test_client runs in the guest: mount, work as a user would, look closely
#
# Usage: client.sh SERVER SIZE_MIB OPTIONS...
#
# Mounts SERVER:/ once for each OPTIONS ("default": none), and works in /disk0 and /disk1. Lines that begin with "ok: "
# or "FAILED: " are results; "handoffs on" and "handoffs off" tell the host when to hand the connections around,
# "losses on" and "losses off" when to lose packets.
# What the kernel says between "client.sh: begin" and "client.sh: end" in its log was said during the work.

# shellcheck disable=SC2317 # shellcheck does not see that functions are called through "check"

set -uo pipefail

server=$1
size_mib=$2
shift 2

disks=(/mnt/disk0 /mnt/disk1)
tree=/tmp/tree
file=/tmp/big
failed=0

say() {
	echo "$(cut -d ' ' -f 1 /proc/uptime) $*"
}

# check NAME COMMAND... - the command succeeds; its time is shown
check() {
	local name=$1 start=$EPOCHREALTIME result

	shift
	if "$@"; then
		result=ok
	else
		result=FAILED
		failed=1
	fi
	awk -v result="$result" -v name="$name" -v start="$start" -v end="$EPOCHREALTIME" \
		'BEGIN { printf "%s: %s (%.1f s)\n", result, name, end - start }'
}

not() {
	! "$@"
}

# Several hundred files as users have them: programs and text from this guest, and what a copy may get wrong.
make_tree() {
	local i

	mkdir -p $tree/{sizes,links,many/{a,b}/{1,2,3}/deep/er,modes,special,empty}
	cp -a /etc $tree/etc
	cp -a /usr/bin/{ls,cp,diff,bash} $tree/
	cp -a /usr/lib/modules/*/modules.* $tree/
	for i in 0 1 4095 4096 4097 65535 65536 131073 1000000 1048577 3000001; do
		head -c $i /dev/urandom >$tree/sizes/$i
	done
	truncate -s 8M $tree/sizes/hole
	echo end >>$tree/sizes/hole
	for i in {1..20}; do
		for dir in $tree/many/{a,b}/{1,2,3}; do
			echo "$dir $i" >"$dir/file$i"
		done
	done
	ln -s ../sizes/4096 $tree/links/relative
	ln -s /nowhere/at/all $tree/links/dangling
	ln -s "$(printf 'x%.0s' {1..1000})" $tree/links/long
	ln $tree/sizes/4097 $tree/links/hard1
	ln $tree/sizes/4097 $tree/links/hard2
	for i in 0000 0400 0644 0755 1777 2755 4755 6711; do
		echo $i >$tree/modes/$i
		chmod $i $tree/modes/$i
	done
	mkdir -m 3770 $tree/modes/directory
	echo space >"$tree/many/ two  words "
	echo line >"$tree/many/a"$'\n'"line"
	echo bytes >"$tree/many/"$'\xff\xfe'" Größe"
	echo long >"$tree/many/$(printf 'n%.0s' {1..255})"
	mkfifo -m 0604 $tree/special/fifo
	mknod $tree/special/null c 1 3
	mknod $tree/special/block b 259 1048575
	chown -h alice:bob $tree/sizes/65536 $tree/links/{hard1,dangling} $tree/empty
	chown 4000000000:4000000000 $tree/modes/0400
	chmod 4755 $tree/modes/4755    # a chown takes the bit away
	touch -d '1970-01-02 03:04:05.678901234' $tree/sizes/1 $tree/empty
	touch -d '2038-01-19 03:14:08.000000001' $tree/sizes/0
	touch -h -d '2001-02-03 04:05:06.7' $tree/links/dangling
}

# Everything but where the directory is, and the size of directories, which is the file system's affair.
metadata() {
	(cd "$1" && find . -type d -printf '%P|%y|%m|%U|%G|%T@\0' -o -printf '%P|%y|%m|%U|%G|%T@|%n|%s|%l\0' |
		tr '\n\0' '?\n' | LC_ALL=C sort)
	(cd "$1/special" && stat -c '%n %t %T' -- *)
}

metadata_is_same() {
	diff /tmp/metadata <(metadata "$1")
}

# diff would say of two pipes only that they are pipes.
data_is_same() {
	diff -r --no-dereference --exclude special "$tree" "$1"
}

found() {
	diff <(cd "$tree" && find . | LC_ALL=C sort) <(cd "$1" && find . | LC_ALL=C sort)
}

read_back() {
	local sum

	sum=$(dd if="$1" bs=1M status=none | sha256sum) || return 1
	[ "$sum" = "$2" ] || { echo "$1: $sum instead of $2"; false; }
}

forget_cached() {
	sync && echo 3 >/proc/sys/vm/drop_caches
}

is_empty() {
	[ -z "$(ls -A "$1")" ] || { ls -lA "$1"; false; }
}

# The connections of /mnt: for each its port and how often it was bound and connected, in the order of their making.
connections() {
	awk '/^device/ { at = $5 } /xprt:/ && at == "/mnt" { print $3, $4, $5 }' /proc/self/mountstats
}

# Of each kind of call there is said how many there were and how many were sent. The client sends a call again when the
# answer is 60 s late.
no_call_was_repeated() {
	awk '/per-op/ { in_ops = 1; next } /^device/ { in_ops = 0 }
		in_ops && $3 > $2 { bad = 1; print } END { exit bad }' /proc/self/mountstats
}

tcp_counters() {
	local names values i

	{ read -ra names; read -ra values; } < <(grep ^Tcp: /proc/net/snmp)
	for i in "${!names[@]}"; do
		case ${names[i]} in
		RetransSegs | OutRsts | EstabResets | AttemptFails)
			say "counter ${names[i]} ${values[i]}" ;;
		esac
	done
}

# is_mounted OPTION - with this word among its options
is_mounted() {
	findmnt -n -o FSTYPE,OPTIONS /mnt | grep -qE "^nfs +.*\\b$1\\b" || { findmnt /mnt; false; }
}

# Both disks at the same time, so that each connection has calls for both in flight.
on_both() {
	local disk processes=() process result=0

	for disk in "${disks[@]}"; do
		"$1" "$disk" "${@:2}" &
		processes+=($!)
	done
	for process in "${processes[@]}"; do
		wait "$process" || result=1
	done
	return "$result"
}

copy_tree() {
	cp -a "$tree" "$1/tree"
}

check_tree() {
	data_is_same "$1/tree" && found "$1/tree" && metadata_is_same "$1/tree"
}

remove_tree() {
	rm -rf "$1/tree"
}

write_big() {
	dd if="$file" of="$1/big" bs=1M conv=fsync status=none
}

check_big() {
	read_back "$1/big" "$(sha256sum <"$file")"
}

# big DISK - one big file, which draws the connections to that disk
big() {
	check "$1: dd of $size_mib MiB" write_big "$1"
	forget_cached
	check "$1: its checksum" check_big "$1"
	check "$1: rm" rm "$1/big"
}

work_on_both() {
	check "both: cp -a" on_both copy_tree
	check "both: dd of $size_mib MiB" on_both write_big
	forget_cached
	check "both: checksums" on_both check_big
	check "both: diff -r, find, stat of each" on_both check_tree
	check "both: rm -rf" on_both remove_tree
	rm /mnt/disk[01]/big
}

losses_on_both() {
	check "both, losses: dd of 16 MiB" on_both write_big
	forget_cached
	check "both, losses: checksums" on_both check_big
	rm /mnt/disk[01]/big
}

# with OPTIONS - mount, work, unmount
with() {
	local option words=() disk

	[ "$1" = default ] || words=(-o "$1")
	check "mount -t nfs ${words[*]} $server:/" mount -t nfs "${words[@]}" "$server:/" /mnt || return
	mountpoint -q /mnt || return
	check "version 3" is_mounted vers=3
	if [ "$1" != default ]; then
		for option in ${1//,/ }; do
			check "$option" is_mounted "$option"
		done
	fi
	check "/disk0 and /disk1 are there" test "$(ls /mnt)" = $'disk0\ndisk1'

	connections >/tmp/connections
	check "connections: $(wc -l </tmp/connections)" test -s /tmp/connections
	echo "handoffs off"
	for disk in "${disks[@]}"; do
		big "$disk"
	done
	echo "handoffs on"
	work_on_both
	if [ "$1" != default ]; then
		echo "losses on"
		file=/tmp/smaller losses_on_both
		echo "losses off"
	fi
	echo "handoffs off"

	for disk in "${disks[@]}"; do
		check "$disk: nothing is left" is_empty "$disk"
	done
	check "the connections are those of the beginning" diff /tmp/connections <(connections)
	check "no call was sent twice" no_call_was_repeated
	check "umount" umount /mnt
}

say "making the tree"
make_tree
metadata $tree >/tmp/metadata
head -c "${size_mib}M" /dev/urandom >/tmp/big
head -c 16M /tmp/big >/tmp/smaller
say "$(wc -l </tmp/metadata) files, $(du -sm $tree | cut -f 1) MiB"

check "version 4 is refused" not mount -t nfs -o vers=4.2 "$server:/" /mnt
echo "client.sh: begin" >/dev/kmsg
for options; do
	with "$options"
done
echo "client.sh: end" >/dev/kmsg
say "end"
tcp_counters
exit $failed
