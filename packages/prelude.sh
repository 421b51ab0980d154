# SPDX-License-Identifier: GPL-3.0-or-later
# packages/prelude.sh - what ./quickstart and ./check begin with; sourced by bash at the top of the clone
#
# Defines: fail MESSAGE...; step MESSAGE...; need_root; need_debian; build_in DIR [CONFIGURE-OPTION...]

fail() {
	echo "$(basename "$0"): $*" >&2
	exit 1
}

step() {
	printf '\n\033[1m== %s\033[0m\n' "$*"
}

need_root() {
	[ "$(id -u)" = 0 ] || fail "needs root: it installs packages and makes network namespaces; try sudo $0"
}

need_debian() {
	[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] && grep -qs "^ID=debian" /etc/os-release || fail "needs Debian 12 on amd64"
}

# Build below build/DIR; quiet unless it fails.
build_in() {
	local dir=build/$1 log
	shift
	mkdir -p "$dir"
	log=$PWD/$dir/build.log
	if ! {
		[ configure -nt configure.ac ] && [ Makefile.in -nt Makefile.am ] && [ Makefile.in -nt tests/tests.mk ] ||
			autoreconf -fi
		cd "$dir" && { [ -f Makefile ] && [ Makefile -nt ../../Makefile.in ] || ../../configure -q "$@"; } &&
			make -s -j"$(nproc)" ${MAKE_TARGETS:-all}
	} > "$log" 2>&1; then
		tail -n 30 "$log" >&2
		fail "the build in $dir failed; the lines above, or $log, say why"
	fi
	cd - > /dev/null
}
