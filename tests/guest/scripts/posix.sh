#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# tests/guest/scripts/posix.sh - what test_posix runs in the guest: a suite of promises, standing still and handed around
#
# Usage: posix.sh SERVER OPTIONS still|moving [SUITE-OPTION...]
#
# Mounts SERVER:/ with OPTIONS. /job/posix_suite works in /disk0/work, with /disk0/large and the small /disk1: once, and with
# "moving" once more. Lines that begin with "ok" or "not ok" are results; "handoffs on" and "handoffs off" tell the host when to
# hand the connection around.

# shellcheck disable=SC2317 # shellcheck does not see that functions are called through "check"

set -uo pipefail

server=$1
options=$2
way=$3
shift 3
own=$(ip -o -4 address show dev eth0 | awk '{ print $4 }' | cut -d / -f 1)
failed=0

# check NAME COMMAND... - the command succeeds
check() {
	if "${@:2}"; then
		echo "ok $1"
	else
		echo "not ok $1"
		failed=1
	fi
}

not() {
	! "$@"
}

# says PATTERN COMMAND... - a line of what the command prints is PATTERN
says() {
	local said

	said=$("${@:2}" 2>&1)
	grep -qxE -- "$1" <<<"$said" || { echo "$said"; false; }
}

# does_not_say PATTERN COMMAND... - the command succeeds, and no line is PATTERN
does_not_say() {
	local said

	said=$("${@:2}" 2>&1) && ! grep -xE -- "$1" <<<"$said"
}

suite() {
	local seconds=$SECONDS

	/job/posix_suite "${@:2}" /mnt/disk0/work /mnt/disk1 /mnt/disk0/large >"/tmp/$1"
	echo "$1: $((SECONDS - seconds)) s"
	check "$1: the suite came to its end" grep -qE '^1\.\.[0-9]+$' "/tmp/$1"
}

# Who mounts what, as an administrator sees it. A path below a volume's root is looked up at the disk node.
who_mounts() {
	mkdir -p /tmp/below
	check "showmount -e: the exports" says "/ .*" showmount -e "$server"
	check "showmount -a: this client's mount" says "$own:/" showmount -a "$server"
	check "mount of a directory in a volume" mount -t nfs -o "$options" "$server:/disk0/work" /tmp/below
	check "showmount -a: that one" says "$own:/disk0/work" showmount -a "$server"
	check "showmount -d: its directory" says /disk0/work showmount -d "$server"
	check "umount" umount /tmp/below
	check "showmount -a: no more" does_not_say "$own:/disk0/work" showmount -a "$server"
	check "showmount -d: no more" does_not_say /disk0/work showmount -d "$server"
	check "a mount of what is not there is refused" not mount -t nfs -o "$options" "$server:/disk0/none" /tmp/below
	check "and not listed" does_not_say "$own:/disk0/none" showmount -a "$server"
}

# The programs that the port mapper names answer.
programs() {
	local row

	for row in "100005 1" "100005 3" "100227 3" "100011 1" "100011 2"; do
		# shellcheck disable=SC2086 # two words
		check "rpcinfo: $row over TCP" says "program .* ready and waiting" rpcinfo -t "$server" $row
		# shellcheck disable=SC2086
		check "rpcinfo: $row over UDP" says "program .* ready and waiting" rpcinfo -u "$server" $row
	done
}

echo "posix.sh: begin" >/dev/kmsg
check "mount -o $options $server:/" mount -t nfs -o "$options" "$server:/" /mnt
mountpoint -q /mnt || exit 1
who_mounts
programs
suite still "$@"
cat /tmp/still
if [ "$way" = moving ]; then
	echo "handoffs on"
	suite moving "$@"
	echo "handoffs off"
	check "the same results while the connection is handed around" diff /tmp/still /tmp/moving
fi
check "umount /mnt" umount /mnt
echo "posix.sh: end" >/dev/kmsg
exit $failed
