/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/nasctl_password.h - asking an administrator for a password
 *
 * It never leaves nasctl: vnasd gets its hash, as crypt(3) makes it by the method that the system prefers (yescrypt).
 *
 * Threads: the only one of its process.
 */
#ifndef VNAS_COMMON_NASCTL_PASSWORD_H
#define VNAS_COMMON_NASCTL_PASSWORD_H

enum { NASCTL_PASSWORD_MAX = 128 }; /* characters */

/*
 * Have a password typed, twice and unseen; or read a line, if standard input is no terminal. Return: its hash, to be freed; NULL:
 * there is none, or not the same twice, which was said on standard error
 */
char *nasctl_password_ask(void);

#endif
