#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# tests/lab/test_lab.sh - the lab itself, without vnasd
#
# If this fails, no other test that uses the lab means anything: hosts would reach what they must not reach, a cut
# host would still answer, or a lab would leave namespaces and mounts behind.
#
# Usage: tests/lab/test_lab.sh; exit status 77 where there are no namespaces to be had

# shellcheck disable=SC2317 # shellcheck does not see that functions are called through "check"

set -u

here=$(cd "$(dirname "$0")" && pwd)
lab=$here/lab
one=test-lab-$$ two=test-lab-$$-b
failed=0

if [ "$(id -u)" -ne 0 ] || ! ip netns add "vnas-$one-lan" 2>/dev/null; then
	echo "test_lab: needs root and network namespaces" >&2
	exit 77
fi
ip netns delete "vnas-$one-lan"

VNAS_LAB_DIR=$(mktemp -d)
export VNAS_LAB_DIR
clean_up() {
	"$lab" down --name "$one"
	"$lab" down --name "$two"
	[ ! -e "$VNAS_LAB_DIR" ] || rmdir "$VNAS_LAB_DIR"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# check WHAT COMMAND... - the command succeeds
check() {
	local what=$1

	shift
	if "$@"; then
		echo "ok   $what"
	else
		echo "FAIL $what: $*"
		failed=1
	fi
}

not() {
	! "$@"
}

quiet() {
	"$@" >/dev/null 2>&1
}

# reaches LAB HOST ADDRESS - a refused connection is an answer, too; there is nothing that listens
reaches() {
	# shellcheck disable=SC2016 # expanded by the inner shell
	"$lab" run --name "$1" "$2" -- timeout 2 bash -c 'exec 3<>"/dev/tcp/$1/9"' - "$3" 2>&1 | grep -q refused
}

# status_is N COMMAND...
status_is() {
	local expected=$1

	shift
	quiet "$@"
	[ $? -eq "$expected" ]
}

# from_json EXPRESSION - of the JSON on standard input, called "it"
from_json() {
	python3 -c "import json, sys; it = json.load(sys.stdin); print($1)"
}

nothing_left() {
	not grep -qE "vnas-$1-(lan|switch|disk|client)" <(ip netns list) &&
		not grep -q "$VNAS_LAB_DIR/$1/" /proc/self/mountinfo &&
		[ ! -e "$VNAS_LAB_DIR/$1" ] && [ ! -e "$VNAS_LAB_DIR/$1.lock" ]
}

links_before=$(ip -o link show | wc -l)

inline() {
	local host

	check "up, inline, two address families" quiet "$lab" up --name "$one" --no-cluster --clients 2 --ipv6
	check "a second up is refused" status_is 1 "$lab" up --name "$one" --no-cluster
	check "the plan names the VIP" test "$("$lab" plan --name "$one" | from_json 'it["vip"], it["vip6"]')" = \
		'10.77.1.100 fd77:1::100'
	check "a client reaches the switch" reaches "$one" client1 10.77.1.1
	check "a client reaches another client" reaches "$one" client1 10.77.1.12
	check "a client does not reach a disk" not reaches "$one" client1 10.77.2.11
	check "a client does not reach a disk by a route through the switch" routed_to_disk
	for host in switch disk2; do
		check "$host reaches disk1" reaches "$one" "$host" 10.77.2.11
		check "$host reaches disk1, IPv6" reaches "$one" "$host" fd77:2::11
	done
	check "a client reaches the switch, IPv6" reaches "$one" client1 fd77:1::1
	check "a client does not reach a disk, IPv6" not reaches "$one" client1 fd77:2::11
}

routed_to_disk() {
	local result

	"$lab" run --name "$one" client2 -- ip route add 10.77.2.0/24 via 10.77.1.1
	not reaches "$one" client2 10.77.2.11
	result=$?
	"$lab" run --name "$one" client2 -- ip route delete 10.77.2.0/24
	return "$result"
}

default_routes() {
	"$lab" run --name "$one" "$1" -- sh -c 'ip route show default; ip -6 route show default' | wc -l
}

cutting() {
	check "cut" "$lab" cut --name "$one" disk1
	check "status shows it" test "$("$lab" status --name "$one" | grep -c '^disk1 *cut')" = 1
	check "a cut host is not reached" not reaches "$one" switch 10.77.2.11
	check "a cut host reaches nobody" not reaches "$one" disk1 10.77.2.1
	check "the others still do" reaches "$one" switch 10.77.2.12
	check "heal" "$lab" heal --name "$one" disk1
	check "a healed host is reached" reaches "$one" switch 10.77.2.11
	check "a healed host has its default routes" test "$(default_routes disk1)" = 2
	check "cutting an unknown host fails" status_is 1 "$lab" cut --name "$one" disk9
}

running() {
	check "run passes the exit status on" status_is 7 "$lab" run --name "$one" client1 -- sh -c 'exit 7'
	check "run passes the arguments on" test "$("$lab" run --name "$one" client1 printf '%s|' --name 'a b' --)" = \
		'--name|a b|--|'
	check "run without a lab fails" status_is 1 "$lab" run --name "$two" client1 -- true
	check "unknown options are wrong usage" status_is 2 "$lab" up --name "$one" --wrong
}

taps() {
	local first again second

	first=$("$lab" tap --name "$one" vm1)
	again=$("$lab" tap --name "$one" vm1)
	second=$("$lab" tap --name "$one" vm2)
	check "a tap is the same when asked for again" test "$first" = "$again"
	check "another tap has other addresses" test "$(from_json 'it["address"], it["address6"]' <<<"$second")" = \
		'10.77.1.202 fd77:1::202'
	check "a tap can be opened where the plan says" opened_tap "$(from_json 'it["netns"]' <<<"$first")" vm1
	check "a tap is on the clients' bridge" grep -q 'master clan' <("$lab" run --name "$one" lan ip link show vm2)
	check "a wrong tap name is refused" status_is 1 "$lab" tap --name "$one" client1.0
}

# As qemu does.
opened_tap() {
	ip netns exec "$1" python3 - "$2" <<-'END'
	import fcntl, struct, sys
	IFF_TAP, IFF_NO_PI, TUNSETIFF = 0x2, 0x1000, 0x400454ca
	with open("/dev/net/tun", "r+b", buffering=0) as tun:
	    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", sys.argv[1].encode(), IFF_TAP | IFF_NO_PI))
	END
}

two_labs() {
	check "a second lab, one-arm" quiet "$lab" up --name "$two" --no-cluster --topology one-arm --mtu 9000
	check "one-arm: a client reaches a disk" reaches "$two" client1 10.77.1.51
	check "one-arm: a disk reaches the switch" reaches "$two" disk2 10.77.1.1
	check "without --ipv6 there is none" not reaches "$two" client1 fd77:1::1
	check "the MTU is as asked" grep -q 'mtu 9000' <("$lab" run --name "$two" client1 ip link show eth0)
	check "cutting in one lab" "$lab" cut --name "$two" switch
	check "... leaves the other alone" reaches "$one" client1 10.77.1.1
	check "down of one" "$lab" down --name "$one"
	check "... leaves nothing" nothing_left "$one"
	check "... and leaves the other alone" reaches "$two" client1 10.77.1.51
}

ending() {
	local sleeper

	{ "$lab" run --name "$two" client1 -- sleep 1000; exit; } 2>/dev/null &
	sleeper=$!
	sleep 0.2
	check "down, with a process in it" "$lab" down --name "$two"
	wait $sleeper 2>/dev/null
	check "... ends the process" test $? -eq 137
	check "... leaves nothing" nothing_left "$two"
	check "down again" "$lab" down --name "$two"
	check "no interface in the machine's own network" test "$(ip -o link show | wc -l)" -eq "$links_before"
}

# An `up` that was killed anywhere.
halves() {
	local delay

	for delay in 0.08 0.12 0.16 0.2 0.3; do
		quiet timeout --foreground -s KILL "$delay" "$lab" up --name "$one" --no-cluster --slaves 4 --clients 4
		quiet "$lab" down --name "$one"
		check "down after ${delay} s of up leaves nothing" nothing_left "$one"
	done
	check "up afterwards" quiet "$lab" up --name "$one" --no-cluster
	rm "$VNAS_LAB_DIR/$one/plan.json"
	check "down without the plan" "$lab" down --name "$one"
	check "... leaves nothing" nothing_left "$one"
}

# Of four that start the same lab at the same time one may win; then four end it.
concurrency() {
	local i won=0 jobs=()

	for i in 1 2 3 4; do
		quiet "$lab" up --name "$one" --no-cluster &
		jobs+=($!)
	done
	for i in "${jobs[@]}"; do
		wait "$i" && won=$((won + 1))
	done
	check "one of four concurrent ups wins" test $won -eq 1
	jobs=()
	for i in 1 2 3 4; do
		"$lab" down --name "$one" &
		jobs+=($!)
	done
	for i in "${jobs[@]}"; do
		check "concurrent down" wait "$i"
	done
	check "... leaves nothing" nothing_left "$one"
}

inline
cutting
running
taps
two_labs
ending
halves
concurrency
exit $failed
