/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * common/nasctl_text.h - text that nasctl makes: complaints, and values for people
 *
 * Without memory there is nothing left to do for a command: these functions end the process then.
 *
 * Threads: the only one of its process.
 */
#ifndef VNAS_COMMON_NASCTL_TEXT_H
#define VNAS_COMMON_NASCTL_TEXT_H

#include <jansson.h>
#include <stddef.h>

/* Exit statuses: the command failed; it isn't one. */
enum { NASCTL_FAILED = 1, NASCTL_USAGE = 2 };

/* "nasctl: ..." on standard error. */
void nasctl_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* @count elements and one more, all zero; free() */
void *nasctl_array_new(size_t count, size_t size);

char *nasctl_text_new(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A value as people read it, by the end of its name (admin_table() has the list). The caller's. */
char *nasctl_value_text(const char *name, const json_t *value);

/* "used_bytes" is shown as "used": the value says the unit. The caller's. */
char *nasctl_label_text(const char *name);

/* Text of others, such as file names of clients, which must not control the terminal. The caller's. */
char *nasctl_printable_text(const char *string);

#endif
