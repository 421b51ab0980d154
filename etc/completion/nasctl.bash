# SPDX-License-Identifier: GPL-3.0-or-later
#
# Completion of nasctl(8) in bash: /usr/share/bash-completion/completions/nasctl. nasctl itself knows what may follow.

_nasctl() {
	local word=${COMP_WORDS[COMP_CWORD]} candidates
	candidates=$(nasctl complete -- "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2> /dev/null)
	local IFS=$'\n'
	COMPREPLY=($(compgen -W "$candidates" -- "$word"))
	# What is no word of nasctl's is a file's name, mostly.
	[ -n "$candidates" ] || COMPREPLY=($(compgen -f -- "$word"))
}
complete -o filenames -F _nasctl nasctl
