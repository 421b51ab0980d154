#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# tests/guest/scripts/quota.sh - what test_quota runs in the guest: a server and its client in one, on ext4 with quotas
#
# Usage: quota.sh
#
# /job has vnasd and the libraries it needs. Lines that begin with "ok" or "not ok" are results.

# shellcheck disable=SC2317 # shellcheck does not see that functions are called through "check"

set -uo pipefail

export LD_LIBRARY_PATH=/job
ln -s vnasd /job/nasctl
disk=/srv/disk
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

# says PATTERN COMMAND... - a line of what the command prints contains PATTERN
says() {
	local said

	said=$("${@:2}" 2>&1)
	grep -qE -- "$1" <<<"$said" || { echo "$said"; false; }
}

# does_not_say PATTERN COMMAND... - the command succeeds, and no line contains PATTERN
does_not_say() {
	local said

	said=$("${@:2}" 2>&1) && ! grep -E -- "$1" <<<"$said"
}

# as USER COMMAND...
as() {
	setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"
}

# What alice may: 100 KiB and 300 at the most, 10 files.
make_disk() {
	modprobe loop
	modprobe quota_v2
	mkdir -p "$disk" /etc/vnas /var/lib/vnas
	truncate -s 32M /root/image
	mke2fs -q -t ext4 -O quota -E quotatype=usrquota:grpquota /root/image
	mount -o loop,usrquota,grpquota /root/image "$disk" && chmod 1777 "$disk" &&
		setquota -t 604800 604800 "$disk" && setquota -u alice 100 300 0 10 "$disk"
}

serve() {
	printf '[vnas]\nmode = master\n\n[network]\nhandoff = no\n\n[volume]\npath = %s\n' "$disk" >/etc/vnas/vnasd.conf
	/job/nasctl cluster init >/dev/null || return 1
	/job/vnasd --mode=master >/tmp/log 2>&1 &
	for _ in {1..200}; do
		/job/nasctl export set / '*(rw,no_root_squash)' >/dev/null 2>&1 && return
		sleep 0.1
	done
	cat /tmp/log
	return 1
}

fill() {
	head -c 250000 /dev/zero >/mnt/disk0/alice && sync
}

overfill() {
	dd if=/dev/zero of=/mnt/disk0/alice2 bs=100000 count=4 conv=fsync
}

lists() {
	check "setfacl on the mount" setfacl -m u:bob:rw,g:4242:r /mnt/disk0/list
	check "getfacl shows it" says '^user:bob:rw-$' getfacl /mnt/disk0/list
	check "ls, too" says '^-rw-rw----\+' ls -l /mnt/disk0/list
	check "so does the server's own file system" says '^group:4242:r--$' getfacl "$disk/list"
	check "setfacl -b takes it away" setfacl -b /mnt/disk0/list
	check "and it is gone" does_not_say '^user:bob' getfacl /mnt/disk0/list
}

check "an ext4 with quotas" make_disk
check "vnasd serves it" serve
check "mount" mount -t nfs -o nolock,vers=3 127.0.0.1:/ /mnt
mountpoint -q /mnt || { cat /tmp/log; exit 1; }
check "the volume is there" ls /mnt/disk0 >/dev/null
check "alice writes 250 kB, more than her soft limit" as alice bash -c "$(declare -f fill); fill"
check "quota shows what she has and may" says "127.0.0.1:/disk0 +24[0-9]\* +100 +300 +[67]days" as alice quota -w
check "root is shown the same" says "127.0.0.1:/disk0 +24[0-9]\* +100 +300" quota -w -u alice
check "bob is not" says "[Pp]ermission|denied|not allowed" as bob quota -w -u alice
check "bob has no limit" says none as bob quota -w
check "more than the hard limit is refused" says "quota exceeded" as alice bash -c "$(declare -f overfill); overfill"
touch /mnt/disk0/list
chmod 0640 /mnt/disk0/list
lists
check "umount" umount -R /mnt
/job/nasctl stop >/dev/null
[ $failed = 0 ] || cat /tmp/log
exit $failed
