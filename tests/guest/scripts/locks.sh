#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# tests/guest/scripts/locks.sh - what test_locks runs in the guest: locks of Linux's client, against another client's
#
# Usage: locks.sh SERVER
#
# Mounts SERVER:/ with default options. The file is /disk0/locked. Lines that begin with "ok: " or "FAILED: " are results;
# after a line that begins with "host: " the host does its part and then sends a line.

set -uo pipefail

server=$1
file=/mnt/disk0/locked
failed=0

# check NAME COMMAND... - the command succeeds
check() {
	if "${@:2}"; then
		echo "ok: $1"
	else
		echo "FAILED: $1"
		failed=1
	fi
}

not() {
	! "$@"
}

host() {
	local line

	echo "host: $*"
	read -r line
}

# hold OUTPUT COMMAND... - in the background; $holder is its process
hold() {
	"${@:2}" >"$1" 2>&1 &
	holder=$!
}

# within SECONDS COMMAND...
within() {
	local end=$((SECONDS + $1))

	while ! "${@:2}"; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.2
	done
}

release() {
	kill "$holder"
	wait "$holder" 2>/dev/null
}

alive() {
	kill -0 "$1"
}

says_locked() {
	grep -qx locked "$1"
}

tries() {
	timeout -k 1 20 /job/file_lock try "$file" "$@" >/tmp/tries
}

cannot_lock() {
	not tries "$@" && not says_locked /tmp/tries
}

mount -t nfs -o vers=3 "$server:/" /mnt || exit
check "a mount with default options has locks" not grep -q ' /mnt .*nolock' /proc/mounts
check "a file" touch "$file"

hold /tmp/first /job/file_lock try "$file" 10 20
check "a program locks" within 20 says_locked /tmp/first
check "another can't" cannot_lock 15 1
host sees the lock of bytes 10 to 29
release
host takes all

check "the other client's lock keeps programs out" cannot_lock 0 1
hold /tmp/second /job/file_lock wait "$file" 0 10
host gives it back when somebody waits
check "a program that waited has it before it would ask again" within 20 says_locked /tmp/second
release

host takes all
hold /tmp/third /job/file_lock wait "$file" 0 10
host sees that somebody waits
release
host sees that nobody waits
host gives it back

hold /tmp/circle /job/file_lock try "$file" 0 1 1 1
check "a program locks a byte" within 20 says_locked /tmp/circle
host takes the next byte and waits for this one
kill -USR1 "$holder"
check "the program, which would wait for ever, is told that it would" within 20 grep -q "Resource deadlock" /tmp/circle
host sees that nobody waits
host gives both back

hold /tmp/fourth flock --no-fork "$file" sh -c 'echo locked; exec sleep 1000'
check "flock" within 20 says_locked /tmp/fourth
host sees the lock of the whole file
release

hold /tmp/fifth /job/file_lock try "$file" 10 20
check "a program locks again" within 20 says_locked /tmp/fifth
host moves the connections to the disk
host sees the lock of bytes 10 to 29
host moves the connections to the other disk
release
host takes all
host gives it back

hold /tmp/sixth /job/file_lock try "$file" 10 20
check "a program locks once more" within 20 says_locked /tmp/sixth
host kills the disk node and starts it again
check "the program has not noticed" alive "$holder"
host sees the lock of bytes 10 to 29
release
host takes all
host gives it back

check "umount" umount /mnt
exit $failed
