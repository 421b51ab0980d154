/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * tests/unit/golden_hex.h - bytes that must not change, kept as text in tests/golden/
 *
 * GOLDEN_UPDATE=1 in the environment writes the files anew, for review.
 */
#ifndef VNAS_TESTS_UNIT_GOLDEN_HEX_H
#define VNAS_TESTS_UNIT_GOLDEN_HEX_H

#include <check.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { GOLDEN_HEX_WIDTH = 16, GOLDEN_HEX_MAX = 4096 };

static inline FILE *golden_hex_open(const char *name, const char *mode)
{
	const char *srcdir = getenv("srcdir");
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/tests/golden/%s.hex", srcdir ? srcdir : ".", name);
	file = fopen(path, mode);
	ck_assert_msg(file != NULL, "%s: %m (GOLDEN_UPDATE=1 makes it)", path);
	return file;
}

static inline void golden_hex_write(const char *name, const uint8_t *bytes, size_t len)
{
	FILE *file = golden_hex_open(name, "w");

	for (size_t i = 0; i < len; i++)
		fprintf(file, "%02x%c", bytes[i], (i + 1) % GOLDEN_HEX_WIDTH && i + 1 < len ? ' ' : '\n');
	ck_assert_int_eq(fclose(file), 0);
}

/* Return: how many; at most GOLDEN_HEX_MAX */
static inline size_t golden_hex_read(const char *name, uint8_t *bytes)
{
	FILE *file = golden_hex_open(name, "r");
	unsigned int byte;
	size_t len = 0;

	while (len < GOLDEN_HEX_MAX && fscanf(file, "%2x", &byte) == 1)
		bytes[len++] = (uint8_t)byte;
	fclose(file);
	return len;
}

static inline void golden_hex_check(const char *name, const uint8_t *bytes, size_t len)
{
	uint8_t wanted[GOLDEN_HEX_MAX];

	if (getenv("GOLDEN_UPDATE"))
		golden_hex_write(name, bytes, len);
	ck_assert_msg(golden_hex_read(name, wanted) == len, "%s has another length", name);
	ck_assert_mem_eq(bytes, wanted, len);
}

#endif
