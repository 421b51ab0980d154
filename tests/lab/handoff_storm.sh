#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# tests/lab/handoff_storm.sh - one connection under load, handed off as often and as fast as it goes
#
# If this fails, a user's connection breaks, stalls for a retransmission or carries wrong bytes when it moves.
#
# Usage: tests/lab/handoff_storm.sh [--topology inline|one-arm] [--ipv6] [--vlans] [--handoffs N] [--mtu N] [--logs DIR]
#          [--kinds KIND,...] [--again N] [--block BYTES] [--depth D] [--timeout SECONDS] [--pause-ms MS]
#
# Starts a lab of its own with two disks and a client, runs nfs_load on the client, and has the switch (node 1) and
# the disks (2, 3) hand its connection around as nasctl would, with a pause (default: 10 ms) after each, until N handoffs
# (default: 1000) were done, of a KIND drawn each time (default: full; to-devices, to-client, predicted). Then: no wrong byte, one
# connection, and in the client's counters no reset and at most N retransmissions (default: 0). (Its tail-loss probes are off: they are sent when the machine is busy, too.)
#
# Prints one line of JSON: what happened, p50 and p99 of the handoff time, problems. Exit status: 0; 1 something was
# wrong; 2 wrong usage; 77 a program is missing, or the rights to make namespaces.
#
# Environment: that of the lab; NFS_LOAD, the load client, or CLIENTS, the folder with it (default: tests/client).

# shellcheck disable=SC2317 # shellcheck does not see that the trap calls a function

set -u

here=$(cd "$(dirname "$0")" && pwd)
name=storm-$$
lab_options=() storm_options=()

usage() {
	echo "handoff_storm: $*" >&2
	sed -n 's/^# \(Usage: .*\)/\1/p' "$0" >&2
	exit 2
}

while [ $# -gt 0 ]; do
	case $1 in
	--vlans)
		lab_options+=("$1"); shift; continue ;;
	--ipv6)
		lab_options+=("$1"); storm_options+=("$1"); shift; continue ;;
	--topology | --mtu | --logs | --handoffs | --kinds | --again | --block | --depth | --timeout | --pause-ms)
		[ $# -ge 2 ] || usage "$1: value missing" ;;
	*)
		usage "$1: no such option" ;;
	esac
	case $1 in
	--topology | --mtu | --logs)	lab_options+=("$1" "$2") ;;
	*)				storm_options+=("$1" "$2") ;;
	esac
	shift 2
done

: "${NFS_LOAD:=${CLIENTS:-$here/../client}/nfs_load}"
export NFS_LOAD
vnasd=${VNASD:-$here/../../vnasd}
for program in "$vnasd" "$NFS_LOAD"; do
	if [ ! -x "$program" ]; then
		echo "handoff_storm: $program: not there; build it first" >&2
		exit 77
	fi
done
if [ "$(id -u)" -ne 0 ]; then
	echo "handoff_storm: needs root" >&2
	exit 77
fi

trap 'exit 130' INT
trap 'exit 143' TERM HUP
result=1
clean_up() {
	local status=$?

	trap - EXIT
	"$here/lab" down --name "$name" || result=1
	[ "$status" -eq 0 ] || exit "$status"
	exit "$result"
}
trap clean_up EXIT

"$here/lab" up --name "$name" --slaves 2 --clients 1 "${lab_options[@]}" >/dev/null || exit 1
"$here/handoff_storm.py" --name "$name" "${storm_options[@]}"
result=$?
[ "$result" -eq 0 ] || "$here/lab" status --name "$name" >&2
exit "$result"
