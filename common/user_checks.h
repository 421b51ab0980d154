/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/user_checks.h - which names, numbers and passwords users and groups may have
 *
 * The rules of useradd(8), as Debian has them, so that a name means the same in passwd(5), in exports and to Samba.
 *
 * Threads: no shared state; call from anywhere.
 */
#ifndef VNAS_COMMON_USER_CHECKS_H
#define VNAS_COMMON_USER_CHECKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	USER_CHECKS_FIRST_ID = 10000, /* of those that the cluster gives out: beyond what machines give out themselves */
	USER_CHECKS_WHY_MAX = 256,
};

/* Each: 0; -EINVAL, with a sentence in @why. */

/* A small letter or _, then small letters, digits, _ and -, perhaps a $ at the end; 32 characters at most. */
int user_checks_name(const char *name, char why[static USER_CHECKS_WHY_MAX]);

/* Decimal. Neither root's, nor nobody's, nor -1, which in chown(2) names nobody. @out: untouched on failure. */
int user_checks_id(const char *text, uint32_t *out, char why[static USER_CHECKS_WHY_MAX]);

/* As in the fifth field of passwd(5): text without colons and control characters. */
int user_checks_comment(const char *comment, char why[static USER_CHECKS_WHY_MAX]);

/* A hash that crypt(3) takes for strong enough, perhaps with "!" before it. The password itself is none. */
int user_checks_password(const char *hash, char why[static USER_CHECKS_WHY_MAX]);

#endif
