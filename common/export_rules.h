/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/export_rules.h - the clients of an export and their rights, as exports(5) writes them
 *
 *	[-OPTION,...] CLIENT[(OPTION,...)] ...
 *
 * Knows the syntax; whether a client is meant by a rule decides common/exports.h. A client is
 *
 *	host		an address, or a name with at least one letter
 *	network		ADDRESS/BITS, ADDRESS/NETMASK
 *	wildcard	a name with *, ? or [...], which match dots too
 *	netgroup	@NAME
 *	anybody		*
 *
 * and the rules come out in this order, those of a kind in the order they were written: that is their precedence.
 * Options behind a dash are for the clients that follow.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_EXPORT_RULES_H
#define VNAS_COMMON_EXPORT_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXPORT_NAME_MAX = 255, EXPORT_WHY_MAX = 256, EXPORT_NOBODY = 65534 };

struct export_rights {
	bool may_write;
	bool root_squash, all_squash;
	bool secure;	  /* only from ports below 1024 */
	bool manage_gids; /* the server looks up the groups of a user */
	uint32_t anonymous_uid, anonymous_gid;
};

/* In the order of their precedence; exports(5), "Machine Name Formats" */
enum export_client { EXPORT_HOST, EXPORT_NETWORK, EXPORT_WILDCARD, EXPORT_NETGROUP, EXPORT_ANYBODY };

struct export_rule {
	enum export_client client;
	uint8_t address[16];	  /* of a host without a name, or a network; IPv4 is IPv4-mapped */
	unsigned int prefix_bits; /* 128 for a host */
	char name[EXPORT_NAME_MAX + 1]; /* of a host, a wildcard, a netgroup (without the @); else empty */
	struct export_rights rights;
};

/**
 * export_rules_parse() - take a list of clients apart
 * @rules:	out: to be freed by the caller; untouched on failure
 * @why:	out: on failure where (column, from 1) and what is wrong, and what would be right
 *
 * Return: 0; -EINVAL; -ENOMEM
 */
int export_rules_parse(const char *text, struct export_rule **rules, size_t *count, char *why, size_t why_size);

#endif
